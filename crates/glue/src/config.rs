//! Configuration of the stage.

mod freeze;
mod recipe;
mod seeds;

use std::collections::BTreeMap;
use std::path::PathBuf;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};

use crate::task::{self, Task};
pub use freeze::Freeze;
pub use recipe::{FineTuning, Head};
pub use seeds::Seeds;

/// The most recipes that a grid may have.
const LARGEST_GRID: usize = 64;

/// What is fine-tuned on, how, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder in GLUE's official layout. Its content counts, not its name.
    pub data: PathBuf,
    /// Names of the tasks. By default all of GLUE, or those of the task files if there are any.
    pub tasks: Option<Vec<String>>,
    /// A list of seeds, or how many: `3` means 1, 2 and 3.
    pub seeds: Seeds,
    /// The recipe of all tasks.
    pub recipe: FineTuning,
    /// What single tasks do differently, e.g. `[task.WNLI]` with `epochs = 1`.
    pub task: BTreeMap<String, toml::Table>,
    /// Values of the recipe's keys to choose from, each with each, e.g. `lr = [1e-5, 3e-5]`. The choice is made for each
    /// task by the mean over the seeds on one half of the dev rows, and the other half is reported.
    pub grid: BTreeMap<String, Vec<toml::Value>>,
    /// Keep the fine-tuned classifiers, each a Hugging Face folder beside its scores.
    pub save: bool,
    /// What does not change the result.
    pub run: RunConfig,
}

/// Settings that do not change the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Rows of a forward pass when scoring; on the CPU, of the head's in a probe.
    pub eval_batch_size: usize,
}

/// A task with the recipes that are tried on it, one if there is no grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The task.
    pub task: Task,
    /// The recipes, in the order of the grid.
    pub recipes: Vec<FineTuning>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "data/glue-data".into(),
            tasks: None,
            seeds: Seeds::first(5),
            recipe: FineTuning::default(),
            task: BTreeMap::new(),
            grid: BTreeMap::new(),
            save: false,
            run: RunConfig::default(),
        }
    }
}

impl Default for RunConfig {
    fn default() -> Self {
        Self { eval_batch_size: 64 }
    }
}

impl Config {
    /// The tasks with their recipes: those of `files` in their order, then those of GLUE in the order of its table.
    ///
    /// # Errors
    /// A [`Fault`] of class usage for unknown or repeated names, none at all, or a recipe out of bounds.
    pub fn resolve(&self, files: &[Task]) -> anyhow::Result<Vec<Resolved>> {
        let known: Vec<&Task> = files.iter().chain(task::glue()).collect();
        self.check(&known)?;
        let all: Vec<_> = if files.is_empty() { &known[..] } else { &known[..files.len()] }
            .iter()
            .map(|task| task.name.clone())
            .collect();
        let wanted = self.tasks.as_ref().unwrap_or(&all);
        check_names("tasks", wanted, &known)?;
        let listed = known.iter().filter(|task| wanted.contains(&task.name));
        let resolved =
            listed.map(|task| Ok(Resolved { task: (*task).clone(), recipes: self.recipes(&task.name)? }));
        let resolved = resolved.collect::<anyhow::Result<Vec<_>>>()?;
        resolved.iter().try_for_each(|one| check_origin(one, &resolved))?;
        if self.save {
            resolved.iter().try_for_each(check_head)?;
        }
        Ok(resolved)
    }

    fn check(&self, known: &[&Task]) -> anyhow::Result<()> {
        let names: Vec<_> = known.iter().map(|task| task.name.clone()).collect();
        check_names("--task-file", &names, known)?;
        for (name, table) in &self.task {
            check_names("[task]", std::slice::from_ref(name), known)?;
            // A mistake is one also where the task is not among `tasks`.
            self.recipe_of(name, self.table_of(Some(table))?)?;
        }
        if let Some(key) = ["max_length", "train_rows"].into_iter().find(|key| self.grid.contains_key(*key)) {
            return Err(Fault::usage(format!("`grid` has {key}"))
                .remedy("choose it beforehand: it changes the rows")
                .into());
        }
        let recipes: usize = self.grid.values().map(Vec::len).product();
        if !(1..=LARGEST_GRID).contains(&recipes) {
            return Err(Fault::usage(format!("`grid` has {recipes} recipes"))
                .remedy(format!("give each key some values, at most {LARGEST_GRID} recipes together"))
                .into());
        }
        recipe::counted("run.eval_batch_size", self.run.eval_batch_size as u64)
    }

