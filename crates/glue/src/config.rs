//! Configuration of the stage.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use entromask_fault::Fault;
use entromask_training::{AdamWConfig, Decay};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::task::{self, Task};

/// What is fine-tuned on, how, and how often.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder in GLUE's official layout. Its content counts, not its name.
    pub data: PathBuf,
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// A list of seeds, or how many: `3` means 1, 2 and 3.
    pub seeds: Seeds,
    /// The recipe of all tasks.
    pub recipe: FineTuning,
    /// What single tasks do differently, e.g. `[task.WNLI]` with `epochs = 1`.
    pub task: BTreeMap<String, toml::Table>,
    /// What does not change the result.
    pub run: RunConfig,
}

/// A fine-tuning recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuning {
    /// Rows of an optimizer step.
    pub batch_size: usize,
    /// Passes over the training rows.
    pub epochs: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of the steps over which the learning rate rises to its peak.
    pub warmup: f64,
    /// How the learning rate falls afterwards.
    pub decay: Decay,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub clip: f64,
    /// Dropout probability, in the encoder and before the classifier.
    pub dropout: f64,
    /// Longest row in tokens, special tokens included; the model's own limit holds too.
    pub max_length: usize,
}

/// Settings that do not change the result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Rows of a forward pass when scoring.
    pub eval_batch_size: usize,
}

/// Distinct seeds, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seeds(Vec<u64>);

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "data/glue".into(),
            tasks: task::glue().iter().map(|task| task.name.clone()).collect(),
            seeds: Seeds((1..=5).collect()),
            recipe: FineTuning::default(),
            task: BTreeMap::new(),
            run: RunConfig::default(),
        }
    }
}

impl Default for FineTuning {
    fn default() -> Self {
        Self {
            batch_size: 16,
            epochs: 5,
            lr: 4e-5,
            warmup: 0.1,
            decay: Decay::Cosine,
            weight_decay: 0.01,
            clip: 1.0,
            dropout: 0.1,
            max_length: 128,
        }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { eval_batch_size: 64 }
    }
}

impl Config {
    /// The tasks with their recipes, in the order of GLUE's table.
    ///
    /// # Errors
    /// A [`Fault`] of class usage for unknown or repeated names, none at all, or a recipe out of bounds.
    pub fn resolve(&self) -> anyhow::Result<Vec<(&'static Task, FineTuning)>> {
        let wanted = self.tasks.iter().map(|name| Task::named(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let listed = |task: &Task| wanted.iter().filter(|found| found.name == task.name).count();
        if wanted.is_empty() {
            return Err(Fault::usage("`tasks` is empty").remedy("name at least one task").into());
        }
        if let Some(twice) = wanted.iter().find(|task| listed(task) > 1) {
            return Err(Fault::usage(format!("`tasks` has {} twice", twice.name))
                .remedy("name it once")
                .into());
        }
        for name in self.task.keys() {
            Task::named(name)?;
        }
        self.run.check()?;
        task::glue()
            .iter()
            .filter(|task| listed(task) > 0)
            .map(|task| Ok((task, self.recipe_of(task)?)))
            .collect()
    }

    fn recipe_of(&self, task: &Task) -> anyhow::Result<FineTuning> {
        let mut table = toml::Table::try_from(&self.recipe)?;
        table.extend(self.task.get(&task.name).cloned().unwrap_or_default());
        let recipe: FineTuning = table
            .try_into()
            .map_err(|error| Fault::usage(format!("[task.{}]: {}", task.name, one_line(&error))))?;
        recipe.check()?;
        Ok(recipe)
    }
}

impl FineTuning {
    /// The optimizer's constants; the moments' decay rates are those of the original BERT recipe.
    pub fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { betas: [0.9, 0.999], eps: 1e-8, weight_decay: self.weight_decay, clip: self.clip }
    }

    fn check(&self) -> anyhow::Result<()> {
        at_least_one("batch_size", self.batch_size)?;
        at_least_one("epochs", self.epochs as usize)?;
        // Room for two tokens of each sentence beside three special tokens.
        within("max_length", self.max_length as f64, 8.0, f64::from(u16::MAX))?;
        within("lr", self.lr, f64::MIN_POSITIVE, 1.0)?;
        within("warmup", self.warmup, 0.0, 1.0)?;
        within("weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("clip", self.clip, 0.0, f64::MAX)?;
        within("dropout", self.dropout, 0.0, 0.9)
    }
}

impl RunConfig {
    fn check(&self) -> anyhow::Result<()> {
        at_least_one("run.eval_batch_size", self.eval_batch_size)
    }
}

impl Seeds {
    /// The seeds in the order given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u64> {
        self.0.iter().copied()
    }
}

fn at_least_one(key: &str, value: usize) -> anyhow::Result<()> {
    within(key, value as f64, 1.0, f64::MAX)
}

fn within(key: &str, value: f64, least: f64, largest: f64) -> anyhow::Result<()> {
    if (least..=largest).contains(&value) {
        return Ok(());
    }
    let bounds = match (least, largest) {
        (f64::MIN_POSITIVE, largest) => format!("above 0, up to {largest}"),
        (least, f64::MAX) => format!("at least {least}"),
        (least, largest) => format!("from {least} to {largest}"),
    };
    Err(Fault::usage(format!("`{key}` is {value}")).remedy(format!("it must be {bounds}")).into())
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', ", ")
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeedsVisitor)
    }
}

