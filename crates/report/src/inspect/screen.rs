//! An inspection as text.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use entromask_artifact::{Manifest, Output};
use serde_json::Value;

use super::{GlueView, Inspection, ModelView, TargetsView, TokensView, View};
use crate::leaves::leaves;
use crate::nats::{Range, Summary};
use crate::number::{bytes, count, counted, duration, flops, percent, short};
use crate::paint::{Paint, visible};
use crate::passage::Passage;

/// Files that are listed one by one; more are summed up.
const LISTED: usize = 8;
/// Width of the longest bar, in characters.
const BAR: f64 = 36.0;

pub(super) fn render(inspection: &Inspection, paint: Paint) -> String {
    let width = Table::new().width().map(usize::from);
    let mut screen = Screen { out: String::new(), paint, width };
    screen.title(inspection);
    if let Some(manifest) = &inspection.manifest {
        screen.manifest(manifest);
    }
    if let Some(seen) = inspection.looked_at.filter(|seen| seen.rows > 0) {
        screen.heading("looked at");
        screen.line(&seen.words());
    }
    match &inspection.view {
        View::Tokens(view) => screen.tokens(view),
        View::Entropy(view) => screen.entropy(view),
        View::Masks(view) => screen.masks(view),
        View::Targets(view) => screen.targets(view),
        View::Model(view) => screen.model(view),
        View::Glue(view) => screen.glue(view),
    }
    for note in &inspection.notes {
        screen.line(&format!("note: {note}"));
    }
    screen.out.trim_end().to_string()
}

pub(super) struct Screen {
    out: String,
    paint: Paint,
    /// Characters in a line of the terminal, where there is one.
    width: Option<usize>,
}

impl Screen {
    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    pub(super) fn heading(&mut self, text: &str) {
        let heading = self.paint.heading(text);
        let _ = writeln!(self.out, "\n{heading}");
    }

    /// What should not be overlooked.
    pub(super) fn remark(&mut self, text: &str) {
        self.line(&format!("\n  ! {text}"));
    }

    pub(super) fn flat(&mut self, what: &str, values: &Summary) {
        self.remark(&format!("{what} {}", values.flatness()));
    }

    /// Names and values in two columns.
    pub(super) fn pairs(&mut self, pairs: &[(&str, String)]) {
        let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in pairs {
            let name = self.paint.faint(&format!("{name:<width$}"));
            self.line(&format!("  {name}  {}", visible(value)));
        }
    }

