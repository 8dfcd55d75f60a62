//! What a task is: files, columns, labels, metrics. The table of GLUE's tasks is `tasks.toml`.

use std::fmt;
use std::sync::LazyLock;

use entromask_fault::Fault;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::metric::Metric;

/// A classification or regression task over single sentences or pairs of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name, which is also that of the task's folder.
    pub name: String,
    /// File with the training rows.
    pub train: String,
    /// Splits to score.
    pub dev: Vec<DevSplit>,
    /// Whether the first line of each file names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Columns of the sentence or of the two sentences.
    pub text: Vec<Column>,
    /// Column of the label.
    pub label: Column,
    /// Labels in the order of the class numbers; empty for regression.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Least and largest target of a regression.
    #[serde(default)]
    pub range: Option<[f32; 2]>,
    /// What is measured, in the order of the report.
    pub metrics: Vec<Metric>,
    /// Whether rows with too few columns are expected, and skipped.
    #[serde(default)]
    pub short_rows: bool,
}

/// One split to score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevSplit {
    /// Appended to the names of the metrics; empty if it is the only split.
    pub name: String,
    /// File.
    pub file: String,
}

/// A column, by header name or 0-based index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By the name in the header.
    Name(String),
    /// By its place, from 0.
    Index(usize),
}

impl Task {
    /// The GLUE task called `name`.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that lists the known names.
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        let known = || glue().iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = glue().iter().find(|task| task.name == name);
        Ok(found.ok_or_else(|| {
            Fault::usage(format!("task `{name}` is unknown")).remedy(format!("the tasks are {}", known()))
        })?)
    }

    /// Whether the target is a number.
    pub fn is_regression(&self) -> bool {
        self.labels.is_empty()
    }

    /// Outputs of the classification head: one per label, or one for a regression.
    pub fn outputs(&self) -> usize {
        self.labels.len().max(1)
    }

    /// The training file and the splits to score, in this order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.train.as_str()).chain(self.dev.iter().map(|split| split.file.as_str()))
    }
}

/// The nine tasks of GLUE.
pub fn glue() -> &'static [Task] {
    static TASKS: LazyLock<Vec<Task>> = LazyLock::new(|| {
        let table: Table =
            toml::from_str(include_str!("tasks.toml")).expect("the table is part of the program");
        table.task
    });
    &TASKS
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    task: Vec<Task>,
}

fn yes() -> bool {
    true
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Index(index) => write!(f, "number {}", index + 1),
        }
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnVisitor)
    }
}

struct ColumnVisitor;

impl Visitor<'_> for ColumnVisitor {
    type Value = Column;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column name or a 0-based column number")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Column, E> {
        Ok(Column::Name(name.into()))
    }

    fn visit_i64<E: Error>(self, index: i64) -> Result<Column, E> {
        usize::try_from(index).map(Column::Index).map_err(E::custom)
    }
}

impl Serialize for Column {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Index(index) => serializer.serialize_u64(*index as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    #[test]
    fn the_table_is_glue() {
        let names: Vec<_> = glue().iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]);
    }

    #[test]
    fn every_task_has_labels_or_a_range_and_columns_that_suit_its_header() {
        for task in glue() {
            assert_eq!(task.is_regression(), task.range.is_some(), "{}", task.name);
            assert!((1..=2).contains(&task.text.len()) && !task.metrics.is_empty(), "{}", task.name);
            let mut columns = task.text.iter().chain([&task.label]);
            assert!(columns.all(|column| matches!(column, Column::Name(_)) == task.header), "{}", task.name);
        }
    }

    #[test]
    fn an_unknown_task_lists_the_known_ones() {
        let error = Task::named("QNLI2").unwrap_err();
        assert_eq!(class_of(error.as_ref()).exit_code(), 2);
        assert!(error.to_string().contains("QNLI2") && error.to_string().contains("STS-B"), "{error}");
    }
}
