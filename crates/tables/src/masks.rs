//! The masks table.

use std::path::Path;

use arrow::datatypes::{UInt16Type, UInt32Type, UInt64Type};

use crate::column::{Columns, lists, scalars};
use crate::{Ragged, file};

/// One part of the masks table, column by column: the masks of one token part in one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Masks {
    /// Number of each row in the split.
    pub row: Vec<u64>,
    /// Epoch that the mask is for.
    pub epoch: Vec<u16>,
    /// Masked positions of the row, ascending.
    pub positions: Ragged<u16>,
    /// What the model sees at these positions.
    pub inputs: Ragged<u32>,
}

impl Masks {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row.len()
    }

    /// Writes the part to `path`.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let columns = vec![
            scalars::<UInt64Type>("row", &self.row),
            scalars::<UInt16Type>("epoch", &self.epoch),
            lists::<UInt16Type>("positions", &self.positions),
            lists::<UInt32Type>("inputs", &self.inputs),
        ];
        file::write(path, columns, footer)
    }

    /// Reads the part at `path`.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut part = Self::default();
        file::read(path, &["row", "epoch", "positions", "inputs"], |batch| part.append(batch))?;
        let lists = [("positions", part.positions.offsets.as_slice()), ("inputs", &part.inputs.offsets)];
        file::check_aligned(path, &lists)?;
        Ok(part)
    }

    fn append(&mut self, batch: &Columns) -> anyhow::Result<()> {
        batch.scalars::<UInt64Type>("row", &mut self.row)?;
        batch.scalars::<UInt16Type>("epoch", &mut self.epoch)?;
        batch.lists::<UInt16Type>("positions", &mut self.positions)?;
        batch.lists::<UInt32Type>("inputs", &mut self.inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::nullable_lists;

    #[test]
    fn nulls_are_no_zeros() -> anyhow::Result<()> {
        let temporary = tempfile::NamedTempFile::new()?;
        let columns = vec![
            scalars::<UInt64Type>("row", &[0]),
            scalars::<UInt16Type>("epoch", &[0]),
            nullable_lists::<UInt16Type>("positions", &Ragged::from_rows([vec![Some(1), None]])),
            lists::<UInt32Type>("inputs", &Ragged::from_rows([vec![4, 4]])),
        ];
        file::write(temporary.path(), columns, &[])?;
        let error = Masks::read(temporary.path()).unwrap_err();
        assert!(error.to_string().contains("column `positions` has nulls"), "{error}");
        Ok(())
    }
}
