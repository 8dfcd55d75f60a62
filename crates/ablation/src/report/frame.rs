//! What part of the plane a plot shows, and what of a line lies in it.

use entromask_report::nats::{nice_step, step_decimals};

use super::curve::{Axis, Point};
use super::plot::Curve;
use super::scale::Scale;

pub(super) const WIDTH: f64 = 900.0;
pub(super) const LEFT: f64 = 64.0;
pub(super) const RIGHT: f64 = 872.0;
pub(super) const TOP: f64 = 62.0;
pub(super) const BOTTOM: f64 = 426.0;
/// Share of the longest curve at its beginning that does not decide over the height: all runs fall steeply there.
const STEEP: f64 = 0.15;

/// A place in units of the data: along the axis, and in nats.
type Place = (f64, f64);

/// What part of the plane is shown.
pub(super) struct Frame {
    axis: Axis,
    pub scale: Scale,
    low: f64,
    pub high: f64,
    step: f64,
}

impl Frame {
    pub fn around(curves: &[Curve], axis: Axis) -> Self {
        let lowest = curves.iter().flat_map(Curve::lowest).fold(f64::MAX, f64::min);
        let highest = curves.iter().flat_map(late).fold(lowest, f64::max);
        let step = nice_step((highest - lowest).max(0.01) / 6.0);
        let (low, high) = ((lowest / step).floor() * step, (highest / step).ceil() * step);
        // Rounding must not leave the highest loss outside.
        let high = high.max(low + step).max(highest);
        Self { axis, scale: Scale::around(curves, axis), low, high, step }
    }

    pub fn x(&self, value: f64) -> f64 {
        LEFT + self.scale.share(value) * (RIGHT - LEFT)
    }

    pub fn y(&self, loss: f64) -> f64 {
        TOP + (self.high - loss) / (self.high - self.low) * (BOTTOM - TOP)
    }

    /// The losses that are named, and how.
    pub fn losses(&self) -> Vec<(f64, String)> {
        let step = self.step;
        let decimals = step_decimals(step);
        let count = ((self.high - self.low) / step).round() as u32;
        let losses = (0..=count).map(|index| self.low + f64::from(index) * step);
        losses.map(|loss| (loss, format!("{loss:.decimals$}"))).collect()
    }

    /// The line of a curve.
    pub fn line(&self, points: &[Point]) -> String {
        path(&self.corners(points.iter().map(|point| (point.at(self.axis), point.loss))))
    }

    /// The area between the lowest and the highest run.
    pub fn band(&self, curve: &Curve) -> String {
        let edge = |end: usize| {
            let places = curve.points.iter().zip(&curve.spread);
            self.corners(places.map(|(point, spread)| (point.at(self.axis), spread[end])))
        };
        let (lower, upper) = (edge(0), edge(1));
        if lower.is_empty() || upper.is_empty() {
            return String::new();
        }
        path(&upper.into_iter().chain(lower.into_iter().rev()).collect::<Vec<_>>()) + "Z"
    }

    /// The corners of a line on the paper, from where it comes into the frame.
    fn corners(&self, line: impl Iterator<Item = Place>) -> Vec<Place> {
        let line: Vec<_> = line.collect();
        let outside = |place: &Place| place.0 < self.scale.left || place.1 > self.high;
        let first = line.iter().position(|place| !outside(place)).unwrap_or(line.len());
        let entry = first.checked_sub(1).zip(line.get(first)).map(|(last, to)| self.entry(line[last], *to));
        let inside = line[first..].iter().map(|&(at, loss)| (at, loss.min(self.high)));
        entry.into_iter().chain(inside).map(|(at, loss)| (self.x(at), self.y(loss))).collect()
    }

    /// Where the way from a place outside to one inside comes in, from the left or from above.
    fn entry(&self, from: Place, to: Place) -> Place {
        let by_left =
            if from.0 < self.scale.left { (self.scale.left - from.0) / (to.0 - from.0) } else { 0.0 };
        let by_top = if from.1 > self.high { (from.1 - self.high) / (from.1 - to.1) } else { 0.0 };
        let share = f64::max(by_left, by_top);
        (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
    }
}

/// The highest losses after the steep beginning.
fn late(curve: &Curve) -> impl Iterator<Item = f64> {
    let end = curve.points.last().map_or(0.0, |point| point.tokens);
    let points = curve.points.iter().zip(curve.highest());
    points.filter(move |(point, _)| point.tokens >= STEEP * end).map(|(_, loss)| loss)
}

fn path(corners: &[Place]) -> String {
    let corners: Vec<_> = corners.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    if corners.is_empty() { String::new() } else { format!("M{}", corners.join("L")) }
}
