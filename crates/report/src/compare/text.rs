//! A comparison as text.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};

use super::{Cell, Comparison, Difference, Line, System};

/// A table for the terminal for each system beside the baseline.
pub(super) fn terminal(comparison: &Comparison) -> String {
    let about = format!(
        "scores in percent, mean ± standard deviation over all n seeds of each; difference: {}",
        caption(comparison)
    );
    let tables = (1..comparison.systems.len()).map(|system| table(comparison, system).to_string());
    let notes = comparison.notes.iter().map(|note| format!("note: {note}"));
    std::iter::once(about).chain(tables).chain(notes).collect::<Vec<_>>().join("\n")
}

fn table(comparison: &Comparison, system: usize) -> Table {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header(comparison, system));
    table.add_rows(comparison.lines.iter().map(|line| row(line, system)));
    for column in table.column_iter_mut().skip(1).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The same as Markdown.
pub(super) fn markdown(comparison: &Comparison) -> String {
    let about = format!(
        "Scores in percent, mean ± standard deviation over all n seeds of each. Difference: {}.",
        caption(comparison)
    );
    let tables = (1..comparison.systems.len()).map(|system| markdown_table(comparison, system));
    let notes: Vec<_> = comparison.notes.iter().map(|note| format!("* {note}")).collect();
    let notes = (!notes.is_empty()).then(|| notes.join("\n"));
    std::iter::once(about).chain(tables).chain(notes).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn markdown_table(comparison: &Comparison, system: usize) -> String {
    let cells =
        |cells: [String; 9]| format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    let head = [cells(header(comparison, system)), "|---|--:|--:|--:|--:|--:|--:|--:|---|".into()];
    let rows = comparison.lines.iter().map(|line| cells(row(line, system)));
    head.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// What the differences and intervals are.
pub(super) fn caption(comparison: &Comparison) -> String {
    format!(
        "mean over the pairs, the seeds that both have, of what each is above {}, with 95 % intervals by t and bootstrap; they cover the chance of the seeds of fine-tuning, not that of the dev rows, nor the seed of pretraining",
        comparison.systems[0].name
    )
}

pub(super) fn header(comparison: &Comparison, system: usize) -> [String; 9] {
    let name = |index: usize| {
        let System { name, seeds, .. } = &comparison.systems[index];
        format!("{name} (n = {})", seeds.len())
    };
    let words = |word: &str| word.to_string();
    [
        words("task"),
        words("floor"),
        name(0),
        name(system),
        words("pairs"),
        words("difference"),
        words("95 %, t"),
        words("95 %, bootstrap"),
        words("verdict"),
    ]
}

pub(super) fn row(line: &Line, system: usize) -> [String; 9] {
    let difference = line.cells[system].difference.as_ref();
    let of = |shown: fn(&Difference) -> String| difference.map_or_else(String::new, shown);
    [
        line.name.clone(),
        format!("{:.1}", line.floor),
        score(&line.cells[0]),
        score(&line.cells[system]),
        of(|difference| difference.values.len().to_string()),
        of(|difference| format!("{:+.2}", difference.mean)),
        of(|difference| interval(difference.t)),
        of(|difference| interval(difference.bootstrap)),
        of(|difference| difference.verdict().words().to_string()),
    ]
}

fn score(cell: &Cell) -> String {
    match cell.std {
        Some(std) => format!("{:.1} ± {std:.1}", cell.mean),
        None => format!("{:.1}", cell.mean),
    }
}

fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(|| "–".into(), |[low, high]| format!("{low:+.2} to {high:+.2}"))
}
