//! The masks of one row.

use entromask_random::keyed;

use crate::Config;
use crate::corruption::Vocabulary;

/// The number of tokens to mask in a row of `maskable` tokens: round(rate · maskable), half away from zero, at least 1
/// (0 only for a row without maskable tokens).
pub fn budget(rate: f64, maskable: usize) -> usize {
    ((rate * maskable as f64).round() as usize).max(1).min(maskable)
}

/// One row as selection sees it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its number in the split, which keys its draws.
    pub number: u64,
    /// Its token ids, `[seq_length]`.
    pub input_ids: &'a [u32],
    /// The word of each token; `None` marks special tokens, which are never masked. `[seq_length]`
    pub word: &'a [Option<u16>],
    /// The score of each token, `[seq_length]`; empty for policies that need none.
    pub scores: &'a [Option<f32>],
}

/// Chooses the positions to mask in one row, ascending, and what the model sees there.
pub fn select_row(config: &Config, vocabulary: &Vocabulary, row: Row, epoch: u16) -> (Vec<u16>, Vec<u32>) {
    let candidates: Vec<u16> =
        (0..row.word.len() as u16).filter(|&i| row.word[i as usize].is_some()).collect();
    let scores: Vec<f32> =
        candidates.iter().map(|&i| row.scores.get(i as usize).copied().flatten().unwrap_or(0.0)).collect();
    let mut rng = keyed(config.seed, "masks", row.number, u64::from(epoch));
    let chosen = config.policy.select(&scores, budget(config.rate, candidates.len()), &mut rng);
    let mut positions: Vec<u16> = chosen.into_iter().map(|index| candidates[index]).collect();
    positions.sort_unstable();
    let mut rng = keyed(config.seed, "corruption", row.number, u64::from(epoch));
    let inputs = positions
        .iter()
        .map(|&position| config.corruption.apply(row.input_ids[position as usize], vocabulary, &mut rng))
        .collect();
    (positions, inputs)
}