    pub(super) fn table<const N: usize>(
        &mut self,
        header: [&str; N],
        right_from: usize,
        rows: Vec<[String; N]>,
    ) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header).add_rows(rows.into_iter().map(|row| row.map(|cell| visible(&cell))));
        for column in table.column_iter_mut().skip(right_from) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for (index, line) in table.to_string().lines().map(str::trim_end).enumerate() {
            // Painted when it is laid out: escape sequences would count as characters.
            let line = if index == 0 { self.paint.faint(line) } else { line.into() };
            self.line(&format!(" {line}"));
        }
    }

    /// Labelled bars.
    pub(super) fn bars(&mut self, bars: &[(String, u64)]) {
        let (most, total) =
            (bars.iter().map(|bar| bar.1).max().unwrap_or(0), bars.iter().map(|bar| bar.1).sum());
        let width = bars.iter().map(|bar| bar.0.chars().count()).max().unwrap_or(0);
        for (label, n) in bars {
            let share = percent(ratio(*n, total));
            let bar = bar(ratio(*n, most) * BAR);
            self.line(&format!("  {label:>width$}  {share:>7}  {bar}"));
        }
    }

    fn title(&mut self, inspection: &Inspection) {
        let part = inspection.part.as_ref().map_or_else(String::new, |part| format!(", part {part}"));
        let title = format!("{} artifact in {}{part}", inspection.kind, inspection.path.display());
        let title = self.paint.heading(&title);
        self.line(&title);
    }

    fn manifest(&mut self, manifest: &Manifest) {
        let cost = &manifest.cost;
        let speed = if cost.seconds > 0.0 { cost.tokens as f64 / cost.seconds } else { 0.0 };
        let cost = [
            Some(duration(cost.seconds)).filter(|_| cost.seconds > 0.0),
            Some(format!("{} tokens", short(cost.tokens as f64))).filter(|_| cost.tokens > 0),
            Some(format!("{} tokens/s", short(speed))).filter(|_| speed > 0.0),
            Some(flops(cost.flops)).filter(|_| cost.flops > 0.0),
            Some(format!("on {}", cost.device)).filter(|_| !cost.device.is_empty()),
            Some(format!("{} memory at most", bytes(cost.peak_memory_bytes)))
                .filter(|_| cost.peak_memory_bytes > 0),
        ];
        self.pairs(&[
            ("key", manifest.key.clone()),
            ("content", manifest.content.clone()),
            ("format", manifest.format.to_string()),
            ("made by", manifest.tool.to_string()),
            ("cost", cost.into_iter().flatten().collect::<Vec<_>>().join(" · ")),
        ]);
        self.values("config", &manifest.config);
        self.inputs(manifest);
        self.outputs(&manifest.outputs);
        let mut stats = manifest.stats.clone();
        // The selection report of masks is shown with them.
        stats.as_object_mut().map(|stats| stats.remove("report"));
        self.values("stats", &stats);
    }

    /// The leaves of a JSON value by their path.
    fn values(&mut self, heading: &str, value: &Value) {
        let leaves = leaves(value);
        if leaves.is_empty() {
            return;
        }
        self.heading(heading);
        let leaves: Vec<_> = leaves.iter().map(|(name, value)| (name.as_str(), rounded(value))).collect();
        self.pairs(&leaves);
    }

    fn inputs(&mut self, manifest: &Manifest) {
        if manifest.inputs.is_empty() {
            return;
        }
        self.heading("inputs");
        let row = |input: &entromask_artifact::Input| {
            let content = input.content.chars().take(12).collect();
            [input.role.clone(), input.kind.clone(), content, input.path.display().to_string()]
        };
        self.table(["role", "kind", "content", "path"], 4, manifest.inputs.iter().map(row).collect());
    }

    fn outputs(&mut self, outputs: &[Output]) {
        self.heading("outputs");
        let rows = |n: Option<u64>| n.map_or_else(String::new, count);
        let line = |output: &Output| [output.file.clone(), rows(output.rows), bytes(output.bytes)];
        let mut lines: Vec<_> = outputs.iter().take(LISTED).map(line).collect();
        if outputs.len() > LISTED {
            let rest = &outputs[LISTED..];
            let total: u64 = rest.iter().map(|output| output.bytes).sum();
            // Files without rows say nothing of them, alone and together.
            let total_rows = rest.iter().filter_map(|output| output.rows).reduce(|a, b| a + b);
            lines.push([format!("… {} more", rest.len()), rows(total_rows), bytes(total)]);
        }
        self.table(["file", "rows", "size"], 1, lines);
    }

    fn tokens(&mut self, view: &TokensView) {
        self.heading("tokens");
        self.pairs(&[
            ("tokens", count(view.tokens)),
            ("special", format!("{} ({})", count(view.special), percent(ratio(view.special, view.tokens)))),
            ("words", count(view.words)),
            ("documents", count(view.docs)),
            ("row length", format!("{:.1} tokens on average, {} at most", view.mean_length, view.longest)),
        ]);
        self.heading("rows by length in tokens");
        let bars: Vec<_> =
            view.lengths.iter().map(|bin| (format!("{}–{}", bin.from, bin.to), bin.rows)).collect();
        self.bars(&bars);
        view.passages.iter().for_each(|passage| self.passage(Some(passage), Range::default()));
    }

    pub(super) fn summaries(&mut self, columns: &[(&str, &Summary)]) {
        let row = |&(name, summary): &(&str, &Summary)| {
            let at = |wanted: u8| summary.percentiles.iter().find(|(percent, _)| *percent == wanted);
            let at = |wanted| at(wanted).map_or_else(String::new, |(_, nats)| format!("{nats:.2}"));
            [
                name.to_string(),
                count(summary.count),
                format!("{:.3}", summary.mean),
                format!("{:.2}", summary.min),
                at(10),
                at(25),
                at(50),
                at(75),
                at(90),
                at(99),
                format!("{:.2}", summary.max),
            ]
        };
        let header =
            ["column", "values", "mean", "min", "10 %", "25 %", "50 %", "75 %", "90 %", "99 %", "max"];
        self.table(header, 1, columns.iter().map(row).collect());
    }

    fn targets(&mut self, view: &TargetsView) {
        self.heading("soft targets");
        self.pairs(&[
            ("masked positions", count(view.positions)),
            ("tokens kept of each", count(view.top_k)),
            (
                "mean probability of the others",
                format!("{:.4} at temperature {}", view.mean_tail, view.temperature),
            ),
        ]);
    }

    fn model(&mut self, view: &ModelView) {
        self.values("model config", &view.config);
        self.heading("weights");
        let types: Vec<_> =
            view.weights.types.iter().map(|(name, n)| format!("{} {name}", count(*n))).collect();
        self.pairs(&[
            (
                "parameters",
                format!("{} ({})", count(view.weights.parameters), short(view.weights.parameters as f64)),
            ),
            ("tensors", format!("{}: {}", view.weights.tensors, types.join(", "))),
        ]);
        let mut pairs = Vec::new();
        if let (Some(step), Some(loss)) = (view.last_step, view.recent_loss) {
            pairs.push(("steps", format!("{} on {}", count(step.step), counted(step.tokens, "token"))));
            pairs.push(("training loss", format!("{loss:.3} nats over the last twentieth of the steps")));
        }
        if let Some(last) = view.validations.last() {
            let (loss, perplexity) = (last.valid_loss, last.valid_perplexity);
            pairs.push(("validation loss", format!("{loss:.3} nats (perplexity {perplexity:.1})")));
            pairs.push(("validation accuracy", percent(last.valid_accuracy)));
            let losses: Vec<_> = view.validations.iter().map(|validation| validation.valid_loss).collect();
            pairs.push(("validation curve", format!("{:.2} {} {loss:.2}", losses[0], sparkline(&losses))));
        }
        if !pairs.is_empty() {
            self.heading("training");
            self.pairs(&pairs);
        }
    }

    fn glue(&mut self, view: &GlueView) {
        self.heading(
            "dev scores in percent, mean ± standard deviation over seeds; floor: the best single answer to all rows",
        );
        let row = |line: super::glue::Line| {
            let estimate = line.estimate;
            [
                line.task.to_string(),
                estimate.name.clone(),
                format!("{:.1}", estimate.floor),
                estimate.shown(),
                estimate.values.len().to_string(),
            ]
        };
        self.table(
            ["task", "metric", "floor", "score", "seeds"],
            2,
            view.lines().into_iter().map(row).collect(),
        );
        view.remarks().iter().for_each(|remark| self.line(remark));
    }

    pub(super) fn passage(&mut self, passage: Option<&Passage>, range: Range) {
        let Some(passage) = passage else { return };
        self.heading(&format!("row {}", passage.row));
        let scored = passage.pieces.iter().any(|piece| piece.entropy.is_some());
        let masked = passage.pieces.iter().any(|piece| piece.masked.is_some());
        let text = self.paint.passage(passage, range, self.width);
        self.line(&text);
        let legend = self.paint.legend(range, scored, masked);
        if !legend.is_empty() {
            self.line(&format!("\n{legend}"));
        }
    }
}

