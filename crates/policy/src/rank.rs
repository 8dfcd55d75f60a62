//! Agreement of two rankings, of a row or of millions of values.

/// Spearman's rank correlation: the correlation of the ranks, ties having their mean rank (Spearman, 1904).
///
/// Takes 8 bytes a pair beside the values, of fewer than 2^31 pairs. `None` for fewer than two pairs, or where all values of
/// one side are equal.
pub fn spearman(left: &[f32], right: &[f32]) -> Option<f64> {
    let mut pairs: Vec<_> = left.iter().zip(right).map(|(&a, &b)| [ordered(a), ordered(b)]).collect();
    (0..2).for_each(|side| rank(&mut pairs, side));
    let middle = pairs.len() as i64 + 1;
    let deviations = pairs.iter().map(|pair| pair.map(|doubled| i64::from(doubled) - middle));
    // Whole numbers, so that the sums are the same in any order.
    let add = |[ab, aa, bb]: [i128; 3], [a, b]: [i64; 2]| {
        [ab + i128::from(a * b), aa + i128::from(a * a), bb + i128::from(b * b)]
    };
    let [covariance, a, b] = deviations.fold([0; 3], add).map(|sum| sum as f64);
    (a > 0.0 && b > 0.0).then(|| (covariance / (a * b).sqrt()).clamp(-1.0, 1.0))
}

/// Share of the `rate` highest that two rankings have in common; of equal values the first ones are higher.
///
/// Takes 5 bytes a pair beside the values, of fewer than 2^32 pairs.
pub fn top_agreement(left: &[f32], right: &[f32], rate: f64) -> f64 {
    let count = ((left.len() as f64 * rate).round() as usize).max(1);
    let mut is_high = vec![false; left.len()];
    for place in highest(left, count) {
        is_high[place as usize] = true;
    }
    let common = highest(right, count).iter().filter(|&&place| is_high[place as usize]).count();
    common as f64 / count as f64
}

/// Puts in the place of one side of the pairs twice its ranks, from 1: a mean of ranks may end in a half.
fn rank(pairs: &mut [[u32; 2]], side: usize) {
    pairs.sort_unstable_by_key(|pair| pair[side]);
    let mut below = 0;
    for equal in pairs.chunk_by_mut(|a, b| a[side] == b[side]) {
        let doubled = 2 * below + equal.len() + 1;
        below += equal.len();
        for pair in equal {
            pair[side] = doubled as u32;
        }
    }
}

/// A number that is ordered as the value is, both zeros being equal.
fn ordered(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The places of the `count` highest, in no order.
fn highest(values: &[f32], count: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..values.len() as u32).collect();
    let value = |place: u32| &values[place as usize];
    if count < places.len() {
        places.select_nth_unstable_by(count, |&a, &b| value(b).total_cmp(value(a)).then(a.cmp(&b)));
    }
    places.truncate(count);
    places
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

    /// Sorted as a whole, with a sort that keeps the order of what is equal.
    #[test]
    fn of_equal_values_the_first_ones_are_higher() {
        let values: Vec<f32> = (0..1000u32).map(|i| (i * i % 7) as f32 - 3.0).collect();
        let mut order: Vec<u32> = (0..1000).collect();
        order.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]));
        for count in [1, 150, 999, 1000, 2000] {
            let mut found = highest(&values, count);
            found.sort_unstable();
            let mut expected = order[..count.min(1000)].to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
        assert!(top_agreement(&[], &[], 0.15).abs() < 1e-12, "of nothing nothing is high");
    }

    #[test]
    fn numbers_are_ordered_as_their_values() {
        let values = [f32::NEG_INFINITY, -2.5, -1e-40, 0.0, 1e-40, 1.0, 1.5, f32::INFINITY];
        assert!(values.map(ordered).is_sorted_by(|a, b| a < b));
        assert_eq!(ordered(-0.0), ordered(0.0));
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
