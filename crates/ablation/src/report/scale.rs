//! The horizontal axis of a plot: where a value lies, and which values are named.

use entromask_report::nats::nice_step;
use entromask_report::number::on_axis;

use super::curve::Axis;
use super::plot::Curve;

/// So many times as long as the shortest curve the longest must be for the axis to be logarithmic: less of a linear one than
/// a quarter would be left to the shortest then.
const SEVERAL: f64 = 4.0;
/// How many steps a linear axis has at most.
const STEPS: f64 = 7.0;
/// Least distance between two named values, as a share of the axis: a label's width.
const APART: f64 = 0.06;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86400.0;
/// Round times up to a day, in seconds.
const CLOCK: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 30.0, MINUTE, 120.0, 300.0, 600.0, 1800.0, HOUR, 7200.0, 18000.0, 43200.0, DAY,
    172_800.0,
];

/// What the horizontal axis shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    axis: Axis,
    /// Where it begins: at 0 if it is linear.
    pub left: f64,
    /// Where the longest curve ends.
    pub right: f64,
    /// How many times as long as the shortest curve the longest is, if the axis is logarithmic for that.
    pub stretch: Option<f64>,
}

impl Scale {
    /// Linear over tokens, which all runs of a kind have alike; also over compute and time, unless a few long runs would press
    /// the others against the left. A logarithmic axis has no 0: it begins at the last round value before the first
    /// validation of a model that was trained.
    pub fn around(curves: &[Curve], axis: Axis) -> Self {
        let ends = || curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.at(axis));
        let right = ends().fold(0.0, f64::max).max(1e-9);
        let trained = curves.iter().flat_map(|curve| &curve.points).filter(|point| point.step > 0);
        let first = trained.map(|point| point.at(axis)).fold(right, f64::min);
        let stretch = right / ends().fold(right, f64::min);
        if axis == Axis::Tokens || stretch <= SEVERAL || first <= 0.0 {
            return Self { axis, left: 0.0, right, stretch: None };
        }
        let left = round_values(axis).into_iter().rfind(|&value| value <= first).unwrap_or(first);
        Self { axis, left, right, stretch: Some(stretch) }
    }

    /// Where a value lies: 0 is the left end, 1 the right one.
    pub fn share(&self, value: f64) -> f64 {
        match self.stretch {
            Some(_) => (value / self.left).ln() / (self.right / self.left).ln(),
            None => value / self.right,
        }
    }

    /// The values that are named.
    pub fn ticks(&self) -> Vec<f64> {
        if self.stretch.is_some() { self.uneven() } else { self.even() }
    }

    /// In equal steps from 0.
    fn even(&self) -> Vec<f64> {
        let least = self.right / STEPS;
        let step = match self.axis {
            Axis::Seconds => round_values(self.axis).into_iter().find(|value| *value >= least),
            _ => None,
        };
        let step = step.unwrap_or_else(|| nice_step(least));
        let count = (self.right / step * (1.0 + 1e-9)).floor() as u32;
        (0..=count).map(|index| f64::from(index) * step).collect()
    }

    /// Round values, as many as there is room for.
    fn uneven(&self) -> Vec<f64> {
        let mut ticks: Vec<f64> = vec![];
        for value in round_values(self.axis) {
            let shown = (self.left..=self.right).contains(&value);
            let apart = ticks.last().is_none_or(|&last| self.share(value) - self.share(last) >= APART);
            if shown && apart {
                ticks.push(value);
            }
        }
        ticks
    }

    /// How a value is named among `ticks`.
    pub fn label(&self, value: f64, ticks: &[f64]) -> String {
        if self.axis != Axis::Seconds || value <= 0.0 {
            return on_axis(value);
        }
        // Steps of ten minutes are counted in minutes beyond the hour too.
        let unit = if self.stretch.is_some() { value } else { ticks.get(1).copied().unwrap_or(value) };
        let (length, name) = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min")]
            .into_iter()
            .find(|(length, _)| unit >= *length)
            .unwrap_or((1.0, "s"));
        format!("{} {name}", (value / length * 1000.0).round() / 1000.0)
    }
}

