//! The table of soft targets.

use std::path::Path;

use arrow::datatypes::{Float32Type, UInt16Type, UInt32Type, UInt64Type};

use crate::column::{Columns, lists, scalars};
use crate::{Ragged, file};

/// One part of the table of soft targets, column by column: what a teacher says where the masks of one token part in one
/// epoch mask. A row of n masked positions has n values of `tail` and n · k of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Number of each row in the split.
    pub row: Vec<u64>,
    /// Epoch that the masks are for.
    pub epoch: Vec<u16>,
    /// The k most probable tokens of each masked position, by falling logit.
    pub tokens: Ragged<u32>,
    /// Their logits.
    pub logits: Ragged<f32>,
    /// Probability of all other tokens together, at the temperature of the artifact.
    pub tail: Ragged<f32>,
}

impl Targets {
    /// Writes the part to `path`.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let columns = vec![
            scalars::<UInt64Type>("row", &self.row),
            scalars::<UInt16Type>("epoch", &self.epoch),
            lists::<UInt32Type>("tokens", &self.tokens),
            lists::<Float32Type>("logits", &self.logits),
            lists::<Float32Type>("tail", &self.tail),
        ];
        file::write(path, columns, footer)
    }

    /// Reads the part at `path`.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut part = Self::default();
        file::read(path, &["row", "epoch", "tokens", "logits", "tail"], |batch| part.append(batch))?;
        file::check_aligned(path, &[("tokens", &part.tokens.offsets), ("logits", &part.logits.offsets)])?;
        Ok(part)
    }

    fn append(&mut self, batch: &Columns) -> anyhow::Result<()> {
        batch.scalars::<UInt64Type>("row", &mut self.row)?;
        batch.scalars::<UInt16Type>("epoch", &mut self.epoch)?;
        batch.lists::<UInt32Type>("tokens", &mut self.tokens)?;
        batch.lists::<Float32Type>("logits", &mut self.logits)?;
        batch.lists::<Float32Type>("tail", &mut self.tail)
    }
}
