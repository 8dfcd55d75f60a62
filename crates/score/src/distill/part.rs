//! What a teacher says at the masked positions of a part.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use entromask_encoder::{EncoderConfig, Filling, MaskedLm, Wanted};
use entromask_tables::{Masks, Ragged, Targets, Tokens};
use rayon::prelude::*;

use super::DistillConfig;
use crate::batches::batches;
use crate::finite;

/// Tokens of a batch on the CPU.
const CPU_BATCH_TOKENS: usize = 2_048;
/// Tokens of a batch on a GPU.
const GPU_BATCH_TOKENS: usize = 32_768;
/// Logits that are in memory at once: 128 MB.
const CHUNK_LOGITS: usize = 1 << 25;

/// A teacher ready to be asked.
pub(super) struct Speaker<'a> {
    pub config: &'a DistillConfig,
    pub shape: &'a EncoderConfig,
    pub model: &'a MaskedLm,
    pub device: &'a Device,
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
        progress: impl Fn(u64) -> Result<()>,
    ) -> Result<Targets> {
        let mut rows: Vec<usize> =
            (0..tokens.rows()).filter(|&row| masks.positions.len_of(row) > 0).collect();
        // Batches are cut by the part alone, since the last bits of a product depend on the number of its rows.
        rows.sort_by_key(|&row| tokens.input_ids.len_of(row));
        let (batch_tokens, filling) = self.sizes();
        let mut said: Vec<Vec<Kept>> = (0..tokens.rows()).map(|_| Vec::new()).collect();
        for batch in batches(&rows, |&row| tokens.input_ids.len_of(row), batch_tokens, filling) {
            let mut kept = self.ask(tokens, masks, batch, filling).into_iter();
            for &row in batch {
                said[row] = kept.by_ref().take(masks.positions.len_of(row)).collect();
                self.check(masks, row, &said[row])?;
            }
            progress(batch.iter().map(|&row| tokens.input_ids.len_of(row) as u64).sum())?;
        }
        Ok(table(masks, &said))
    }

    /// Tokens of a batch, and how it is filled up.
    fn sizes(&self) -> (usize, Filling) {
        let is_cpu = entromask_device::is_cpu(self.device);
        (if is_cpu { CPU_BATCH_TOKENS } else { GPU_BATCH_TOKENS }, Filling::of(self.shape, is_cpu))
    }

    /// What is kept of the masked positions of `rows`, one after the other.
    fn ask(&self, tokens: &Tokens, masks: &Masks, rows: &[usize], filling: Filling) -> Vec<Kept> {
        let seen: Vec<Vec<u32>> = rows.iter().map(|&row| masked(tokens, masks, row)).collect();
        let wanted = rows.iter().zip(&seen).map(|(&row, ids)| Wanted {
            input_ids: ids,
            token_type_ids: &[],
            positions: masks.positions.row(row),
        });
        let hidden = self.model.states_at(&wanted.collect::<Vec<_>>(), filling, self.device);
        let hidden = self.model.transform(hidden);
        let [n, _] = hidden.dims();
        let at_once = (CHUNK_LOGITS / self.shape.vocab_size).max(1);
        let chunks = (0..n).step_by(at_once).map(|start| {
            let hidden = hidden.clone().narrow(0, start, at_once.min(n - start));
            self.kept(hidden)
        });
        chunks.flatten().collect()
    }

    fn check(&self, masks: &Masks, row: usize, said: &[Kept]) -> Result<()> {
        let mut places = masks.positions.row(row).iter().zip(said);
        let bad = places.find(|(_, kept)| !kept.is_finite());
        bad.map_or(Ok(()), |(&position, _)| Err(finite::fault(self.dir, (masks.row[row], position)).into()))
    }

    fn kept(&self, hidden: Tensor<2>) -> Vec<Kept> {
        let (weight, bias) = self.model.decoder();
        let logits = hidden.matmul(weight.transpose()) + bias.unsqueeze();
        let logits: Vec<f32> = logits.try_into_vec_as().expect("a float tensor reads as f32");
        let rows = logits.par_chunks(self.shape.vocab_size);
        rows.map(|row| Kept::of(row, self.config.top_k, self.config.temperature as f32)).collect()
    }
}

impl Kept {
    fn is_finite(&self) -> bool {
        self.tail.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }

    /// The `k` highest of `logits`, of equal ones those with the lowest ids, and what is left at `temperature`.
    fn of(logits: &[f32], k: usize, temperature: f32) -> Self {
        let k = k.min(logits.len());
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if k < order.len() {
            order.select_nth_unstable_by(k - 1, falling);
        }
        let (kept, rest) = order.split_at_mut(k);
        kept.sort_unstable_by(falling);
        let highest = logits[kept[0] as usize];
        let mass = |tokens: &[u32]| {
            let exponential =
                |&token: &u32| f64::from((logits[token as usize] - highest) / temperature).exp();
            // From 0: an empty `sum` is −0.
            tokens.iter().map(exponential).fold(0.0, |sum, term| sum + term)
        };
        // In the order of ids, so that the sum does not depend on how the selection has moved them.
        rest.sort_unstable();
        let (top, others) = (mass(kept), mass(rest));
        Self {
            logits: kept.iter().map(|&token| logits[token as usize]).collect(),
            tokens: kept.to_vec(),
            tail: (others / (top + others)) as f32,
        }
    }
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
