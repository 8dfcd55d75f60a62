//! A grid as it is written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::Axis;

/// Axes with a value or a list of values each.
pub(super) type Block = BTreeMap<Axis, Value>;

/// The grid file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Headline of the report.
    pub title: String,
    /// What it asks.
    #[serde(default)]
    pub about: String,
    /// Stages that are made side by side.
    #[serde(default = "one")]
    pub jobs: usize,
    /// Threads of each stage.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Fine-tuning configurations.
    #[serde(default)]
    pub glue: Vec<String>,
    /// Choices that a run's baseline makes instead of the run's own; several baselines in a list.
    #[serde(default)]
    pub baseline: Baselines,
    /// Values of all runs.
    #[serde(default)]
    pub fixed: Block,
    /// Values that are combined, each with each.
    #[serde(default)]
    pub axes: Block,
    /// Combinations that are left out.
    #[serde(default)]
    pub exclude: Vec<Block>,
    /// Further runs.
    #[serde(default)]
    pub runs: Vec<Block>,
    /// Named schedules, whose keys are those of `--set`: what is in a table has the table's name and a dot before its own.
    #[serde(deserialize_with = "dotted")]
    #[serde(default)]
    pub schedules: BTreeMap<String, Table>,
}

/// What may be written as a table or as a list of tables.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Baselines(pub Vec<Block>);

impl TryFrom<Value> for Baselines {
    type Error = toml::de::Error;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let blocks = values(&value).iter().cloned().map(Value::try_into);
        blocks.collect::<Result<_, _>>().map(Self)
    }
}

fn one() -> usize {
    1
}

impl File {
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        entromask_cli::load_file(path)
    }
}

/// The values of an axis: those of a list, or the one that is no list.
pub(super) fn values(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// `policy.temperature = 2.0` and `"policy.temperature" = 2.0` are the same key.
fn dotted<'de, D: Deserializer<'de>>(schedules: D) -> Result<BTreeMap<String, Table>, D::Error> {
    let schedules = BTreeMap::<String, Table>::deserialize(schedules)?;
    Ok(schedules.into_iter().map(|(name, schedule)| (name, flattened(schedule))).collect())
}

/// Only the policy has parameters of its own; other tables are values.
fn flattened(schedule: Table) -> Table {
    let keys = schedule.into_iter().flat_map(|(key, value)| match value {
        Value::Table(policy) if key == "policy" => {
            policy.into_iter().map(|(parameter, value)| (format!("policy.{parameter}"), value)).collect()
        }
        value => vec![(key, value)],
    });
    keys.collect()
}
