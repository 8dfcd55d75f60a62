//! The table of fine-tuning scores.

use std::path::Path;

use arrow::datatypes::{Float64Type, UInt64Type};

use crate::column::{Columns, scalars, strings};
use crate::file;

/// Fine-tuning scores: one row for each task, metric and seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Key in the manifest of the model that was fine-tuned; empty for a folder without one.
    pub model_key: Vec<String>,
    /// Content digest of the model.
    pub model: Vec<String>,
    /// Task.
    pub task: Vec<String>,
    /// Metric, and split if the task has several.
    pub metric: Vec<String>,
    /// Seed of head, order and dropout.
    pub seed: Vec<u64>,
    /// The most that one answer to all rows gets, in percent.
    pub floor: Vec<f64>,
    /// What the model gets, in percent.
    pub value: Vec<f64>,
}

impl Scores {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.seed.len()
    }

    /// Writes the table to `path`.
    pub fn write(&self, path: &Path, footer: &[(String, String)]) -> anyhow::Result<()> {
        let columns = vec![
            strings("model_key", &self.model_key),
            strings("model", &self.model),
            strings("task", &self.task),
            strings("metric", &self.metric),
            scalars::<UInt64Type>("seed", &self.seed),
            scalars::<Float64Type>("floor", &self.floor),
            scalars::<Float64Type>("value", &self.value),
        ];
        file::write(path, columns, footer)
    }

    /// Reads the table at `path`.
    ///
    /// # Errors
    /// A `Fault` of class input if the file is missing, damaged or another table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut table = Self::default();
        let names = ["model_key", "model", "task", "metric", "seed", "floor", "value"];
        file::read(path, &names, |batch| table.append(batch))?;
        Ok(table)
    }

    fn append(&mut self, batch: &Columns) -> anyhow::Result<()> {
        batch.strings("model_key", &mut self.model_key)?;
        batch.strings("model", &mut self.model)?;
        batch.strings("task", &mut self.task)?;
        batch.strings("metric", &mut self.metric)?;
        batch.scalars::<UInt64Type>("seed", &mut self.seed)?;
        batch.scalars::<Float64Type>("floor", &mut self.floor)?;
        batch.scalars::<Float64Type>("value", &mut self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() -> anyhow::Result<()> {
        let texts = |text: &str| vec![text.to_string(), String::new()];
        let table = Scores {
            model_key: texts("k"),
            model: texts("m"),
            task: texts("RTE"),
            metric: texts("accuracy"),
            seed: vec![1, u64::MAX],
            floor: vec![52.7, 0.0],
            value: vec![60.25, -1.5],
        };
        let file = tempfile::NamedTempFile::new()?;
        table.write(file.path(), &[])?;
        assert_eq!(Scores::read(file.path())?, table);
        Ok(())
    }
}
