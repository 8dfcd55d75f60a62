//! Plots as data for the page: paths in a square of [`SIDE`] units, and labels at percentages.
//!
//! The page stretches the square to whatever room there is; labels are text beside it, so that they keep their size.

use std::fmt::Write;

use serde::Serialize;

use crate::nats::nice_step;
use crate::number::{self, short};

/// Side of the square that paths are drawn in.
const SIDE: f64 = 1000.0;
/// Points that a line is thinned to.
const POINTS: usize = 240;

/// Where values lie on one side of the plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

/// A label beside the plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Tick {
    /// Percent of the side's length.
    pub at: f64,
    pub label: String,
}

/// One line of the plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// Class that decides how it looks: `train`, `valid`, `band`, `dots`.
    pub class: &'static str,
    /// SVG path.
    pub path: String,
}

/// One plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Plot {
    pub id: &'static str,
    pub title: &'static str,
    /// What the plot shows, in words, for who does not see it.
    pub label: String,
    pub lines: Vec<Line>,
    pub x: Vec<Tick>,
    pub y: Vec<Tick>,
    /// Vertical lines, e.g. where a round begins.
    pub marks: Vec<Tick>,
    /// Labels of the spans between them.
    pub spans: Vec<Tick>,
    /// Horizontal lines.
    pub guides: Vec<Tick>,
}

impl Scale {
    /// From 0 to a little above the largest value.
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let high = values.into_iter().fold(0.0, f64::max);
        Self { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, log: false }
    }

    /// Exactly between two values.
    pub fn between(low: f64, high: f64) -> Self {
        Self { low, high, log: false }
    }

    /// Around the values, to round numbers.
    pub fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extremes(values);
        let step = nice_step((high - low).max(0.1) / 5.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step + 1e-9, log: false }
    }

    /// Around positive values, to powers of ten, logarithmically.
    pub fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extremes(values.into_iter().map(|value| value.max(1e-12).log10()));
        Self { low: low.floor(), high: high.ceil().max(low.floor() + 1.0), log: true }
    }

    /// The place of a value, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-12).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Percent of the side's length.
    pub fn percent(&self, value: f64) -> f64 {
        (self.place(value) * 10_000.0).round() / 100.0
    }

    /// About `wanted` round labels.
    pub fn ticks(&self, wanted: usize, format: impl Fn(f64) -> String) -> Vec<Tick> {
        let step = if self.log { 1.0 } else { nice_step((self.high - self.low) / wanted as f64 * 0.999) };
        let first = (self.low / step - 1e-6).ceil() as i64;
        let last = (self.high / step + 1e-6).floor() as i64;
        let tick = |i: i64| {
            let value = if self.log { 10f64.powi(i as i32) } else { i as f64 * step };
            Tick { at: self.percent(value), label: format(value) }
        };
        (first..=last).map(tick).collect()
    }
}

/// A line through the points, thinned to [`POINTS`] means.
pub(crate) fn line(class: &'static str, points: &[(f64, f64)], x: Scale, y: Scale) -> Line {
    let mut path = String::new();
    for (index, (px, py)) in thinned(points).iter().map(mean).enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{}", place(px, py, x, y));
    }
    Line { class, path }
}

/// The range of the points, thinned like the line.
pub(crate) fn band(points: &[(f64, f64)], x: Scale, y: Scale) -> Line {
    let groups = thinned(points);
    let edge = |group: &&[(f64, f64)], choose: fn(f64, f64) -> f64| {
        let value = group.iter().map(|point| point.1).reduce(choose).unwrap_or(0.0);
        place(mean(group).0, value, x, y)
    };
    let upper = groups.iter().map(|group| edge(group, f64::max));
    let lower = groups.iter().rev().map(|group| edge(group, f64::min));
    let corners: Vec<_> = upper.chain(lower).collect();
    let path = if corners.is_empty() { String::new() } else { format!("M{}Z", corners.join("L")) };
    Line { class: "band", path }
}

/// A dot at each point: lines without length, which round caps make visible and undistorted.
pub(crate) fn dots(points: &[(f64, f64)], x: Scale, y: Scale) -> Line {
    let dot = |&(px, py): &(f64, f64)| format!("M{}h0", place(px, py, x, y));
    Line { class: "dots", path: points.iter().map(dot).collect() }
}

