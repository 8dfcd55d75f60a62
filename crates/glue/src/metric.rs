//! Metrics of GLUE, as fractions of 1.
//!
//! Where a metric is undefined (a constant prediction has no correlation, no positives have no F1) it is 0, so that a
//! model that predicts one value gets what it deserves and never NaN.

use std::fmt;

use entromask_policy::rank::spearman;
use serde::{Deserialize, Serialize};

/// What is measured between predictions and references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Share of equal classes.
    Accuracy,
    /// Harmonic mean of precision and recall of class 1.
    F1,
    /// Matthews's correlation coefficient, for any number of classes (Gorodkin, 2004).
    Matthews,
    /// Pearson's linear correlation coefficient.
    Pearson,
    /// Spearman's rank correlation coefficient; ties get the mean of their ranks.
    Spearman,
}

impl Metric {
    /// The metric of `predictions` against `references`; classes are whole numbers from 0.
    ///
    /// ```
    /// use entromask_glue::Metric;
    /// assert_eq!(Metric::Accuracy.of(&[1.0, 0.0], &[1.0, 1.0]), 0.5);
    /// assert_eq!(Metric::Pearson.of(&[2.5, 2.5], &[1.0, 4.0]), 0.0);
    /// ```
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn of(self, predictions: &[f32], references: &[f32]) -> f64 {
        assert_eq!(predictions.len(), references.len(), "one prediction a reference");
        match self {
            Self::Accuracy => accuracy(predictions, references),
            Self::F1 => f1(predictions, references),
            Self::Matthews => matthews(predictions, references),
            Self::Pearson => pearson(&widened(predictions), &widened(references)),
            Self::Spearman => spearman(predictions, references).unwrap_or(0.0),
        }
    }

    /// Lower-case name, as in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The most that one answer to all rows gets by the mean of `metrics`: the floor of a classification. For an empty slice 0.
pub fn best_constant(metrics: &[Metric], references: &[f32]) -> f64 {
    let mean = |class: usize| {
        let constant = vec![class as f32; references.len()];
        metrics.iter().map(|metric| metric.of(&constant, references)).sum::<f64>() / metrics.len() as f64
    };
    (0..classes(references)).map(mean).fold(0.0, f64::max)
}

fn accuracy(predictions: &[f32], references: &[f32]) -> f64 {
    ratio(count(predictions, references, |p, r| p == r), references.len() as f64)
}

fn f1(predictions: &[f32], references: &[f32]) -> f64 {
    let both = count(predictions, references, |p, r| p == 1 && r == 1);
    let either =
        count(predictions, references, |p, _| p == 1) + count(predictions, references, |_, r| r == 1);
    ratio(2.0 * both, either)
}

/// `(c·s − Σ pₖtₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²))`: of s rows c are correct, pₖ are predicted to be and tₖ are of class k.
fn matthews(predictions: &[f32], references: &[f32]) -> f64 {
    let rows = references.len() as f64;
    let correct = count(predictions, references, |p, r| p == r);
    let classes = classes(predictions).max(classes(references));
    let [predicted, truth] = [predictions, references].map(|values| counts(values, classes));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spread = |counts: &[f64]| rows * rows - product(counts, counts);
    ratio(correct * rows - product(&predicted, &truth), (spread(&predicted) * spread(&truth)).sqrt())
}

/// Rows of each class.
fn counts(values: &[f32], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    for &value in values {
        counts[value as usize] += 1.0;
    }
    counts
}

fn pearson(xs: &[f64], ys: &[f64]) -> f64 {
    if is_constant(xs) || is_constant(ys) {
        return 0.0;
    }
    let n = xs.len() as f64;
    let (mean_x, mean_y) = (xs.iter().sum::<f64>() / n, ys.iter().sum::<f64>() / n);
    let sum =
        |term: fn(f64, f64) -> f64| xs.iter().zip(ys).map(|(x, y)| term(x - mean_x, y - mean_y)).sum::<f64>();
    let spread = sum(|dx, _| dx * dx).sqrt() * sum(|_, dy| dy * dy).sqrt();
    ratio(sum(|dx, dy| dx * dy), spread).clamp(-1.0, 1.0)
}

fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Rows whose (predicted, true) classes satisfy `test`.
fn count(predictions: &[f32], references: &[f32], test: impl Fn(usize, usize) -> bool) -> f64 {
    predictions.iter().zip(references).filter(|&(&p, &r)| test(p as usize, r as usize)).count() as f64
}

fn classes(values: &[f32]) -> usize {
    values.iter().fold(0, |classes, &value| classes.max(value as usize + 1))
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        predictions: Vec<f32>,
        references: Vec<f32>,
        expected: BTreeMap<String, f64>,
    }

    fn metric(name: &str) -> Metric {
        serde_json::from_value(name.into()).expect("a metric's name")
    }

    #[test]
    fn values_are_those_of_scikit_learn_and_scipy() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/fixtures/metrics.json"))
            .expect("the fixture is JSON");
        assert!(cases.len() >= 10);
        for case in &cases {
            for (name, expected) in &case.expected {
                let found = metric(name).of(&case.predictions, &case.references);
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{} {name}: {found}, expected {expected}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn constants_give_zero() {
        let (constant, references) = ([0.1; 5], [0.0, 1.5, 5.0, 2.0, 2.0]);
        for metric in [Metric::Pearson, Metric::Spearman] {
            assert_eq!(metric.of(&constant, &references), 0.0);
            assert_eq!(metric.of(&references, &constant), 0.0);
        }
        assert_eq!(Metric::Matthews.of(&[1.0; 4], &[1.0, 0.0, 1.0, 1.0]), 0.0);
        assert_eq!(Metric::F1.of(&[0.0; 3], &[0.0; 3]), 0.0);
    }

    /// The class counts of the official dev splits and what a constant classifier scores on them.
    #[test]
    fn floors_of_the_official_splits() {
        let floor = |counts: &[usize], metrics: &[Metric]| {
            let references: Vec<_> =
                counts.iter().enumerate().flat_map(|(class, &n)| vec![class as f32; n]).collect();
            100.0 * best_constant(metrics, &references)
        };
        let pair = [Metric::Accuracy, Metric::F1];
        let cases = [
            (floor(&[322, 721], &[Metric::Matthews]), 0.0),
            (floor(&[428, 444], &pair[..1]), 50.9),
            (floor(&[129, 279], &pair), 74.8),
            // One answer is best by accuracy, the other by F1 and by the mean of both.
            (floor(&[25545, 14885], &pair[..1]), 63.2),
            (floor(&[25545, 14885], &pair[1..]), 53.8),
            (floor(&[25545, 14885], &pair), 45.3),
            (floor(&[3213, 3479, 3123], &pair[..1]), 35.4),
            (floor(&[3240, 3463, 3129], &pair[..1]), 35.2),
            (floor(&[146, 131], &pair[..1]), 52.7),
            (floor(&[40, 31], &pair[..1]), 56.3),
        ];
        for (found, expected) in cases {
            assert!((found - expected).abs() < 0.051, "{found}, expected {expected}");
        }
    }

    #[test]
    fn without_rows_the_floor_is_0() {
        assert_eq!(best_constant(&[Metric::Accuracy], &[]), 0.0);
    }
}