/// A number with many digits, to six of them: what is printed is for reading, `--json` has the rest.
fn rounded(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(number) if value.contains('.') && value.len() > 9 => {
            format!("{number:.5e}").parse().map_or_else(|_| value.into(), |short: f64| short.to_string())
        }
        _ => value.into(),
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A bar of `width` characters, to an eighth of one.
fn bar(width: f64) -> String {
    let eighths = (width * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
    bar
}

/// The values as a line of eight heights, thinned to at most 60.
pub(super) fn sparkline(values: &[f64]) -> String {
    let shown = values.len().min(60);
    let value = |i: usize| values[if shown == 1 { 0 } else { i * (values.len() - 1) / (shown - 1) }];
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let height = |v: f64| if high > low { ((v - low) / (high - low) * 7.0).round() as usize } else { 0 };
    (0..shown).map(|i| ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][height(value(i)).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparklines_have_their_shape() {
        assert_eq!(bar(2.5), "██▌");
        assert_eq!(sparkline(&[10.0, 5.0, 3.0]), "█▃▁");
        assert_eq!(sparkline(&[1.0]), "▁");
        assert_eq!(sparkline(&vec![1.0; 1000]).chars().count(), 60);
        assert_eq!(sparkline(&[]), "");
        assert_eq!(
            ["10.307295171617866", "0.001", "3f2.a", "30522"].map(rounded),
            ["10.3073", "0.001", "3f2.a", "30522"]
        );
    }
}
