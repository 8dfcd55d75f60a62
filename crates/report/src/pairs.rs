//! Values of two scorings at the positions that both scored.

use entromask_fault::Fault;
use entromask_policy::rank::spearman;
use entromask_tables::Ragged;

/// Pairs that can be ranked at once.
const MOST: usize = (1 << 31) - 1;

/// Pairs of values, row by row: 8 bytes each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    /// Values of the one.
    pub left: Vec<f32>,
    /// Values of the other.
    pub right: Vec<f32>,
    /// Where each row ends in both.
    ends: Vec<usize>,
}

impl Pairs {
    /// Adds the rows that both parts have, by their order.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if there are more pairs than can be ranked.
    pub(crate) fn add(
        &mut self,
        left: &Ragged<Option<f32>>,
        right: &Ragged<Option<f32>>,
    ) -> anyhow::Result<()> {
        for (left, right) in left.iter().zip(right.iter()) {
            for (left, right) in left.iter().zip(right).filter_map(|(left, right)| left.zip(*right)) {
                self.left.push(left);
                self.right.push(right);
            }
            self.ends.push(self.left.len());
        }
        if self.len() > MOST {
            return Err(Fault::usage(format!("--all: more than {MOST} positions to rank"))
                .remedy("leave it out, which takes a sample of the parts")
                .into());
        }
        Ok(())
    }

    /// The number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.left.len()
    }

    /// Spearman's correlation over all pairs; `None` where one side has no differences.
    pub(crate) fn spearman(&self) -> Option<f64> {
        spearman(&self.left, &self.right)
    }

    /// Its mean over the rows where there is one.
    pub(crate) fn spearman_in_rows(&self) -> Option<f64> {
        mean(self.rows().filter_map(|(left, right)| spearman(left, right)))
    }

    /// Both sides of the rows that have pairs.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let rows = starts.zip(&self.ends).filter(|(start, end)| start < end);
        rows.map(|(start, &end)| (&self.left[start..end], &self.right[start..end]))
    }
}

/// The mean; `None` of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0u64, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_where_both_were_scored() -> anyhow::Result<()> {
        let left = Ragged::from_rows([vec![None, Some(1.0), Some(2.0)], vec![None], vec![Some(3.0)]]);
        let right = Ragged::from_rows([vec![Some(9.0), Some(8.0), None], vec![Some(1.0)], vec![Some(7.0)]]);
        let mut pairs = Pairs::default();
        pairs.add(&left, &right)?;
        pairs.add(&left, &left)?;
        let rows: Vec<_> = pairs.rows().map(|(left, right)| (left.to_vec(), right.to_vec())).collect();
        let same = |values: &[f32]| (values.to_vec(), values.to_vec());
        assert_eq!(rows, [(vec![1.0], vec![8.0]), (vec![3.0], vec![7.0]), same(&[1.0, 2.0]), same(&[3.0])]);
        assert_eq!((pairs.len(), pairs.spearman_in_rows()), (5, Some(1.0)));
        assert_eq!(Pairs::default().spearman_in_rows(), None);
        Ok(())
    }
}
