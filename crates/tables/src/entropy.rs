//! The entropy table.

use std::path::Path;

use arrow::datatypes::{Float32Type, UInt64Type};

use crate::column::{Columns, nullable_lists, scalars};
use crate::{Ragged, file};

/// One part of the entropy table, column by column. Lists are as long as the row's `input_ids`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entropies {
    /// Number of each row in the split.
    pub row: Vec<u64>,
    /// Entropy of the model's prediction at each position, in nats; `None` where it was not scored.
    pub entropy: Ragged<Option<f32>>,
    /// −ln q(original token) at each position, in nats.
    pub surprisal: Ragged<Option<f32>>,
}

impl Entropies {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row.len()
    }

    /// Writes the part to `path`.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let columns = vec![
            scalars::<UInt64Type>("row", &self.row),
            nullable_lists::<Float32Type>("entropy", &self.entropy),
            nullable_lists::<Float32Type>("surprisal", &self.surprisal),
        ];
        file::write(path, columns, footer)
    }

    /// Reads the part at `path`.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut part = Self::default();
        file::read(path, &["row", "entropy", "surprisal"], |batch| part.append(batch))?;
        Ok(part)
    }

    fn append(&mut self, batch: &Columns) -> anyhow::Result<()> {
        batch.scalars::<UInt64Type>("row", &mut self.row)?;
        batch.nullable_lists::<Float32Type>("entropy", &mut self.entropy)?;
        batch.nullable_lists::<Float32Type>("surprisal", &mut self.surprisal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_across_row_groups() -> anyhow::Result<()> {
        let rows = 20_000u64;
        let lists = |scale: f32| {
            Ragged::from_rows((0..rows).map(|row| {
                (0..row % 5).map(move |i| (i != 1).then_some(row as f32 * scale)).collect::<Vec<_>>()
            }))
        };
        let part = Entropies { row: (0..rows).collect(), entropy: lists(0.5), surprisal: lists(2.0) };
        let file = tempfile::NamedTempFile::new()?;
        part.write(file.path(), &[])?;
        assert_eq!(Entropies::read(file.path())?, part);
        Ok(())
    }
}