    /// The recipe of a task for each point of the grid.
    fn recipes(&self, task: &str) -> anyhow::Result<Vec<FineTuning>> {
        let mut tables = vec![self.table_of(self.task.get(task))?];
        for (key, values) in &self.grid {
            let with = |table: &toml::Table, value: &toml::Value| {
                let mut table = table.clone();
                table.insert(key.clone(), value.clone());
                table
            };
            tables = tables.iter().flat_map(|table| values.iter().map(|value| with(table, value))).collect();
        }
        let recipes = tables.into_iter().map(|table| self.recipe_of(task, table));
        let recipes = recipes.collect::<anyhow::Result<Vec<_>>>()?;
        self.check_distinct(task, &recipes)?;
        Ok(recipes)
    }

    /// The recipe of all tasks, with what one does differently.
    fn table_of(&self, task: Option<&toml::Table>) -> anyhow::Result<toml::Table> {
        let mut table = toml::Table::try_from(&self.recipe)?;
        table.extend(task.cloned().unwrap_or_default());
        Ok(table)
    }

    /// Equal recipes would be one run that is counted twice.
    fn check_distinct(&self, task: &str, recipes: &[FineTuning]) -> anyhow::Result<()> {
        let is_repeated = |(index, recipe): (usize, &FineTuning)| recipes[..index].contains(recipe);
        if !recipes.iter().enumerate().any(is_repeated) {
            return Ok(());
        }
        let keys: Vec<_> = self
            .grid
            .iter()
            .map(|(key, values)| format!("{key} = {}", toml::Value::from(values.clone())))
            .collect();
        Err(Fault::usage(format!("`grid` ({}) has one recipe twice for {task}", keys.join(", ")))
            .remedy("give each key other values; `halves` is true in every grid")
            .into())
    }

    fn recipe_of(&self, task: &str, table: toml::Table) -> anyhow::Result<FineTuning> {
        let mut recipe: FineTuning = table
            .try_into()
            .map_err(|error| entromask_cli::misfit(&format!("[task.{task}] or [grid]"), &error))?;
        recipe.check()?;
        recipe.halves |= recipe.patience > 0 || !self.grid.is_empty();
        Ok(recipe)
    }
}

fn check_names(key: &str, names: &[String], known: &[&Task]) -> anyhow::Result<()> {
    if names.is_empty() {
        return Err(Fault::usage(format!("`{key}` is empty")).remedy("name at least one task").into());
    }
    for (index, name) in names.iter().enumerate() {
        if !known.iter().any(|task| task.name == *name) && Task::named(name).is_err() {
            let names: Vec<_> = known.iter().map(|task| task.name.as_str()).collect();
            return Err(Fault::usage(format!("`{key}`: task `{name}` is unknown"))
                .remedy(format!("the tasks are {}", names.join(", ")))
                .into());
        }
        if names[..index].contains(name) {
            return Err(Fault::usage(format!("`{key}` has {name} twice")).remedy("name it once").into());
        }
    }
    Ok(())
}

/// A task starts from another one that has one recipe, is fine-tuned by the same stage and starts from none itself.
fn check_origin(one: &Resolved, all: &[Resolved]) -> anyhow::Result<()> {
    let name = &one.task.name;
    for from in one.recipes.iter().filter_map(|recipe| recipe.from.as_ref()) {
        let origin = all.iter().find(|other| other.task.name == *from && from != name);
        let problem = match origin {
            None => "which is not among the other tasks",
            Some(origin) if origin.recipes.len() > 1 => "which has a grid itself",
            Some(origin) if origin.recipes[0].from.is_some() => "which starts from another task itself",
            Some(origin) if origin.recipes[0].head != Head::Pooler => "which has no pooler",
            Some(_) => continue,
        };
        return Err(Fault::usage(format!("[task.{name}] starts from {from}, {problem}"))
            .remedy("add it to `tasks`, or leave `from` out")
            .into());
    }
    Ok(())
}

