//! A comparison as one self-contained HTML page; the plots are inline SVG.

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::{Comparison, Difference, Verdict, text};
use crate::nats::{nice_step, step_decimals};

/// Units of the plot's width.
const WIDTH: f64 = 1000.0;

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    caption: String,
    notes: &'a [String],
    systems: Vec<System>,
}

/// One system beside the baseline.
#[derive(Serialize)]
struct System {
    name: String,
    /// What the plot shows, in words.
    label: String,
    header: [String; 9],
    ticks: Vec<Tick>,
    zero: f64,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Serialize)]
struct Line {
    cells: [String; 9],
    average: bool,
    shown: bool,
    mean: f64,
    t: Option<[f64; 2]>,
    bootstrap: Option<[f64; 2]>,
    seeds: Vec<f64>,
}

/// The page.
pub(super) fn render(comparison: &Comparison) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("compare.html", include_str!("../../templates/compare.html"))?;
    // No template: braces mean something else in it.
    environment
        .add_global("style", Value::from_safe_string(include_str!("../../templates/style.css").into()));
    let page = Page {
        title: comparison.systems.iter().map(|system| system.name.as_str()).collect::<Vec<_>>().join(" · "),
        caption: text::caption(&comparison.systems[0].name),
        notes: &comparison.notes,
        systems: (1..comparison.systems.len()).map(|index| system(comparison, index)).collect(),
    };
    environment.get_template("compare.html")?.render(Serde(&page)).context("failed to make the page")
}

fn system(comparison: &Comparison, index: usize) -> System {
    let scale =
        Scale::around(comparison.lines.iter().filter_map(|line| line.cells[index].difference.as_ref()));
    let lines: Vec<_> = comparison
        .lines
        .iter()
        .filter_map(|line| {
            let difference = line.cells[index].difference.as_ref()?;
            let both = |interval: [f64; 2]| interval.map(|value| scale.place(value));
            Some(Line {
                cells: text::row(line, index),
                average: line.average,
                shown: matches!(difference.verdict(), Verdict::Better | Verdict::Worse),
                mean: scale.place(difference.mean),
                t: difference.t.map(both),
                bootstrap: difference.bootstrap.map(both),
                seeds: difference.values.iter().map(|&value| scale.place(value)).collect(),
            })
        })
        .collect();
    let shown = lines.iter().filter(|line| line.shown).count();
    System {
        name: comparison.systems[index].name.clone(),
        label: format!("A difference is shown on {shown} of {} lines", lines.len()),
        header: text::header([0, index].map(|system| text::counted(comparison, system))),
        ticks: scale.ticks(),
        zero: scale.place(0.0),
        lines,
    }
}

/// Differences on the width of the plot.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Room for 0, all seeds and all intervals.
    fn around<'a>(differences: impl Iterator<Item = &'a Difference>) -> Self {
        let (mut low, mut high) = (0.0f64, 0.0f64);
        for difference in differences {
            let intervals = [difference.t, difference.bootstrap].into_iter().flatten().flatten();
            for value in difference.values.iter().copied().chain(intervals) {
                (low, high) = (low.min(value), high.max(value));
            }
        }
        let step = nice_step((high - low).max(0.1) / 6.0);
        Self { low: (low / step).floor() * step, high: ((high / step).ceil() * step).max(low + step), step }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        (share * WIDTH * 10.0).round() / 10.0
    }

    fn ticks(&self) -> Vec<Tick> {
        let n = ((self.high - self.low) / self.step).round() as i64;
        let decimals = step_decimals(self.step);
        let tick = |index: i64| {
            let value = self.low + index as f64 * self.step;
            // No minus before a zero that rounding left.
            let value = if value.abs() < self.step / 2.0 { 0.0 } else { value };
            Tick {
                at: self.place(value),
                label: format!("{value:+.decimals$}").replace("+0", if value == 0.0 { "0" } else { "+0" }),
            }
        };
        (0..=n).map(tick).collect()
    }
}
