//! A report as Markdown.

use super::document::{Cell, Document, Figure, Section, Table};

/// The text; figures are files beside it.
pub(super) fn render(document: &Document) -> String {
    let head = [format!("# {}", document.title)];
    let sections = document.sections.iter().flat_map(section);
    head.into_iter().chain(document.lead.iter().cloned()).chain(sections).collect::<Vec<_>>().join("\n\n")
        + "\n"
}

fn section(section: &Section) -> Vec<String> {
    let mut parts = vec![format!("## {}", section.title)];
    parts.extend(section.notes.iter().cloned());
    parts.extend(section.tables.iter().map(table));
    parts.extend(section.figures.iter().flat_map(figure));
    parts
}

fn figure(figure: &Figure) -> impl Iterator<Item = String> {
    let image = format!("![{}]({})", figure.alt, figure.file);
    [image, figure.caption.clone()].into_iter().filter(|part| !part.is_empty())
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
    let text = cell.text.replace('|', "\\|");
    match (cell.code, cell.strong) {
        (true, _) => format!("`{text}`"),
        (_, true) => format!("**{text}**"),
        _ => text,
    }
}