/// A classifier without a pooler is none that `transformers` knows.
fn check_head(one: &Resolved) -> anyhow::Result<()> {
    let other = one.recipes.iter().find(|recipe| recipe.head != Head::Pooler);
    other.map_or(Ok(()), |_| {
        Err(Fault::usage(format!("`save`: the head of {} is no pooler", one.task.name))
            .remedy("leave `save` or `head` out")
            .into())
    })
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    fn parse(text: &str) -> anyhow::Result<Config> {
        Ok(toml::from_str(text)?)
    }

    #[test]
    fn a_task_can_differ_in_some_keys() -> anyhow::Result<()> {
        let config = parse("tasks = [\"WNLI\", \"QNLI\"]\nrecipe.lr = 1e-4\n[task.WNLI]\nepochs = 1")?;
        let resolved = config.resolve(&[])?;
        let facts: Vec<_> = resolved
            .iter()
            .map(|one| (one.task.name.as_str(), one.recipes[0].lr, one.recipes[0].epochs))
            .collect();
        assert_eq!(facts, [("QNLI", 1e-4, 5), ("WNLI", 1e-4, 1)]);
        Ok(())
    }

    #[test]
    fn a_grid_is_every_value_with_every_other_and_halves_the_dev_rows() -> anyhow::Result<()> {
        let config = parse("tasks = [\"RTE\"]\n[grid]\nlr = [1e-5, 3e-5]\nbatch_size = [16, 32]\n")?;
        let found: Vec<_> =
            config.resolve(&[])?[0].recipes.iter().map(|r| (r.batch_size, r.lr, r.halves)).collect();
        assert_eq!(found, [(16, 1e-5, true), (16, 3e-5, true), (32, 1e-5, true), (32, 3e-5, true)]);
        assert!(parse("[recipe]\npatience = 5")?.resolve(&[])?[0].recipes[0].halves);
        assert!(!Config::default().resolve(&[])?[0].recipes[0].halves);
        Ok(())
    }

    #[test]
    fn tasks_of_files_stand_for_all_tasks_unless_some_are_named() -> anyhow::Result<()> {
        let mine = Task { name: "mine".into(), ..Task::named("RTE")?.clone() };
        let names = |config: &Config, files: &[Task]| -> anyhow::Result<Vec<String>> {
            Ok(config.resolve(files)?.into_iter().map(|one| one.task.name).collect())
        };
        assert_eq!(names(&Config::default(), &[])?.len(), 9);
        assert_eq!(names(&Config::default(), std::slice::from_ref(&mine))?, ["mine"]);
        assert_eq!(
            names(&parse("tasks = [\"RTE\", \"mine\"]")?, std::slice::from_ref(&mine))?,
            ["mine", "RTE"]
        );
        let error =
            names(&Config::default(), &[Task::named("RTE")?.clone()]).expect_err("RTE is one of GLUE's");
        assert!(error.to_string().contains("RTE twice"), "{error}");
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
            ("tasks = [\"WNLI\"]\n[task.RTE]\nepoch = 1", "epoch"),
            ("recipe.lr = nan", "`lr` is NaN"),
            ("recipe.dropout = 1.0", "`dropout` is 1"),
            ("recipe.batch_size = 0", "`batch_size` is 0"),
            (
                "recipe.batch_size = 576460752303423488",
                "is 576460752303423488; it must be from 1 to 4294967295",
            ),
            ("recipe.epochs = 9223372036854775807", "`epochs` is"),
            ("[grid]\nbatch_size = [16, 576460752303423488]", "`batch_size` is"),
            ("recipe.train_rows = 0", "`train_rows` is 0"),
            ("[task.RTE]\ntrain_rows = 0", "`train_rows` is 0"),
            ("[grid]\ntrain_rows = [64, 128]", "`grid` has train_rows"),
            ("recipe.max_length = 4", "`max_length` is 4"),
            ("recipe.betas = [0.9, 1.0]", "`betas` is 1"),
            ("run.eval_batch_size = 0", "`run.eval_batch_size` is 0"),
            ("run.eval_batch_size = 4294967296", "`run.eval_batch_size` is 4294967296"),
            ("save = true\nrecipe.head = \"mean\"", "is no pooler"),
            ("[grid]\nlr = []", "`grid` has 0 recipes"),
            ("[grid]\nrate = [1]", "rate"),
            ("[grid]\nmax_length = [64, 128]", "`grid` has max_length"),
            ("[grid]\nlr = [3]", "`lr` is 3"),
            ("[grid]\nlr = [1e-4, 1e-4]", "lr = [0.0001, 0.0001]) has one recipe twice for CoLA"),
            ("[grid]\nhalves = [true, false]", "has one recipe twice"),
            ("tasks = [\"RTE\"]\n[task.RTE]\nfrom = \"MNLI\"", "not among the other tasks"),
            ("tasks = [\"RTE\"]\n[task.RTE]\nfrom = \"RTE\"", "not among the other tasks"),
            (
                "tasks = [\"RTE\", \"MNLI\"]\n[task.RTE]\nfrom = \"MNLI\"\n[grid]\nlr = [1e-5, 2e-5]",
                "has a grid itself",
            ),
            (
                "tasks = [\"RTE\", \"MNLI\", \"QNLI\"]\n[task.RTE]\nfrom = \"MNLI\"\n[task.MNLI]\nfrom = \"QNLI\"",
                "starts from another task itself",
            ),
        ];
        for (text, named) in cases {
            let error = parse(text)?.resolve(&[]).expect_err(text);
            assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{text}");
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
        Ok(())
    }

    #[test]
    fn what_is_frozen_is_a_name() -> anyhow::Result<()> {
        assert_eq!(parse("recipe.freeze = \"bottom-3\"")?.recipe.freeze, Freeze::Bottom(3));
        assert!(parse("recipe.freeze = \"top\"").is_err());
        Ok(())
    }
}
