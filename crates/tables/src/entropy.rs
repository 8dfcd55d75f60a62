//! The entropy table.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{Float32Type, UInt64Type};
use entromask_fault::Fault;

use crate::column::{Columns, nullable_lists, scalars};
use crate::{Ragged, file};

/// The columns that every part has.
const ALWAYS: [&str; 3] = ["row", "entropy", "surprisal"];

/// One part of the entropy table, column by column. Lists are as long as the row's `input_ids`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entropies {
    /// Number of each row in the split.
    pub row: Vec<u64>,
    /// Entropy of the model's prediction at each position, in nats; `None` where it was not scored.
    pub entropy: Ragged<Option<f32>>,
    /// −ln q(original token) at each position, in nats.
    pub surprisal: Ragged<Option<f32>>,
    /// Further measures by the name of their column; `None` exactly where the entropy is.
    pub measures: BTreeMap<String, Ragged<Option<f32>>>,
}

impl Entropies {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row.len()
    }

    /// The measure in column `name`: `entropy`, `surprisal`, or one of the further ones that were read.
    pub fn measure(&self, name: &str) -> Option<&Ragged<Option<f32>>> {
        match name {
            "entropy" => Some(&self.entropy),
            "surprisal" => Some(&self.surprisal),
            _ => self.measures.get(name),
        }
    }

    /// Writes the part to `path`, the further measures behind the others in the order of their names.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let mut columns = vec![
            scalars::<UInt64Type>("row", &self.row),
            nullable_lists::<Float32Type>("entropy", &self.entropy),
            nullable_lists::<Float32Type>("surprisal", &self.surprisal),
        ];
        columns.extend(self.measures.iter().map(|(name, rows)| nullable_lists::<Float32Type>(name, rows)));
        file::write(path, columns, footer)
    }

    /// Reads the part at `path` without further measures.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_measures(path, &[])
    }

    /// Reads the part at `path` with the measures called `names`; `entropy` and `surprisal` are always read.
    ///
    /// # Errors
    /// As [`Entropies::read`], and if a measure was not scored.
    pub fn read_measures(path: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let further: Vec<&str> = names.iter().copied().filter(|name| !ALWAYS.contains(name)).collect();
        if !further.is_empty() {
            check_scored(path, &further)?;
        }
        let measures = further.iter().map(|&name| (name.to_owned(), Ragged::default())).collect();
        let mut part = Self { measures, ..Self::default() };
        file::read(path, &[&ALWAYS, further.as_slice()].concat(), |batch| part.append(batch))?;
        let mut lists =
            vec![("entropy", part.entropy.offsets.as_slice()), ("surprisal", &part.surprisal.offsets)];
        lists.extend(part.measures.iter().map(|(name, rows)| (name.as_str(), rows.offsets.as_slice())));
        file::check_aligned(path, &lists)?;
        Ok(part)
    }

    /// Names of the further measures that the part at `path` has, in order.
    ///
    /// # Errors
    /// As [`Entropies::read`].
    pub fn measures_of(path: &Path) -> anyhow::Result<Vec<String>> {
        let mut names = file::columns(path)?;
        names.retain(|name| !ALWAYS.contains(&name.as_str()));
        names.sort();
        Ok(names)
    }

    fn append(&mut self, batch: &Columns) -> anyhow::Result<()> {
        batch.scalars::<UInt64Type>("row", &mut self.row)?;
        batch.nullable_lists::<Float32Type>("entropy", &mut self.entropy)?;
        batch.nullable_lists::<Float32Type>("surprisal", &mut self.surprisal)?;
        let mut further = self.measures.iter_mut();
        further.try_for_each(|(name, rows)| batch.nullable_lists::<Float32Type>(name, rows))
    }
}

fn check_scored(path: &Path, names: &[&str]) -> anyhow::Result<()> {
    let there = Entropies::measures_of(path)?;
    match names.iter().find(|&&name| !there.iter().any(|known| known == name)) {
        None => Ok(()),
        Some(name) => Err(Fault::input(format!("{}: the measure `{name}` was not scored", path.display()))
            .remedy(format!("score again with `{name}` among the `measures` of the score config"))
            .into()),
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
        let part = Entropies {
            row: (0..rows).collect(),
            entropy: lists(0.5),
            surprisal: lists(2.0),
            ..Entropies::default()
        };
        let file = tempfile::NamedTempFile::new()?;
        part.write(file.path(), &[])?;
        assert_eq!(Entropies::read(file.path())?, part);
        Ok(())
    }

    fn with_measures() -> Entropies {
        let list = |value| Ragged::from_rows([vec![None, Some(value)], vec![]]);
        let measures = [("renyi2", list(0.3)), ("margin", list(0.7))].map(|(name, rows)| (name.into(), rows));
        let (entropy, surprisal) = (list(0.5), list(1.5));
        Entropies { row: vec![0, 1], entropy, surprisal, measures: measures.into() }
    }

    #[test]
    fn measures_are_read_by_name() -> anyhow::Result<()> {
        let (file, part) = (tempfile::NamedTempFile::new()?, with_measures());
        part.write(file.path(), &[])?;
        assert_eq!(Entropies::measures_of(file.path())?, ["margin", "renyi2"]);
        assert_eq!(Entropies::read_measures(file.path(), &["margin", "renyi2", "entropy"])?, part);
        let one = Entropies::read_measures(file.path(), &["renyi2"])?;
        assert_eq!(one.measure("renyi2"), part.measures.get("renyi2"));
        assert_eq!((one.measure("entropy"), one.measure("margin")), (Some(&part.entropy), None));
        assert!(Entropies::read(file.path())?.measures.is_empty());
        Ok(())
    }

    #[test]
    fn a_measure_that_was_not_scored_is_named() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        with_measures().write(file.path(), &[])?;
        let error = Entropies::read_measures(file.path(), &["renyi2", "min_entropy"]).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        assert!(error.to_string().contains("`min_entropy` was not scored"), "{error}");
        Ok(())
    }
}
