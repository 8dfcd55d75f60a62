//! The distribution of values in nats, kept in constant memory whatever their number.

use serde::Serialize;

/// Width of the finest bins, in nats; percentiles are exact to that.
const WIDTH: f32 = 0.01;
/// The narrowest range, in nats.
const NARROW: f64 = 0.5;
/// Entropies with a smaller standard deviation, in nats, say next to nothing about which tokens are hard.
pub(crate) const FLAT: f64 = 0.1;
/// Values of this many nats and more fall into the last bin. No entropy comes near it, and no surprisal of a sane model.
const LIMIT: f32 = 1000.0;

/// Counts of values in bins of 0.01 nats, up to that of the largest value.
#[derive(Clone, Debug)]
pub struct Nats {
    bins: Vec<u64>,
    count: u64,
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
}

/// An interval of values, for colours and axes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Its lower end.
    pub low: f64,
    /// Its upper end, above the lower one.
    pub high: f64,
}

/// What [`Nats`] comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Percentiles 1, 10, 25, 50, 75, 90 and 99, to 0.01.
    pub percentiles: Vec<(u8, f64)>,
    /// Largest value.
    pub max: f64,
}

/// One bar of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Least value, included.
    pub from: f64,
    /// Largest value, excluded.
    pub to: f64,
    /// Values in between.
    pub count: u64,
}

impl Default for Range {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0 }
    }
}

impl Range {
    /// From 0, unless the values leave the lower quarter empty; at least [`NARROW`] wide, so that noise stays noise.
    fn new(low: f64, high: f64) -> Self {
        let low = if low < high / 4.0 { 0.0 } else { low };
        let missing = (NARROW - (high - low)).max(0.0);
        let low = (low - missing / 2.0).max(0.0);
        Self { low, high: high.max(low + NARROW) }
    }

    /// Decimals that tell neighbouring steps apart.
    pub fn decimals(&self) -> usize {
        if self.high - self.low < 1.5 { 2 } else { 1 }
    }

    /// Where a value lies: 0 at the lower end and below, 1 at the upper end and above.
    pub fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Which of `levels` equal steps a value falls into, from 0.
    pub fn level(&self, value: f64, levels: usize) -> usize {
        ((self.share(value) * levels as f64) as usize).min(levels - 1)
    }

    /// The value in the middle of a step.
    pub fn middle(&self, level: usize, levels: usize) -> f64 {
        self.low + (self.high - self.low) * (level as f64 + 0.5) / levels as f64
    }
}

impl Summary {
    /// Whether the values hardly differ.
    pub fn is_flat(&self) -> bool {
        self.count > 1 && self.std < FLAT
    }

    /// What that means, behind the values' name.
    pub fn flatness(&self) -> String {
        format!(
            "hardly differ (standard deviation {:.3} nats): masks by them are as good as random",
            self.std
        )
    }

    /// The range of nearly all values: from the first to the last percentile.
    pub fn range(&self) -> Range {
        let ends = self.percentiles.first().zip(self.percentiles.last());
        ends.map_or_else(Range::default, |(first, last)| Range::new(first.1, last.1))
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            bins: Vec::new(),
            count: 0,
            sum: 0.0,
            squares: 0.0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }
}

impl Nats {
    /// Counts one value; what is not finite is left out.
    pub fn add(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        let bin = (value.clamp(0.0, LIMIT) / WIDTH) as usize;
        if bin >= self.bins.len() {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
        self.count += 1;
        self.sum += f64::from(value);
        self.squares += f64::from(value).powi(2);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The mean; 0 without values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The standard deviation; 0 without values.
    fn std(&self) -> f64 {
        let mean_square = self.squares / self.count.max(1) as f64;
        (mean_square - self.mean().powi(2)).max(0.0).sqrt()
    }

    /// The value below which `percent` of the values lie, to 0.01; 0 without values.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (bin, count) in self.bins.iter().enumerate() {
            below += count;
            if below >= rank {
                return ((bin as f64 + 0.5) * f64::from(WIDTH))
                    .clamp(f64::from(self.min), f64::from(self.max));
            }
        }
        0.0
    }

    /// The numbers that describe the distribution.
    pub fn summary(&self) -> Summary {
        if self.is_empty() {
            return Summary::default();
        }
        let percentiles = [1, 10, 25, 50, 75, 90, 99].map(|p| (p, round(self.percentile(f64::from(p)))));
        Summary {
            count: self.count,
            mean: self.mean(),
            std: self.std(),
            min: f64::from(self.min),
            percentiles: percentiles.to_vec(),
            max: f64::from(self.max),
        }
    }

    /// The range of all but the most extreme values, for a histogram.
    pub fn range(&self) -> Range {
        Range::new(self.percentile(0.1), self.percentile(99.9))
    }

    /// The same without the least width: noise does fill it, for a histogram of what hardly differs.
    pub fn occupied(&self) -> Range {
        let (low, high) = (self.percentile(0.1), self.percentile(99.9));
        if high - low < NARROW { Range { low, high: high.max(low + f64::from(WIDTH)) } } else { self.range() }
    }