/// 1, 2 and 5 times powers of ten, of a second, an hour or a day where clocks are read.
fn round_values(axis: Axis) -> Vec<f64> {
    let powers = |from: i32, to: i32| {
        (from..to).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)))
    };
    match axis {
        Axis::Seconds => {
            let days = powers(0, 4).skip(2).map(|days| days * DAY);
            powers(-3, 0).chain(CLOCK).chain(days).collect()
        }
        _ => powers(0, 27).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::Point;
    use super::*;

    /// A curve from `from` to `to` with a validation at a tenth of it.
    fn curve(from: f64, to: f64) -> Curve {
        let point = |(step, share): (u64, f64)| {
            let at = from + share * (to - from);
            Point { step, tokens: at, flops: at, seconds: at, loss: 5.0 }
        };
        Curve {
            label: String::new(),
            points: [(0, 0.0), (1, 0.1), (2, 1.0)].map(point).into(),
            spread: vec![],
        }
    }

    fn labels(scale: &Scale) -> Vec<String> {
        let ticks = scale.ticks();
        ticks.iter().map(|&tick| scale.label(tick, &ticks)).collect()
    }

    #[test]
    fn an_axis_is_logarithmic_only_if_a_curve_is_several_times_as_long_as_another() {
        let alike = [curve(0.0, 30.0), curve(0.0, 100.0)];
        let unlike = [curve(0.0, 20.0), curve(80.0, 100.0)];
        assert!(Scale::around(&alike, Axis::Flops).stretch.is_none());
        assert!(Scale::around(&unlike, Axis::Tokens).stretch.is_none(), "tokens are linear");
        for axis in [Axis::Flops, Axis::Seconds] {
            let scale = Scale::around(&unlike, axis);
            assert_eq!((scale.left, scale.stretch), (2.0, Some(5.0)), "the first validation but that at 0");
            assert!((scale.share(2.0), scale.share(100.0)) == (0.0, 1.0));
            assert!((scale.share(20.0) - 10f64.ln() / 50f64.ln()).abs() < 1e-12);
        }
        let none = Scale::around(&[], Axis::Flops);
        assert!(none.stretch.is_none() && none.share(0.0).abs() < 1e-12);
    }

    #[test]
    fn linear_ticks_are_equal_steps_in_units_of_the_step() {
        let shown = |to: f64, axis| labels(&Scale::around(&[curve(0.0, to)], axis));
        assert_eq!(shown(20.7e6, Axis::Tokens), ["0", "5 M", "10 M", "15 M", "20 M"]);
        assert_eq!(shown(18e12, Axis::Flops)[..3], ["0", "5 T", "10 T"].map(String::from));
        assert_eq!(shown(1.7e6, Axis::Tokens)[3..6], ["750 k", "1 M", "1.25 M"].map(String::from));
        assert_eq!(shown(3500.0, Axis::Seconds), ["0", "10 min", "20 min", "30 min", "40 min", "50 min"]);
        assert_eq!(shown(45000.0, Axis::Seconds), ["0", "2 h", "4 h", "6 h", "8 h", "10 h", "12 h"]);
        assert_eq!(shown(900_000.0, Axis::Seconds), ["0", "2 d", "4 d", "6 d", "8 d", "10 d"]);
        assert_eq!(shown(0.3, Axis::Seconds)[1], "0.05 s");
    }

    #[test]
    fn logarithmic_ticks_are_round_and_do_not_touch() {
        let shown = |to: f64, axis| labels(&Scale::around(&[curve(0.0, to / 100.0), curve(0.0, to)], axis));
        let compute = ["1 T", "2 T", "5 T", "10 T", "20 T", "50 T", "100 T", "200 T", "500 T", "1 P"];
        assert_eq!(shown(1e15, Axis::Flops), compute);
        let time = ["10 s", "30 s", "1 min", "2 min", "5 min", "10 min", "30 min", "1 h", "2 h"];
        assert_eq!(shown(11500.0, Axis::Seconds), time);
        let scale = Scale::around(&[curve(0.0, 1.0), curve(0.0, 1e9)], Axis::Flops);
        let places: Vec<_> = scale.ticks().into_iter().map(|tick| scale.share(tick)).collect();
        assert!(places.len() > 8 && places.windows(2).all(|pair| pair[1] - pair[0] >= APART), "{places:?}");
    }
}
