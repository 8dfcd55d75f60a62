//! A comparison as text.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, Width, presets};

use crate::number::signed;

use super::{Cell, Comparison, Difference, Line, System};

/// Least width of the verdicts: `difference` between two spaces.
const VERDICT: u16 = 12;

/// A table for each system beside the baseline, not wider than `width`, if that is given. Systems have letters there, since
/// their names may be longer than all else.
pub(super) fn terminal(comparison: &Comparison, width: Option<u16>) -> String {
    let about = format!(
        "scores in percent, mean ± standard deviation over all n seeds of each; diff.: {}",
        caption(&letter(0))
    );
    let systems = 0..comparison.systems.len();
    let legend = systems.clone().map(|system| format!("{}: {}", letter(system), counted(comparison, system)));
    let tables = systems.skip(1).map(|system| table(comparison, system, width).to_string());
    let notes = comparison.notes.iter().map(|note| format!("note: {note}"));
    std::iter::once(about).chain(legend).chain(tables).chain(notes).collect::<Vec<_>>().join("\n")
}

fn table(comparison: &Comparison, system: usize, width: Option<u16>) -> Table {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let short = header([letter(0), letter(system)]).map(|words| words.replace("difference", "diff."));
    table.set_header(short.map(|words| words.replace("bootstrap", "boot.")));
    table.add_rows(comparison.lines.iter().map(|line| row(line, system)));
    for column in table.column_iter_mut().skip(1).take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // Its words are not broken, whatever the others leave.
    if let Some(verdict) = table.column_mut(8) {
        verdict.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(VERDICT)));
    }
    table
}

/// `A` for the baseline; numbers where letters end.
pub(crate) fn letter(system: usize) -> String {
    ('A'..='Z').nth(system).map_or_else(|| (system + 1).to_string(), String::from)
}

/// The same as Markdown.
pub(super) fn markdown(comparison: &Comparison) -> String {
    let about = format!(
        "Scores in percent, mean ± standard deviation over all n seeds of each. Difference: {}.",
        caption(&comparison.systems[0].name)
    );
    let tables = (1..comparison.systems.len()).map(|system| markdown_table(comparison, system));
    let notes: Vec<_> = comparison.notes.iter().map(|note| format!("* {note}")).collect();
    let notes = (!notes.is_empty()).then(|| notes.join("\n"));
    std::iter::once(about).chain(tables).chain(notes).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn markdown_table(comparison: &Comparison, system: usize) -> String {
    let cells =
        |cells: [String; 9]| format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    let head = [
        cells(header([0, system].map(|system| counted(comparison, system)))),
        "|---|--:|--:|--:|--:|--:|--:|--:|---|".into(),
    ];
    let rows = comparison.lines.iter().map(|line| cells(row(line, system)));
    head.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// What the differences and intervals are.
pub(super) fn caption(baseline: &str) -> String {
    format!(
        "mean over the pairs, the seeds that both have, of what each is above {baseline}, with 95 % intervals by t and bootstrap, which is too short where there are few pairs; they cover the chance of the seeds of fine-tuning, not that of the dev rows, nor the seed of pretraining"
    )
}

/// The columns; the names are those of the baseline and of the system beside it.
pub(super) fn header([baseline, system]: [String; 2]) -> [String; 9] {
    let words = |word: &str| word.to_string();
    [
        words("task"),
        words("floor"),
        baseline,
        system,
        words("pairs"),
        words("difference"),
        words("95 %, t"),
        words("95 %, bootstrap"),
        words("verdict"),
    ]
}

/// `name (n = 5)`
pub(super) fn counted(comparison: &Comparison, system: usize) -> String {
    let System { name, seeds, .. } = &comparison.systems[system];
    format!("{name} (n = {})", seeds.len())
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
        of(|difference| signed(difference.mean, 2)),
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
    interval.map_or_else(|| "–".into(), |[low, high]| format!("{} to {}", signed(low, 2), signed(high, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(name: &str) -> Comparison {
        let system = |name: &str| System {
            name: name.into(),
            path: name.into(),
            model: String::new(),
            seeds: vec![1, 2],
        };
        let cell = |difference| Cell { mean: 70.0, std: Some(1.0), seeds: 2, difference };
        let difference = Difference::new(vec![1.25, 1.5]);
        let line = Line {
            name: "average of 8, without WNLI".into(),
            average: true,
            floor: 50.0,
            cells: vec![cell(None), cell(Some(difference))],
        };
        Comparison { systems: vec![system("base"), system(name)], lines: vec![line], notes: vec![] }
    }

    #[test]
    fn tables_are_as_wide_as_the_terminal_whatever_names_are() {
        let name = "enwiki2015-5m/modernbert-mini-mlm-e40/mixed-by-itself-kfold-r3x10-s1/round-3";
        let text = terminal(&comparison(name), Some(80));
        assert!(text.contains(&format!("A: base (n = 2)\nB: {name} (n = 2)\n")), "{text}");
        for words in ["difference", "boot.", " +1.38 "] {
            assert!(text.contains(words), "{words} is broken in {text}");
        }
        let rows = text.lines().skip_while(|line| !line.starts_with('─'));
        assert!(rows.clone().count() > 3 && rows.clone().all(|line| line.chars().count() <= 80), "{text}");
        let whole = terminal(&comparison(name), None);
        assert!(whole.lines().any(|line| line.contains("average of 8, without WNLI")), "{whole}");
    }
}
