//! What the files that a grid names decide in the place of its axes: runs would not be what their names say.

use std::path::PathBuf;

use toml::{Table, Value};

use super::choice::CONSTANT;
use super::file::File;
use super::rules::refuse;
use super::{Axis, Catalogue, Choice, Run, Source, Transfer};

/// A file with what it says.
struct Recipe {
    /// The choice by which it is named, as in a grid.
    choice: String,
    path: PathBuf,
    table: Table,
}

/// A resolved choice against the recipe that trains the student, and against those of fine-tuning.
pub(super) fn check_choice(choice: &Choice, file: &File, catalogue: &Catalogue) -> anyhow::Result<()> {
    let recipe = Recipe::of(choice, catalogue)?;
    check_transfer(choice, file, &recipe)?;
    check_phases(choice, &recipe)?;
    check_online(choice, &recipe)?;
    if choice.freezing.is_empty() {
        return Ok(());
    }
    file.glue.iter().try_for_each(|name| check_freezing(&choice.freezing, &Recipe::glue(name, catalogue)?))
}

/// Axes that may be named with a recipe which decides in their place, but not vary: a budget takes as many epochs as it needs,
/// and masks that are chosen while training runs come after those of the strategy, or in their place.
pub(super) fn check_runs(runs: &[Run], catalogue: &Catalogue) -> anyhow::Result<()> {
    for (index, run) in runs.iter().enumerate() {
        let recipe = Recipe::of(&run.choice, catalogue)?;
        let others = || runs[..index].iter().filter(|other| other.choice.recipe() == run.choice.recipe());
        for (key, axis) in [("budget", Axis::Epochs), ("online", Axis::Strategy)] {
            let own = run.choice.get(axis);
            let other = others().map(|other| other.choice.get(axis)).find(|value| *value != own);
            if let Some(other) = other.filter(|_| recipe.value(key).is_some()) {
                let found = format!("{} = {other} and {own}", axis.name());
                let remedy = "give all of its runs one value, or take the key out there";
                return Err(recipe.decides(&found, key, remedy));
            }
        }
    }
    Ok(())
}

/// Reports of grids say that nothing was chosen on what is reported.
pub(super) fn check_halves(name: &str, catalogue: &Catalogue) -> anyhow::Result<()> {
    let recipe = Recipe::glue(name, catalogue)?;
    match recipe.of_a_task("halves").find(|key| recipe.value(key) == Some(&Value::Boolean(false))) {
        None => Ok(()),
        Some(key) => {
            let remedy = "take it out there: a grid reports on that half which nothing is chosen on";
            Err(recipe.decides("one half of each dev split", &key, remedy))
        }
    }
}

fn check_transfer(choice: &Choice, file: &File, recipe: &Recipe) -> anyhow::Result<()> {
    const MODE: &str = "transfer.mode";
    let complete = Value::from("complete");
    let is_guided = !choice.distillation.is_empty();
    if is_guided && names(file, Axis::Transfer) && recipe.value(MODE).unwrap_or(&complete) != &complete {
        let remedy = "take it out there, or leave transfer out here";
        return Err(recipe.decides("transfer", MODE, remedy));
    }
    Ok(())
}

/// A length in tokens counts where there is one in shares as well.
fn check_phases(choice: &Choice, recipe: &Recipe) -> anyhow::Result<()> {
    let lengths = [
        ("transfer.init_tokens", !choice.distillation.is_empty()),
        ("mask_transfer.init_tokens", choice.source == Source::Teacher),
    ];
    let set = lengths.into_iter().find(|(key, has_phases)| *has_phases && recipe.value(key).is_some());
    match set.filter(|_| choice.transfer != Transfer::Complete) {
        None => Ok(()),
        Some((key, _)) => {
            let found = format!("init_fraction = {}", choice.init_fraction);
            Err(recipe.decides(&found, key, "take it out there: a grid gives the length as a share"))
        }
    }
}

fn check_online(choice: &Choice, recipe: &Recipe) -> anyhow::Result<()> {
    if recipe.value("online").is_none() {
        return Ok(());
    }
    let found = if choice.source != Source::None {
        format!("source = {:?}", choice.get(Axis::Source))
    } else if let Some(rate) = choice.rate {
        format!("rate = {rate}")
    } else if choice.schedule != CONSTANT {
        format!("schedule = {:?}", choice.schedule)
    } else {
        return Ok(());
    };
    let remedy = "exclude the pair: [online.mask] there has rate and policy, and begins on masks for which no entropies are read";
    Err(recipe.decides(&found, "online", remedy))
}

fn check_freezing(freezing: &str, recipe: &Recipe) -> anyhow::Result<()> {
    let mut keys = recipe.of_a_task("freeze").chain(["grid.freeze".into()]);
    match keys.find(|key| recipe.value(key).is_some()) {
        None => Ok(()),
        Some(key) => {
            let remedy = "take it out there, or leave freezing out here";
            Err(recipe.decides(&format!("freezing = {freezing:?}"), &key, remedy))
        }
    }
}

impl Recipe {
    fn of(choice: &Choice, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let axis = if choice.distillation.is_empty() { Axis::Train } else { Axis::Distillation };
        Self::named(&axis.name(), "train", choice.recipe(), catalogue)
    }

    fn glue(name: &str, catalogue: &Catalogue) -> anyhow::Result<Self> {
        Self::named("glue", "glue", name, catalogue)
    }

    fn named(axis: &str, kind: &str, name: &str, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let (path, table) = (catalogue.path(kind, name), catalogue.table(kind, name)?);
        Ok(Self { choice: format!("{axis} = {name:?}"), path, table })
    }

    /// What it says of a key, such as `transfer.mode`.
    fn value(&self, key: &str) -> Option<&Value> {
        let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
        let value = self.table.get(first)?;
        rest.map_or(Some(value), |rest| rest.split('.').try_fold(value, |table, key| table.get(key)))
    }

    /// The key in the table of each task that differs from the others.
    fn of_a_task(&self, key: &str) -> impl Iterator<Item = String> {
        let tasks = self.table.get("task").and_then(Value::as_table).into_iter().flatten();
        tasks.map(move |(task, _)| format!("task.{task}.{key}"))
    }

    /// Refuses what is `found` in the grid.
    fn decides(&self, found: &str, key: &str, remedy: &str) -> anyhow::Error {
        let (choice, path) = (&self.choice, self.path.display());
        let value = self.value(key).filter(|value| !value.is_table());
        let value = value.map(|value| format!(" = {value}")).unwrap_or_default();
        refuse(format!("{found} with {choice}: {path} has `{key}`{value}, which counts instead"), remedy)
    }
}

/// Whether a grid says anything of an axis.
fn names(file: &File, axis: Axis) -> bool {
    let blocks = [&file.fixed, &file.axes].into_iter().chain(&file.runs).chain(&file.baseline.0);
    blocks.into_iter().any(|block| block.contains_key(&axis))
}
