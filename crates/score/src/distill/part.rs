//! What a teacher says at the masked positions of a part.

use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;
use entromask_encoder::Wanted;
use entromask_tables::{Masks, Ragged, Targets, Tokens};

use super::DistillConfig;
use super::teacher::Teacher;
use crate::finite;

/// A teacher ready to be asked.
pub(super) struct Speaker<'a> {
    pub config: &'a DistillConfig,
    pub teacher: &'a Teacher,
    /// The teacher's folder.
    pub dir: &'a Path,
}

/// What is kept of one position.
struct Kept {
    tokens: Vec<u32>,
    logits: Vec<f32>,
    tail: f32,
}

impl Speaker<'_> {
    /// The targets of a part; `progress` is told the tokens of finished rows, and may end the work.
    ///
    /// # Errors
    /// An input fault that names the place if the teacher computes what is not finite.
    pub(super) fn targets(
        &self,
        tokens: &Tokens,
        masks: &Masks,
        progress: impl Fn(u64) -> Result<()> + Sync,
    ) -> Result<Targets> {
        let mut rows: Vec<usize> =
            (0..tokens.rows()).filter(|&row| masks.positions.len_of(row) > 0).collect();
        rows.sort_by_key(|&row| tokens.input_ids.len_of(row));
        let mut said: Vec<Vec<Kept>> = (0..tokens.rows()).map(|_| Vec::new()).collect();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (some, later) = rest.split_at(self.at_once(masks, rest));
            let mut kept = self.ask(tokens, masks, some, &progress)?.into_iter();
            for &row in some {
                said[row] = kept.by_ref().take(masks.positions.len_of(row)).collect();
                self.check(masks, row, &said[row])?;
            }
            rest = later;
        }
        Ok(table(masks, &said))
    }

    /// How many of `rows` are asked for at once, at least one.
    fn at_once(&self, masks: &Masks, rows: &[usize]) -> usize {
        let mut positions = 0;
        let fits = |row: &&usize| {
            positions += masks.positions.len_of(**row);
            positions <= self.teacher.chunk_positions()
        };
        rows.iter().take_while(fits).count().max(1)
    }

    /// What is kept of the masked positions of `rows`, one after the other.
    fn ask(
        &self,
        tokens: &Tokens,
        masks: &Masks,
        rows: &[usize],
        progress: impl Fn(u64) -> Result<()> + Sync,
    ) -> Result<Vec<Kept>> {
        let seen: Vec<Vec<u32>> = rows.iter().map(|&row| masked(tokens, masks, row)).collect();
        let wanted = rows.iter().zip(&seen).map(|(&row, ids)| Wanted {
            input_ids: ids,
            token_type_ids: &[],
            positions: masks.positions.row(row),
        });
        let keep = |logits: &[f32]| Kept::of(logits, self.config.top_k, self.config.temperature as f32);
        self.teacher.ask(&wanted.collect::<Vec<_>>(), keep, progress)
    }

    fn check(&self, masks: &Masks, row: usize, said: &[Kept]) -> Result<()> {
        let mut places = masks.positions.row(row).iter().zip(said);
        let bad = places.find(|(_, kept)| !kept.is_finite());
        bad.map_or(Ok(()), |(&position, _)| Err(finite::fault(self.dir, (masks.row[row], position)).into()))
    }
}

impl Kept {
    fn is_finite(&self) -> bool {
        self.tail.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }

    /// The `k` highest of `logits`, of equal ones those with the lowest ids, and what is left at `temperature`.
    fn of(logits: &[f32], k: usize, temperature: f32) -> Self {
        let (mut kept, others) = split(logits, k.min(logits.len()));
        kept.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let highest = logits[kept[0] as usize];
        let mass = |tokens: &[u32]| {
            let exponential =
                |&token: &u32| f64::from((logits[token as usize] - highest) / temperature).exp();
            // From 0: an empty `sum` is −0.
            tokens.iter().map(exponential).fold(0.0, |sum, term| sum + term)
        };
        let (top, others) = (mass(&kept), mass(&others));
        Self {
            logits: kept.iter().map(|&token| logits[token as usize]).collect(),
            tokens: kept,
            tail: (others / (top + others)) as f32,
        }
    }
}

/// The tokens of the `k` highest of `logits`, of equal ones those with the lowest ids, and all others; both by their ids.
fn split(logits: &[f32], k: usize) -> (Vec<u32>, Vec<u32>) {
    let mut values = logits.to_vec();
    let (_, &mut least, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let above = logits.iter().filter(|value| value.total_cmp(&least).is_gt()).count();
    let mut equal = k - above;
    (0..logits.len() as u32).partition(|&token| match logits[token as usize].total_cmp(&least) {
        Ordering::Greater => true,
        Ordering::Equal if equal > 0 => {
            equal -= 1;
            true
        }
        _ => false,
    })
}

/// The row as the student sees it.
fn masked(tokens: &Tokens, masks: &Masks, row: usize) -> Vec<u32> {
    let mut ids = tokens.input_ids.row(row).to_vec();
    for (&position, &input) in masks.positions.row(row).iter().zip(masks.inputs.row(row)) {
        ids[usize::from(position)] = input;
    }
    ids
}

fn table(masks: &Masks, said: &[Vec<Kept>]) -> Targets {
    let flat = |row: &Vec<Kept>| row.iter().flat_map(|kept| kept.tokens.clone()).collect::<Vec<u32>>();
    let logits = |row: &Vec<Kept>| row.iter().flat_map(|kept| kept.logits.clone()).collect::<Vec<f32>>();
    Targets {
        row: masks.row.clone(),
        epoch: masks.epoch.clone(),
        tokens: Ragged::from_rows(said.iter().map(flat)),
        logits: Ragged::from_rows(said.iter().map(logits)),
        tail: Ragged::from_rows(said.iter().map(|row| row.iter().map(|kept| kept.tail).collect::<Vec<_>>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_are_kept_and_the_rest_is_weighed() {
        // e⁰ + e¹ + e² + e¹ at temperature 2 of logits 0, 2, 4, 2.
        let kept = Kept::of(&[0.0, 2.0, 4.0, 2.0], 2, 2.0);
        assert_eq!((kept.tokens, kept.logits), (vec![2, 1], vec![4.0, 2.0]), "of equal ones the first");
        let e = |x: f64| x.exp();
        let expected = (e(0.0) + e(1.0)) / (e(0.0) + 2.0 * e(1.0) + e(2.0));
        assert!((f64::from(kept.tail) - expected).abs() < 1e-7);
        let all = Kept::of(&[0.0, 2.0, 4.0, 2.0], 9, 2.0);
        assert_eq!((all.tokens, all.tail.to_bits()), (vec![2, 1, 3, 0], 0));
    }
}
