//! A report as Markdown.

use super::document::{Cell, Document, Figure, Section, Table};
use super::inline::{self, Part};

/// The text; figures are files beside it.
pub(super) fn render(document: &Document) -> String {
    let head = [format!("# {}", heading(&document.title))];
    let lead = document.lead.iter().map(|text| paragraph(text));
    let sections = document.sections.iter().flat_map(section);
    head.into_iter().chain(lead).chain(sections).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn section(section: &Section) -> Vec<String> {
    let mut parts = vec![format!("## {}", heading(&section.title))];
    parts.extend(section.notes.iter().map(|text| paragraph(text)));
    parts.extend(section.tables.iter().map(table));
    parts.extend(section.figures.iter().flat_map(figure));
    parts
}

fn figure(figure: &Figure) -> impl Iterator<Item = String> {
    let image = format!("![{}]({})", plain(&figure.alt), target(&figure.file));
    [image, paragraph(&figure.caption)].into_iter().filter(|part| !part.is_empty())
}

/// Where an image is: blanks end a name that has no angles around it.
fn target(file: &str) -> String {
    if file.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c)) {
        return file.into();
    }
    let escaped = |c: char| if "\\<>&`".contains(c) { format!("\\{c}") } else { c.into() };
    format!("<{}>", file.chars().map(escaped).collect::<String>())
}

fn table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let rule = table.numeric.iter().map(|numeric| if *numeric { "--:" } else { "---" });
    let head = [
        line(table.header.iter().map(ToString::to_string).collect()),
        format!("|{}|", rule.collect::<Vec<_>>().join("|")),
    ];
    let rows = table.rows.iter().map(|row| line(row.iter().map(cell).collect()));
    head.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

fn cell(cell: &Cell) -> String {
    match (cell.code, cell.strong) {
        // Tables are taken apart before code is looked for.
        (true, _) => inline::code(&cell.text).replace('|', "\\|"),
        (_, true) => format!("**{}**", plain(&cell.text)),
        _ => plain(&cell.text),
    }
}

/// A line, of which a `#` at the end would be no part.
fn heading(text: &str) -> String {
    plain(&text.split_whitespace().collect::<Vec<_>>().join(" ")).replace('#', "\\#")
}

/// Code stays code; nothing else in it is markup.
fn paragraph(text: &str) -> String {
    let shown = |part: Part<'_>| match part {
        Part::Plain(text) => plain(text),
        Part::Code(text) => inline::code(text),
    };
    let text: String = inline::parts(text).into_iter().map(shown).collect();
    text.lines().map(inert).collect::<Vec<_>>().join("\n")
}

/// Text that means nothing but itself. An underscore within a word does not.
fn plain(text: &str) -> String {
    const MARKUP: &str = "\\`*_[]<>&|~";
    let (mut shown, mut before) = (String::new(), ' ');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_inner =
            c == '_' && before.is_alphanumeric() && rest.peek().is_some_and(|c| c.is_alphanumeric());
        if MARKUP.contains(c) && !is_inner {
            shown.push('\\');
        }
        shown.push(c);
        before = c;
    }
    shown
}

/// A line that begins no list, heading or rule.
fn inert(line: &str) -> String {
    let line = line.trim_start();
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let behind = line[digits..].strip_prefix(['.', ')']);
    let is_numbered = digits > 0 && behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    match line.chars().next() {
        Some('#' | '-' | '+' | '=') => format!("\\{line}"),
        _ if is_numbered => format!("{}\\{}", &line[..digits], &line[digits..]),
        _ => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use pulldown_cmark::{Event, Options, Parser, Tag};

    use super::*;

    /// What is no paragraph or heading of plain text and code.
    fn markup(markdown: &str) -> Vec<Event<'_>> {
        let is_markup = |event: &Event<'_>| {
            let is_block =
                matches!(event, Event::Start(Tag::Paragraph | Tag::Heading { .. }) | Event::End(_));
            !is_block && !matches!(event, Event::Text(_) | Event::Code(_) | Event::SoftBreak)
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
        Parser::new_ext(markdown, options).filter(is_markup).collect()
    }

    fn words(markdown: &str) -> String {
        let words = Parser::new_ext(markdown, Options::ENABLE_TABLES).filter_map(|event| match event {
            Event::Text(text) => Some(text.to_string()),
            Event::Code(text) => Some(format!("`{text}`")),
            Event::SoftBreak => Some("\n".into()),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn what_users_write_is_no_markup() {
        let texts = [
            "<script>alert(1)</script> & &lt;b&gt;",
            "*a* **b** _c_ snake_case ~~d~~ it`s",
            "![x](y.svg) [z](javascript:x) <https://example.org>",
            "# a\n- b\n1. c\n> d\n+ e\n===\n2) f\n| g | h |\n|---|---|",
            "a\\*b",
        ];
        for text in texts {
            assert_eq!(
                (words(&paragraph(text)).as_str(), markup(&paragraph(text))),
                (text, vec![]),
                "{text}"
            );
        }
        let title = format!("# {}", heading("a *b* <c>\n## d #"));
        assert_eq!((words(&title).as_str(), markup(&title).len()), ("a *b* <c> ## d #", 0));
        assert_eq!(paragraph("Under `valid_fraction`, a < b"), "Under `valid_fraction`, a \\< b");
        assert_eq!(paragraph("at valid_fraction = 0.5"), "at valid_fraction = 0.5");
    }

    #[test]
    fn images_are_found_by_any_name() {
        for file in ["loss.svg", "my grid-tokens.svg", "a<b>&amp;(c).svg", "a\\b `c`.svg"] {
            let figure = Figure {
                file: file.into(),
                svg: String::new(),
                alt: "a ] *b*".into(),
                caption: String::new(),
            };
            let text = super::figure(&figure).collect::<String>();
            let found = Parser::new(&text).find_map(|event| match event {
                Event::Start(Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
                _ => None,
            });
            assert_eq!((found.as_deref(), words(&text).as_str()), (Some(file), "a ] *b*"), "{text}");
        }
    }

    #[test]
    fn code_in_a_table_may_have_any_sign() {
        let row =
            |cells: Vec<Cell>| Table { header: vec!["a", "b"], numeric: vec![false; 2], rows: vec![cells] };
        let text = table(&row(vec![Cell::code("x|y`z"), "a|b `c`".into()]));
        assert_eq!(words(&text), "ab`x|y`z`a|b `c`", "{text}");
    }
}