struct SeedsVisitor;

impl<'de> Visitor<'de> for SeedsVisitor {
    type Value = Seeds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of seeds (at least 1) or a list of distinct seeds")
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Seeds, E> {
        let count = u64::try_from(count).ok().filter(|&count| count > 0);
        count.map(|count| Seeds((1..=count).collect())).ok_or_else(|| E::custom("`seeds` must be at least 1"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seeds, A::Error> {
        let mut seeds = Vec::new();
        while let Some(seed) = items.next_element()? {
            if seeds.contains(&seed) {
                return Err(A::Error::custom(format_args!("`seeds` has {seed} twice")));
            }
            seeds.push(seed);
        }
        if seeds.is_empty() { Err(A::Error::custom("`seeds` is empty")) } else { Ok(Seeds(seeds)) }
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        Ok(toml::from_str(text)?)
    }

    #[test]
    fn seeds_are_a_count_or_a_list() -> anyhow::Result<()> {
        assert_eq!(parse("seeds = 3")?.seeds, Seeds(vec![1, 2, 3]));
        assert_eq!(parse("seeds = [7, 3]")?.seeds, Seeds(vec![7, 3]));
        for wrong in ["seeds = 0", "seeds = []", "seeds = [1, 1]", "seeds = -2", "seeds = \"one\""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_task_can_differ_in_some_keys() -> anyhow::Result<()> {
        let config = parse("tasks = [\"WNLI\", \"QNLI\"]\nrecipe.lr = 1e-4\n[task.WNLI]\nepochs = 1")?;
        let resolved = config.resolve()?;
        let facts: Vec<_> =
            resolved.iter().map(|(task, recipe)| (task.name.as_str(), recipe.lr, recipe.epochs)).collect();
        assert_eq!(facts, [("QNLI", 1e-4, 5), ("WNLI", 1e-4, 1)]);
        Ok(())
    }

    #[test]
    fn mistakes_are_usage_errors_that_name_them() -> anyhow::Result<()> {
        let cases = [
            ("tasks = []", "tasks"),
            ("tasks = [\"RTE\", \"RTE\"]", "RTE twice"),
            ("tasks = [\"XNLI\"]", "`XNLI` is unknown"),
            ("[task.XNLI]\nepochs = 1", "`XNLI` is unknown"),
            ("[task.RTE]\nepoch = 1", "epoch"),
            ("[task.RTE]\nlr = -1", "`lr` is -1"),
            ("recipe.lr = nan", "`lr` is NaN"),
            ("recipe.dropout = 1.0", "`dropout` is 1"),
            ("recipe.batch_size = 0", "`batch_size` is 0"),
            ("recipe.max_length = 4", "`max_length` is 4"),
            ("run.eval_batch_size = 0", "`run.eval_batch_size` is 0"),
        ];
        for (text, named) in cases {
            let error = parse(text)?.resolve().expect_err(text);
            assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{text}");
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
        Ok(())
    }
}