    /// Equal bars of a round width that cover `range`, about `wanted` of them. What lies outside is in the outer bars.
    pub fn histogram(&self, range: Range, wanted: usize) -> Vec<Bin> {
        let step = nice_step(((range.high - range.low) / wanted as f64).max(f64::from(WIDTH)));
        let first = (range.low / step + 1e-9).floor() * step;
        let bars = ((range.high - first) / step - 1e-9).ceil().max(1.0) as usize;
        let mut counts = vec![0; bars];
        for (bin, count) in self.bins.iter().enumerate() {
            let middle = (bin as f64 + 0.5) * f64::from(WIDTH);
            counts[(((middle - first) / step).max(0.0) as usize).min(bars - 1)] += count;
        }
        let edge = |i: usize| round(first + i as f64 * step);
        let bar = |(i, count)| Bin { from: edge(i), to: edge(i + 1), count };
        counts.into_iter().enumerate().map(bar).collect()
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`; 1 if that is not above 0.
pub fn nice_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let fits = |factor: &f64| factor * power >= least * (1.0 - 1e-9);
    [1.0, 2.0, 2.5, 5.0].into_iter().find(fits).unwrap_or(10.0) * power
}

/// Decimals that multiples of a [`nice_step`] need.
pub fn step_decimals(step: f64) -> usize {
    let is_whole = |decimals: &usize| {
        let scaled = step * 10f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    (0..12).find(is_whole).unwrap_or(12)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform() -> Nats {
        let mut nats = Nats::default();
        (0..1000).for_each(|i| nats.add(i as f32 / 100.0 + 0.001));
        nats
    }

    #[test]
    fn percentiles_are_exact_to_the_width_of_a_bin() {
        let nats = uniform();
        for percent in [1.0, 50.0, 99.0] {
            assert!((nats.percentile(percent) - percent / 10.0).abs() <= f64::from(WIDTH), "{percent}");
        }
        assert!((nats.mean() - 4.996).abs() < 1e-3);
    }

    /// Surprisals have no bound that the vocabulary gives.
    #[test]
    fn percentiles_of_large_values_are_not_cut() {
        let mut nats = Nats::default();
        (0..1000).for_each(|i| nats.add(20.0 + i as f32 / 100.0 + 0.001));
        assert!((nats.percentile(90.0) - 29.0).abs() <= f64::from(WIDTH), "{}", nats.percentile(90.0));
    }

    #[test]
    fn a_histogram_has_round_bars_and_every_value() {
        let bars = uniform().histogram(Range { low: 0.0, high: 8.0 }, 10);
        assert_eq!((bars[0].to, bars.len()), (1.0, 8));
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 1000);
        assert_eq!(
            bars.last().map(|bar| bar.count),
            Some(300),
            "values beyond the limit are in the last bar"
        );
    }

    #[test]
    fn a_range_starts_where_the_values_do_and_noise_does_not_fill_it() {
        assert_eq!(Range::new(0.7, 9.0), Range { low: 0.0, high: 9.0 });
        assert_eq!(Range::new(5.0, 9.0), Range { low: 5.0, high: 9.0 });
        assert_eq!(Range::new(10.25, 10.25), Range { low: 10.0, high: 10.5 });
        assert_eq!(Range::new(0.0, 0.0), Range { low: 0.0, high: NARROW });
        let range = Range { low: 5.0, high: 9.0 };
        assert_eq!([range.level(1.0, 4), range.level(6.5, 4), range.level(99.0, 4)], [0, 1, 3]);
        let mut nats = Nats::default();
        (0..100).for_each(|i| nats.add(6.2 + i as f32 / 40.0));
        let bars = nats.histogram(nats.range(), 10);
        assert_eq!((bars[0].from, bars.last().map(|bar| bar.to)), (6.0, Some(8.75)));
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 100);
    }

    #[test]
    fn values_that_hardly_differ_are_flat_and_fill_their_histogram() {
        let alternating = |low: f32, high: f32| {
            let mut nats = Nats::default();
            (0..1000).for_each(|i| nats.add(if i % 2 == 0 { low } else { high }));
            nats
        };
        let flat = alternating(6.61, 6.65);
        assert!((flat.summary().std - 0.02).abs() < 1e-4 && flat.summary().is_flat());
        let bars = flat.histogram(flat.occupied(), 20);
        assert!(bars.len() <= 6 && bars[0].count > 0, "{bars:?}");
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 1000);
        let spread = alternating(6.5, 6.8);
        assert!((spread.summary().std - 0.15).abs() < 1e-4 && !spread.summary().is_flat());
        let wide = alternating(1.0, 9.0);
        assert_eq!(wide.occupied(), wide.range());
        assert!(!Summary::default().is_flat());
    }

    #[test]
    fn what_is_not_finite_and_what_is_nothing_do_no_harm() {
        let mut nats = Nats::default();
        nats.add(f32::NAN);
        nats.add(f32::INFINITY);
        assert_eq!(nats.summary(), Summary::default());
        assert!(nats.percentile(50.0).abs() < 1e-9);
        nats.add(-0.0001);
        nats.add(1000.0);
        assert_eq!(nats.summary().count, 2);
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.3, 0.5), (0.25, 0.25), (1.1, 2.0), (6.0, 10.0), (3e-4, 5e-4), (0.0, 1.0)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}: {}", nice_step(least));
        }
    }
}