/// Bars of equal width, as shares of the highest place.
pub(crate) fn bars(class: &'static str, values: &[f64], y: Scale) -> Line {
    let width = SIDE / values.len().max(1) as f64;
    let bar = |(index, &value): (usize, &f64)| {
        let (left, height) = (index as f64 * width, y.place(value) * SIDE);
        format!("M{:.1} {SIDE}V{:.1}H{:.1}V{SIDE}Z", left + width * 0.06, SIDE - height, left + width * 0.94)
    };
    Line { class, path: values.iter().enumerate().map(bar).collect() }
}

/// The outline of bars of equal width.
pub(crate) fn steps(class: &'static str, values: &[f64], y: Scale) -> Line {
    let width = SIDE / values.len().max(1) as f64;
    let step = |(index, &value): (usize, &f64)| {
        let top = SIDE - y.place(value) * SIDE;
        format!("V{top:.1}H{:.1}", (index + 1) as f64 * width)
    };
    let path: String = values.iter().enumerate().map(step).collect();
    Line { class, path: format!("M0 {SIDE}{path}V{SIDE}") }
}

/// A round number on an axis, without a break.
pub(crate) fn on_axis(value: f64) -> String {
    number::on_axis(value).replace(' ', "\u{a0}")
}

/// A large number in a sentence: `10 k`, not `10.0 k`, and without a break.
pub(crate) fn large(value: f64) -> String {
    short(value).replace(".0 ", " ").replace(' ', "\u{a0}")
}

/// A number without needless decimals.
pub(crate) fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn place(px: f64, py: f64, x: Scale, y: Scale) -> String {
    format!("{:.1} {:.1}", x.place(px) * SIDE, SIDE - y.place(py) * SIDE)
}

fn thinned(points: &[(f64, f64)]) -> Vec<&[(f64, f64)]> {
    points.chunks(points.len().div_ceil(POINTS).max(1)).collect()
}

fn mean(group: &&[(f64, f64)]) -> (f64, f64) {
    let n = group.len() as f64;
    (group.iter().map(|point| point.0).sum::<f64>() / n, group.iter().map(|point| point.1).sum::<f64>() / n)
}

fn extremes(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        let scale = Scale::around([6.3, 10.31]);
        let labels: Vec<_> =
            scale.ticks(5, |value| format!("{value}")).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["6", "7", "8", "9", "10", "11"]);
        assert!(scale.percent(6.0).abs() < 1e-9);
        let log = Scale::log([420.0, 30_000.0]);
        let labels: Vec<_> =
            log.ticks(5, |value| format!("{value}")).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["100", "1000", "10000", "100000"]);
    }

    #[test]
    fn labels_tell_the_steps_apart() {
        let labels = |scale: Scale, wanted, format: fn(f64) -> String| {
            scale.ticks(wanted, format).into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        let steps = labels(Scale::from_zero([1700.0]), 7, on_axis);
        assert_eq!(steps[3..], ["750", "1\u{a0}k", "1.25\u{a0}k", "1.5\u{a0}k"]);
        assert_eq!(labels(Scale::between(6.0, 6.1), 5, plain)[..3], ["6", "6.02", "6.04"]);
        assert_eq!(labels(Scale::between(0.0, 0.1), 4, plain)[1..3], ["0.025", "0.05"]);
    }

    #[test]
    fn degenerate_values_make_finite_paths() {
        for values in [vec![], vec![5.0], vec![f64::NAN, 1.0]] {
            let (x, y) = (Scale::from_zero(values.clone()), Scale::around(values.clone()));
            let points: Vec<_> = values.iter().map(|&value| (value, value)).collect();
            let path = line("train", &points[..points.len().min(1)], x, y).path;
            assert!(!path.contains("inf"), "{path}");
            assert!(!x.ticks(4, |value| value.to_string()).is_empty());
        }
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_ends() {
        let points: Vec<_> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        let (x, y) = (Scale::from_zero([10_000.0]), Scale::from_zero([6.0]));
        let path = line("train", &points, x, y).path;
        assert!(path.matches('L').count() < POINTS && path.starts_with('M'));
        assert!(band(&points, x, y).path.ends_with('Z'));
        assert_eq!(dots(&points[..2], x, y).path, "M0.0 1000.0h0M0.1 833.3h0");
    }
}
