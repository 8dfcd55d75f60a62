//! One measure of the entropy table, whatever measures it has.

use std::path::Path;

use arrow::datatypes::{Float32Type, UInt64Type};

use crate::{Ragged, file};

/// One column of one part of the entropy table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measure {
    /// Number of each row in the split.
    pub row: Vec<u64>,
    /// The value at each position; `None` where it was not scored.
    pub values: Ragged<Option<f32>>,
}

impl Measure {
    /// Reads the column `name` of the part at `path`, a list of f32, and nothing else.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged, or has no such column.
    pub fn read(path: &Path, name: &str) -> anyhow::Result<Self> {
        Self::check(path, name)?;
        let mut part = Self::default();
        file::read(path, &["row", name], |batch| {
            batch.scalars::<UInt64Type>("row", &mut part.row)?;
            batch.nullable_lists::<Float32Type>(name, &mut part.values)
        })?;
        Ok(part)
    }

    /// Looks whether the part at `path` has the column `name`.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for what only the rows tell.
    pub fn check(path: &Path, name: &str) -> anyhow::Result<()> {
        file::require(path, name, "score the tokens again with that measure, or choose another")
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;
    use crate::Entropies;

    #[test]
    fn a_column_is_read_by_its_name() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let lists = |scale: f32| Ragged::from_rows([vec![None, Some(scale)], vec![Some(2.0 * scale)]]);
        let part =
            Entropies { row: vec![0, 1], entropy: lists(1.0), surprisal: lists(3.0), ..Entropies::default() };
        part.write(file.path(), &[])?;
        let found = Measure::read(file.path(), "surprisal")?;
        assert_eq!(found, Measure { row: vec![0, 1], values: lists(3.0) });
        for name in ["margin", "", "row"] {
            let error = Measure::read(file.path(), name).unwrap_err();
            assert_eq!(class_of(error.as_ref()).exit_code(), 3, "{name}: {error:#}");
        }
        let error = format!("{:#}", Measure::read(file.path(), "margin").unwrap_err());
        assert!(error.contains("no column `margin`") && error.contains("entropy, surprisal"), "{error}");
        Ok(())
    }
}
