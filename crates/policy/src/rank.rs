//! Agreement of two rankings.

use std::cmp::Ordering;

/// Spearman's rank correlation: the correlation of the ranks, ties having their mean rank (Spearman, 1904).
///
/// `None` for fewer than two pairs, or where all values of one side are equal.
pub fn spearman(left: &[f32], right: &[f32]) -> Option<f64> {
    let (left, right) = (ranks(left), ranks(right));
    let mean = f64::midpoint(left.len() as f64, 1.0);
    let pairs = || left.iter().zip(&right).map(|(a, b)| (a - mean, b - mean));
    let covariance: f64 = pairs().map(|(a, b)| a * b).sum();
    let (a, b) = pairs().fold((0.0, 0.0), |sum, (a, b)| (sum.0 + a * a, sum.1 + b * b));
    (a > 0.0 && b > 0.0).then(|| (covariance / (a * b).sqrt()).clamp(-1.0, 1.0))
}

/// Share of the `rate` highest that two rankings of a row have in common; of equal values the first ones are higher.
pub fn top_agreement(left: &[f32], right: &[f32], rate: f64) -> f64 {
    let count = ((left.len() as f64 * rate).round() as usize).max(1);
    let (left, right) = (highest(left, count), highest(right, count));
    left.iter().filter(|place| right.contains(place)).count() as f64 / count as f64
}

/// Ranks from 1.
fn ranks(values: &[f32]) -> Vec<f64> {
    let order = sorted(values);
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| values[a].partial_cmp(&values[b]) == Some(Ordering::Equal)) {
        let rank = below as f64 + f64::midpoint(equal.len() as f64, 1.0);
        for &place in equal {
            ranks[place] = rank;
        }
        below += equal.len();
    }
    ranks
}

fn highest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order
}

fn sorted(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        left: Vec<f32>,
        right: Vec<f32>,
        spearman: f64,
    }

    #[test]
    fn spearman_is_that_of_scipy() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../tests/fixtures/spearman.json")).expect("cases");
        assert!(cases.len() > 5);
        for case in cases {
            let found = spearman(&case.left, &case.right).expect("is defined");
            assert!((found - case.spearman).abs() < 1e-12, "{found} is not {}", case.spearman);
        }
    }

    #[test]
    fn without_differences_there_is_no_correlation() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[-0.0, 0.0], &[1.0, 2.0]), None, "both are zero");
    }

    #[test]
    fn tops_are_counted_by_hand() {
        let left: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let mut right = left.clone();
        assert!((top_agreement(&left, &right, 0.15) - 1.0).abs() < 1e-12);
        // Of 17, 18, 19 one is replaced by 0.
        right.swap(0, 19);
        assert!((top_agreement(&left, &right, 0.15) - 2.0 / 3.0).abs() < 1e-12);
        assert!((top_agreement(&[1.0, 1.0], &[1.0, 1.0], 0.15) - 1.0).abs() < 1e-12, "at least one");
    }
}
