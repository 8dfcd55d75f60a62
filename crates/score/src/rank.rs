//! Scores of the same tokens, side by side.

use entromask_tables::Ragged;

/// Values of one column paired with another's, row by row, where both have one.
pub(crate) fn pairs(
    left: &Ragged<Option<f32>>,
    right: &Ragged<Option<f32>>,
) -> impl Iterator<Item = (Vec<f32>, Vec<f32>)> {
    left.iter().zip(right.iter()).map(|(left, right)| {
        left.iter().zip(right).filter_map(|(&left, &right)| Some((left?, right?))).unzip()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_where_both_were_scored() {
        let left = Ragged::from_rows([vec![None, Some(1.0), Some(2.0)], vec![Some(3.0)]]);
        let right = Ragged::from_rows([vec![Some(9.0), Some(8.0), None], vec![Some(7.0)]]);
        let found: Vec<_> = pairs(&left, &right).collect();
        assert_eq!(found, [(vec![1.0], vec![8.0]), (vec![3.0], vec![7.0])]);
    }
}
