//! Validation that all runs share: one fixed random 15 % mask of the held-out rows, whatever the run's own masks are.
//! Training losses under different masks cannot be compared; these can.

use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use entromask_artifact::Manifest;
use entromask_cli::check_interrupt;
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_policy::budget;
use entromask_random::{keyed, shuffled};
use entromask_tables::{TokenColumns, Tokens};
use entromask_training::{Evaluation, evaluate};
use serde::{Deserialize, Serialize};

use crate::data::Example;
use crate::step::{Reader, decoder};

/// Seed of the mask: the same in every run and every corpus.
const SEED: u64 = 0x0065_6e74_726f_7079;
/// Masked share of a row's maskable tokens, all of them replaced by the mask token.
const RATE: f64 = 0.15;

/// The held-out rows, masked.
#[derive(Clone, Debug)]
pub(crate) struct Validation {
    examples: Vec<Example>,
}

/// What a model scores on them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Mean surprisal of the masked tokens, nats.
    pub loss: f64,
    /// Share of them that are the most probable token.
    pub accuracy: f64,
    /// exp of the loss.
    pub perplexity: f64,
}

impl Validation {
    /// Reads at most `rows` held-out rows and masks them.
    pub(crate) fn read(folder: &Path, tokens: &Manifest, mask_id: u32, rows: usize) -> Result<Self> {
        let mut examples = Vec::new();
        for part in tokens.parts("valid") {
            if examples.len() >= rows {
                break;
            }
            part.verify(folder)?;
            let columns = TokenColumns { word: true, ..TokenColumns::default() };
            let table = Tokens::read(&folder.join(&part.file), columns)?;
            let left = rows - examples.len();
            examples.extend((0..table.rows().min(left)).filter_map(|row| masked(&table, row, mask_id)));
        }
        Ok(Self { examples })
    }

    /// How many rows there are, and positions that are masked in them.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.examples.len(), self.examples.iter().map(|row| row.positions.len()).sum())
    }

    /// Scores `model` with `batch_size` rows at a time. `None` if there are no held-out rows.
    ///
    /// # Errors
    /// A fault of class interrupted if the user asks to stop.
    pub(crate) fn score(
        &self,
        model: &MaskedLm,
        config: &EncoderConfig,
        batch_size: usize,
        device: &Device,
    ) -> Result<Option<Score>> {
        let (model, device) = (model.valid(), device.clone().inner());
        let (reader, decoder) = (Reader::new((&model, config), &device), decoder(&model));
        let mut total = Evaluation::default();
        for batch in self.examples.chunks(batch_size) {
            check_interrupt()?;
            let (hidden, targets) = reader.masked_states(batch);
            let part = evaluate(&hidden, &decoder, &targets);
            total.surprisal += part.surprisal;
            total.hits += part.hits;
            total.positions += part.positions;
        }
        let mean = |sum: f64| sum / total.positions as f64;
        let (loss, accuracy) = (mean(total.surprisal), mean(total.hits as f64));
        Ok((total.positions > 0).then_some(Score { loss, accuracy, perplexity: loss.exp() }))
    }
}

/// `None` for a row in which nothing may be masked.
fn masked(table: &Tokens, row: usize, mask_id: u32) -> Option<Example> {
    let words = table.word.row(row);
    let maskable: Vec<u32> = (0..words.len() as u32).filter(|&i| words[i as usize].is_some()).collect();
    let budget = budget(RATE, maskable.len());
    let order = shuffled(maskable.len(), &mut keyed(SEED, "validation", table.row[row], 0));
    let mut positions: Vec<u32> = order[..budget].iter().map(|&i| maskable[i]).collect();
    positions.sort_unstable();
    let inputs = std::iter::repeat_n(mask_id, budget);
    Example::masked(table.input_ids.row(row), positions.into_iter(), inputs).filter(|_| budget > 0)
}

#[cfg(test)]
mod tests {
    use entromask_artifact::Kind;

    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn the_mask_is_fixed_and_spares_special_tokens() -> Result<()> {
        let fixture = Fixture::new()?;
        let manifest = Manifest::load(&fixture.tokens(), Kind::Tokens)?;
        let read = |rows| Validation::read(&fixture.tokens(), &manifest, 4, rows).map(|valid| valid.examples);
        let all = read(100)?;
        assert_eq!((all.len(), read(4)?), (6, all[..4].to_vec()));
        for example in &all {
            assert_eq!(example.positions.len(), 1, "15 % of four or six tokens");
            assert!(
                example.positions[0] > 0 && (example.positions[0] as usize) < example.input_ids.len() - 1
            );
            assert_eq!(example.input_ids[example.positions[0] as usize], 4);
        }
        Ok(())
    }
}
