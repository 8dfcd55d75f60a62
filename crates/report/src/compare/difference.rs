//! The difference between two systems over paired seeds.

use entromask_random::{below, keyed};
use serde::Serialize;

use crate::student::quantile;

/// Probability that an interval covers the true mean.
pub(super) const LEVEL: f64 = 0.95;
/// Below this two differences are one.
const SAME: f64 = 1e-9;
/// Resamples of the bootstrap.
const RESAMPLES: u64 = 10_000;

/// How much another system's scores lie above the baseline's, in points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Other minus baseline, for each seed that both have.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The 95 % interval of the mean by Student's t; none for a single seed, nor where all seeds differ by the same from the
    /// baseline, 0 included: scores are shares of few rows, so that this happens, and it does not say that the mean is known.
    pub t: Option<[f64; 2]>,
    /// The 95 % interval of the mean by resampling the seeds (percentiles of 10,000 resamples); none for a single seed.
    /// With few seeds it is too short: it cannot reach beyond the seeds that there are. None where there is no other.
    pub bootstrap: Option<[f64; 2]>,
}

/// What a difference shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both intervals lie above 0.
    Better,
    /// Both intervals lie below 0.
    Worse,
    /// An interval contains 0.
    NoDifferenceShown,
    /// One seed only: there is no interval.
    OneSeed,
    /// All seeds differ by the same: there is no interval.
    NoSpread,
}

impl Difference {
    /// The difference whose paired values are `values`; they are not empty.
    pub fn new(values: Vec<f64>) -> Self {
        let mean = mean(&values);
        let several = spreads(&values);
        Self {
            t: several.then(|| student(&values, mean)),
            bootstrap: several.then(|| bootstrap(&values)),
            mean,
            values,
        }
    }

    /// What it shows.
    pub fn verdict(&self) -> Verdict {
        let (Some(t), Some(bootstrap)) = (self.t, self.bootstrap) else {
            return if self.values.len() > 1 { Verdict::NoSpread } else { Verdict::OneSeed };
        };
        let low = t[0].min(bootstrap[0]);
        let high = t[1].max(bootstrap[1]);
        match (low > 0.0, high < 0.0) {
            (true, _) => Verdict::Better,
            (_, true) => Verdict::Worse,
            _ => Verdict::NoDifferenceShown,
        }
    }
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifferenceShown => "no difference shown",
            Self::OneSeed => "one seed: nothing shown",
            Self::NoSpread => "pairs differ alike: nothing shown",
        }
    }
}

/// Whether they are more than one number, but for rounding.
fn spreads(values: &[f64]) -> bool {
    values.iter().any(|value| (value - values[0]).abs() > SAME)
}

fn student(values: &[f64], mean: f64) -> [f64; 2] {
    let n = values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = quantile(f64::midpoint(1.0, LEVEL), n - 1.0) * (squares / (n - 1.0) / n).sqrt();
    [mean - half, mean + half]
}

/// The resamples are drawn from a key, so that a comparison is the same each time.
fn bootstrap(values: &[f64]) -> [f64; 2] {
    let resampled = |resample: u64| {
        let mut rng = keyed(0, "compare bootstrap", resample, 0);
        values.iter().map(|_| values[below(values.len(), &mut rng)]).sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(resampled).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    [at((1.0 - LEVEL) / 2.0), at(f64::midpoint(1.0, LEVEL))]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        paired: Vec<Paired>,
    }

    #[derive(Deserialize)]
    struct Paired {
        baseline: Vec<f64>,
        other: Vec<f64>,
        interval: [f64; 2],
    }

    #[test]
    fn intervals_are_those_of_scipys_paired_t_test() {
        let text = include_str!("../../tests/fixtures/student_t.json");
        let reference: Reference = serde_json::from_str(text).expect("the fixture is JSON");
        for Paired { baseline, other, interval } in reference.paired {
            let difference = Difference::new(other.iter().zip(&baseline).map(|(o, b)| o - b).collect());
            let found = difference.t.expect("several seeds");
            assert!(
                found.iter().zip(interval).all(|(found, it)| (found - it).abs() < 1e-6),
                "{found:?} {interval:?}"
            );
        }
    }

    /// The mean of n draws from {0, 1} in equal parts is binomial: for n = 4, P(0) = 1/16 > 2.5 %, so the interval is all.
    /// For 100 values its standard error is 0.05, and the interval is close to ± 1.96 of them.
    #[test]
    fn the_bootstrap_is_that_of_a_binomial() {
        assert_eq!(Difference::new(vec![0.0, 1.0, 0.0, 1.0]).bootstrap, Some([0.0, 1.0]));
        let values = (0..100).map(|i| f64::from(i % 2)).collect();
        let [low, high] = Difference::new(values).bootstrap.expect("several seeds");
        assert!((low - 0.402).abs() < 0.011 && (high - 0.598).abs() < 0.011, "{low} {high}");
    }

    #[test]
    fn a_difference_is_shown_only_if_no_interval_contains_zero() {
        let verdict = |values: &[f64]| Difference::new(values.to_vec()).verdict();
        assert_eq!(verdict(&[1.0, 1.1, 0.9, 1.05, 0.95]), Verdict::Better);
        assert_eq!(verdict(&[-1.0, -1.1, -0.9, -1.05, -0.95]), Verdict::Worse);
        assert_eq!(verdict(&[1.0, -1.1, 0.9, -1.05, 0.95]), Verdict::NoDifferenceShown);
        // All seeds agree, so the bootstrap excludes 0, but two seeds are few: t = 12.7 · 0.4 / 2 … reaches below 0.
        assert_eq!(verdict(&[0.2, 1.0]), Verdict::NoDifferenceShown);
        assert_eq!(verdict(&[5.0]), Verdict::OneSeed);
        assert_eq!(verdict(&[0.0, 0.0, 0.0]), Verdict::NoSpread, "three equal pairs are no certainty");
        assert_eq!(verdict(&[1.4, 1.4]), Verdict::NoSpread);
        assert_eq!(Difference::new(vec![0.1 + 0.2, 0.3, 0.3]).t, None, "but for rounding");
    }
}
