//! A Markdown document of the project as one self-contained HTML page, in the style of the reports.
//!
//! Headings have the names that GitHub gives them, so that links within the document work in both. A link to a document
//! that has a page beside it leads to that page. Plots are inlined. There is no script, and raw HTML is shown, not obeyed.

mod headings;
mod images;
mod links;

use std::path::Path;

use anyhow::Context;
use entromask_cli::OutputFile;
use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use serde::Serialize;

use crate::report::page;

/// A page for its template.
#[derive(Serialize)]
struct Page {
    title: String,
    /// What comes before the first headline of the second level, and what follows each.
    parts: Vec<Part>,
}

/// A headline and what it is above of.
#[derive(Serialize)]
struct Part {
    /// The headline's name; none of what comes first.
    id: Option<String>,
    html: String,
}

/// Writes the page of the document `file` to `out`. Links stay relative to the document's folder, so the page belongs there.
///
/// # Errors
/// A [`Fault`] of class input if the document or an image cannot be read, or a link leads to a heading that is not there;
/// of class usage if the page cannot be written.
pub fn write(file: &Path, out: &Path) -> anyhow::Result<()> {
    if is_same(out, file) {
        return Err(Fault::usage(format!("{}: the page would replace the document", out.display()))
            .remedy("choose another --out")
            .into());
    }
    let text = fs::read_to_string(file).map_err(|error| {
        Fault::input(unreadable(file, &error)).remedy("name a Markdown file, e.g. docs/results.md")
    })?;
    let page =
        render(&text, file, out).with_context(|| format!("failed to make a page of {}", file.display()))?;
    OutputFile::create(out)?.publish(page.as_bytes())
}

/// By whatever names.
fn is_same(out: &Path, file: &Path) -> bool {
    let [out_place, file_place] = [out, file].map(|path| path.canonicalize().ok());
    out == file || (out_place.is_some() && out_place == file_place)
}

fn render(text: &str, file: &Path, out: &Path) -> anyhow::Result<String> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut events: Vec<_> = Parser::new_ext(text, Options::ENABLE_TABLES).map(shown).collect();
    let headings = headings::name(&mut events);
    links::follow(&mut events, &headings, folder, out)?;
    let events = images::inline(events, folder)?;
    let title = headings.first().map_or_else(|| file.display().to_string(), |heading| heading.text.clone());
    page::fill("prose.html", &Page { title, parts: parts(events) })
}

/// Raw HTML as it is written; a comment is no text.
fn shown(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) if text.trim_start().starts_with("<!--") => {
            Event::Text("".into())
        }
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        event => event,
    }
}

fn parts(events: Vec<Event<'_>>) -> Vec<Part> {
    let mut parts: Vec<(Option<String>, Vec<Event<'_>>)> = vec![(None, vec![])];
    for event in events {
        if let Event::Start(Tag::Heading { level: HeadingLevel::H2, id, .. }) = &event {
            parts.push((id.as_ref().map(ToString::to_string), vec![]));
        }
        parts.last_mut().expect("there is a first part").1.push(event);
    }
    parts.into_iter().map(|(id, events)| Part { id, html: as_html(events) }).collect()
}

fn as_html(events: Vec<Event<'_>>) -> String {
    let mut text = String::new();
    html::push_html(&mut text, events.into_iter().map(unbroken).flat_map(scrolled));
    text
}

/// Commands are not broken within a flag.
fn unbroken(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Code(text) if text.contains(" --") => {
            Event::InlineHtml(format!("<code>{}</code>", page::words(&text)).into())
        }
        event => event,
    }
}

/// A wide table can be moved by itself.
fn scrolled(event: Event<'_>) -> impl Iterator<Item = Event<'_>> {
    let (before, after) = match &event {
        Event::Start(Tag::Table(_)) => (Some("<div class=\"scroll\">\n"), None),
        Event::End(TagEnd::Table) => (None, Some("</div>\n")),
        _ => (None, None),
    };
    let html = |text: &'static str| Event::Html(text.into());
    before.map(html).into_iter().chain([event]).chain(after.map(html))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_html_is_shown_comments_are_not_and_flags_are_whole() -> anyhow::Result<()> {
        let text = "# T\n\n<!-- check: x -->\n\n<script>alert(1)</script>\n\na <b>c</b>, `x --set a`\n\n## One\n\n## Two\n\n| a |\n|--:|\n| 1 |\n";
        let page = render(text, Path::new("x.md"), Path::new("x.html"))?;
        assert!(!page.contains("check: x") && !page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("a &lt;b&gt;c&lt;/b&gt;"), "{page}");
        assert!(page.contains("<code><span>x</span> <span>--set</span> <span>a</span></code>"), "{page}");
        assert_eq!((page.matches("<section").count(), page.matches("</section>").count()), (2, 2));
        assert!(
            page.contains("<div class=\"scroll\">\n<table>") && page.contains("</table>\n</div>"),
            "{page}"
        );
        Ok(())
    }
}
