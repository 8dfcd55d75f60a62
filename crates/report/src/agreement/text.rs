//! An agreement as text.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};

use super::statistics::TOP;
use super::{Agreement, Other, Shift, Shifts, Statistics};
use crate::compare::letter;
use crate::number::{count, counted, percent, signed};
use crate::paint::visible;

/// Measures that are shares, not nats.
const SHARES: [&str; 2] = ["margin", "normalized"];

/// A name and one value for each measure.
pub(super) type Line = (String, Vec<String>);

/// Two tables for each scoring beside the reference, not wider than `width`, if that is given. Scorings have letters there,
/// since their names may be longer than all else.
pub(super) fn terminal(agreement: &Agreement, width: Option<u16>) -> String {
    let mut lines = vec![format!("values in {}", caption(agreement, &letter(0))), looked_at(agreement)];
    let names = agreement.scorings.iter().map(|scoring| &scoring.name).enumerate();
    lines.extend(names.map(|(index, name)| format!("{}: {name}", letter(index))));
    for (index, other) in agreement.others.iter().enumerate() {
        let names = [letter(0), letter(index + 1)];
        lines.push(format!("\n{}", table(&header(&names, other), &statistics(&names, other), width)));
        if let Some(about) = about_shifts(&other.shifts) {
            lines.push(format!("\n{about}"));
            let rows: Vec<_> =
                shifts(&other.shifts).into_iter().map(|(token, row)| (visible(&token), row)).collect();
            lines.push(table(&shift_header(&names), &rows, width));
        }
    }
    lines.extend(agreement.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// The same as Markdown.
pub(super) fn markdown(agreement: &Agreement) -> String {
    let reference = &agreement.scorings[0].name;
    let mut blocks = vec![format!("Values in {}; {}.", caption(agreement, reference), looked_at(agreement))];
    for (scoring, other) in agreement.scorings[1..].iter().zip(&agreement.others) {
        let names = [reference.clone(), scoring.name.clone()];
        blocks.push(markdown_table(&header(&names, other), &statistics(&names, other)));
        if let Some(about) = about_shifts(&other.shifts) {
            blocks.push(format!("The {about}:"));
            blocks.push(markdown_table(&shift_header(&names), &shifts(&other.shifts)));
        }
    }
    let notes: Vec<_> = agreement.notes.iter().map(|note| format!("* {note}")).collect();
    blocks.extend((!notes.is_empty()).then(|| notes.join("\n")));
    blocks.join("\n\n") + "\n"
}

/// What the numbers are, after "values in".
pub(super) fn caption(agreement: &Agreement, reference: &str) -> String {
    let measures = agreement.others.iter().flat_map(|other| &other.measures);
    let shares = measures.map(|of| of.measure.as_str()).any(|name| SHARES.contains(&name));
    format!(
        "nats over the positions that both scored{}; differences: how much each is above {reference}; rank correlation: Spearman's; \
         top {1:.0} %: share of the tokens most uncertain by the one that are so by the other, too, by chance {1:.0} %; in rows: \
         mean over the rows, in which masks are chosen",
        if shares { " (margin and normalized have no unit)" } else { "" },
        100.0 * TOP,
    )
}

/// `looked at 50,000 of 200,000 rows, 1 of 4 parts`
pub(super) fn looked_at(agreement: &Agreement) -> String {
    format!("looked at {}", agreement.looked_at.words())
}

/// The columns of [`statistics`].
pub(super) fn header([reference, other]: &[String; 2], of: &Other) -> Line {
    (format!("{other} against {reference}"), of.measures.iter().map(|of| of.measure.clone()).collect())
}

/// Line by line what is known of each measure.
pub(super) fn statistics([reference, other]: &[String; 2], of: &Other) -> Vec<Line> {
    let line = |name: &str, value: &dyn Fn(&Statistics) -> String| {
        (name.to_string(), of.measures.iter().map(value).collect())
    };
    let level = |of: &Statistics, side: usize| format!("{:.3} ± {:.3}", of.means[side], of.stds[side]);
    let deviation = "mean ± standard deviation";
    let top = format!("top {:.0} %", 100.0 * TOP);
    vec![
        line("positions", &|of| count(of.positions)),
        line(&format!("{reference}: {deviation}"), &|of| level(of, 0)),
        line(&format!("{other}: {deviation}"), &|of| level(of, 1)),
        line("difference: mean", &|of| signed(of.difference, 3)),
        line("absolute difference: mean", &|of| format!("{:.3}", of.absolute_mean)),
        line("absolute difference: 95th percentile", &|of| format!("{:.3}", of.absolute_p95)),
        line("absolute difference: largest", &|of| format!("{:.3}", of.absolute_max)),
        line("rank correlation", &|of| correlation(of.spearman)),
        line("rank correlation in rows", &|of| correlation(of.spearman_in_rows)),
        line(&format!("{top} in common"), &|of| percent(of.top)),
        line(&format!("{top} in common in rows"), &|of| percent(of.top_in_rows)),
    ]
}

/// What [`shifts`] are; nothing if there are none.
pub(super) fn about_shifts(shifts: &Shifts) -> Option<String> {
    let times = counted(shifts.min_count, "time");
    let about =
        format!("tokens whose mean entropy differs most (nats; those that both scored at least {times})");
    (!shifts.above.is_empty()).then_some(about)
}

/// The columns of [`shifts`].
pub(super) fn shift_header([reference, other]: &[String; 2]) -> Line {
    let columns = [reference.clone(), other.clone(), "difference".into(), "count".into()];
    ("token".into(), columns.to_vec())
}

/// A line for each token, from the highest difference to the lowest, with an ellipsis for those in between.
pub(super) fn shifts(shifts: &Shifts) -> Vec<Line> {
    let line = |shift: &Shift| {
        let [reference, other] = shift.means.map(|mean| format!("{mean:.3}"));
        (shift.token.clone(), vec![reference, other, signed(shift.difference, 3), count(shift.count)])
    };
    let shown = shifts.above.len() + shifts.below.len();
    let between = (shifts.tokens > shown as u64).then(|| ("…".to_string(), vec![String::new(); 4]));
    let above = shifts.above.iter().map(line);
    above.chain(between).chain(shifts.below.iter().map(line)).collect()
}

fn correlation(found: Option<f64>) -> String {
    found.map_or_else(|| "undefined".into(), |rank| format!("{rank:.3}"))
}

fn table(header: &Line, lines: &[Line], width: Option<u16>) -> String {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let cells = |(name, values): &Line| {
        std::iter::once(name.clone()).chain(values.iter().cloned()).collect::<Vec<_>>()
    };
    table.set_header(cells(header)).add_rows(lines.iter().map(cells));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

fn markdown_table(header: &Line, lines: &[Line]) -> String {
    let row = |(name, values): &Line| {
        let cells = std::iter::once(name).chain(values).map(|cell| escaped(cell)).collect::<Vec<_>>();
        format!("| {} |", cells.join(" | "))
    };
    let rule = format!("|---|{}", "--:|".repeat(header.1.len()));
    [row(header), rule].into_iter().chain(lines.iter().map(row)).collect::<Vec<_>>().join("\n")
}

/// Tokens may be what Markdown has a meaning for.
fn escaped(cell: &str) -> String {
    let special = |letter: char| "\\`*_|<>[]~&".contains(letter);
    visible(cell)
        .chars()
        .flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_mean_nothing_in_markdown() {
        let line = ("a|b_*".to_string(), vec!["<s>".to_string()]);
        let text = markdown_table(&line, &[]);
        assert_eq!(text, "| a\\|b\\_\\* | \\<s\\> |\n|---|--:|");
    }
}
