//! How far two scorings agree by one measure.

use entromask_policy::rank::top_agreement;
use serde::Serialize;

use crate::pairs::{Pairs, mean};

/// Share of the tokens that count as the most uncertain ones: what training masks.
pub(super) const TOP: f64 = 0.15;
/// Small where a model is unsure, unlike every other measure.
const MARGIN: &str = "margin";

/// One measure of two scorings over the positions that both scored, in the measure's unit: nats, of `margin` and `normalized`
/// none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The measure.
    pub measure: String,
    /// Number of positions.
    pub positions: u64,
    /// Means of the reference and of the other.
    pub means: [f64; 2],
    /// Their standard deviations.
    pub stds: [f64; 2],
    /// Mean of how much the other is above the reference.
    pub difference: f64,
    /// Mean absolute difference.
    pub absolute_mean: f64,
    /// 95th percentile of the absolute differences, between neighbours by linear interpolation.
    pub absolute_p95: f64,
    /// Largest absolute difference.
    pub absolute_max: f64,
    /// Spearman's rank correlation over all positions, ties averaged; `None` where one side has no differences.
    pub spearman: Option<f64>,
    /// Its mean over the rows, in which masks are chosen.
    pub spearman_in_rows: Option<f64>,
    /// Share of the most uncertain 15 % of all positions by the one that also are by the other; 0.15 by chance.
    pub top: f64,
    /// The same within rows, on average.
    pub top_in_rows: f64,
}

impl Statistics {
    /// Of the values of `measure`; `None` if there are none.
    pub(crate) fn of(measure: &str, mut pairs: Pairs) -> Option<Self> {
        let means = [level(&pairs.left)?, level(&pairs.right)?];
        let (spearman, spearman_in_rows) = (pairs.spearman(), pairs.spearman_in_rows());
        if measure == MARGIN {
            pairs.left.iter_mut().chain(&mut pairs.right).for_each(|value| *value = -*value);
        }
        let top = top_agreement(&pairs.left, &pairs.right, TOP);
        let top_in_rows = mean(pairs.rows().map(|(left, right)| top_agreement(left, right, TOP)))?;
        let positions = pairs.len() as u64;
        let mut absolute = absolute(pairs);
        Some(Self {
            measure: measure.into(),
            positions,
            means: means.map(|(mean, _)| mean),
            stds: means.map(|(_, std)| std),
            difference: means[1].0 - means[0].0,
            absolute_mean: mean(absolute.iter().map(|&value| f64::from(value)))?,
            absolute_p95: percentile(&mut absolute, 0.95),
            absolute_max: f64::from(absolute.iter().copied().fold(0.0, f32::max)),
            spearman,
            spearman_in_rows,
            top,
            top_in_rows,
        })
    }
}

/// Mean and standard deviation.
fn level(values: &[f32]) -> Option<(f64, f64)> {
    let values = || values.iter().map(|&value| f64::from(value));
    let center = mean(values())?;
    Some((center, mean(values().map(|value| (value - center).powi(2)))?.sqrt()))
}

/// In the memory of the values.
fn absolute(pairs: Pairs) -> Vec<f32> {
    let mut values = pairs.left;
    values.iter_mut().zip(&pairs.right).for_each(|(left, right)| *left = (*left - right).abs());
    values
}

/// Of at least one value; changes their order.
fn percentile(values: &mut [f32], share: f64) -> f64 {
    let at = share * (values.len() - 1) as f64;
    let (_, &mut value, above) = values.select_nth_unstable_by(at as usize, f32::total_cmp);
    let next = above.iter().copied().min_by(f32::total_cmp).unwrap_or(value);
    f64::from(value) + (f64::from(next) - f64::from(value)) * at.fract()
}

#[cfg(test)]
mod tests {
    use entromask_tables::Ragged;
    use serde::Deserialize;

    use super::*;

    /// Values of two scorings row by row, null where they have none, and what `SciPy` and `NumPy` say of them.
    #[derive(Deserialize)]
    struct Case {
        measure: String,
        left: Vec<Vec<Option<f32>>>,
        right: Vec<Vec<Option<f32>>>,
        positions: u64,
        means: [f64; 2],
        stds: [f64; 2],
        difference: f64,
        absolute_mean: f64,
        absolute_p95: f64,
        absolute_max: f64,
        spearman: Option<f64>,
        spearman_in_rows: Option<f64>,
        top: f64,
        top_in_rows: f64,
    }

    fn pairs(left: Vec<Vec<Option<f32>>>, right: Vec<Vec<Option<f32>>>) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.add(&Ragged::from_rows(left), &Ragged::from_rows(right)).expect("few pairs");
        pairs
    }

    #[test]
    fn statistics_are_those_of_scipy() {
        let text = include_str!("../../tests/fixtures/agreement.json");
        let cases: Vec<Case> = serde_json::from_str(text).expect("the fixture is JSON");
        assert!(cases.len() > 4);
        for case in cases {
            let found = Statistics::of(&case.measure, pairs(case.left, case.right)).expect("there are pairs");
            assert_eq!(found.positions, case.positions);
            let ranks = [(found.spearman, case.spearman), (found.spearman_in_rows, case.spearman_in_rows)];
            let exact = ranks.map(|(found, is)| (found.unwrap_or(9.0), is.unwrap_or(9.0))).into_iter();
            let exact = exact.chain([(found.top, case.top), (found.top_in_rows, case.top_in_rows)]);
            for (found, is) in exact.chain(found.means.into_iter().zip(case.means)) {
                assert!((found - is).abs() < 1e-12, "{}: {found} is not {is}", case.measure);
            }
            // Differences are rounded to f32.
            let rounded = [
                (found.difference, case.difference),
                (found.absolute_mean, case.absolute_mean),
                (found.absolute_p95, case.absolute_p95),
                (found.absolute_max, case.absolute_max),
            ];
            for (found, is) in rounded.into_iter().chain(found.stds.into_iter().zip(case.stds)) {
                assert!((found - is).abs() < 1e-6, "{}: {found} is not {is}", case.measure);
            }
        }
    }

    #[test]
    fn where_nothing_is_in_both_nothing_is_said() {
        assert_eq!(Statistics::of("entropy", pairs(vec![vec![Some(1.0)]], vec![vec![None]])), None);
        let one = Statistics::of("entropy", pairs(vec![vec![Some(1.0)]], vec![vec![Some(3.0)]]));
        let one = one.expect("a pair");
        assert_eq!((one.positions, one.spearman, one.spearman_in_rows), (1, None, None));
        assert!(
            [one.difference, one.absolute_p95, one.absolute_max].iter().all(|it| (it - 2.0).abs() < 1e-12)
        );
    }
}
