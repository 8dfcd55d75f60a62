//! What a job is made of: tasks, recipes and seeds, and the file of each run.

use std::path::Path;

use entromask_artifact::{Input, Kind, OutputSpec, Recipe};
use fs_err as fs;
use serde_json::{Map, Value, json};

use crate::config::{FineTuning, Freeze, Resolved, Seeds};
use crate::data;
use crate::finetune::TaskData;
use crate::halves::halves;
use crate::model::{self, Source};
use crate::results::RunResult;
use crate::rows::{RowTokenizer, Tokenized};
use crate::sample::sample;
use crate::stage::Job;
use crate::task::Task;

/// A job with everything resolved.
pub(crate) struct Plan<'a> {
    pub(crate) job: &'a Job,
    pub(crate) model: Input,
    pub(crate) tasks: Vec<Planned>,
}

/// A task with its recipes and files.
pub(crate) struct Planned {
    pub(crate) task: Task,
    pub(crate) recipes: Vec<FineTuning>,
    input: Input,
}

/// One run: the places of its task and its recipe, and the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) task: usize,
    pub(crate) recipe: usize,
    pub(crate) seed: u64,
}

/// The tasks of a job, whose files are there.
pub(crate) fn tasks(job: &Job) -> anyhow::Result<Vec<Planned>> {
    let files = Task::from_files(&job.task_files)?;
    let planned = |one: Resolved| Planned::new(&job.config.data, one.task, one.recipes);
    job.config.resolve(&files)?.into_iter().map(planned).collect()
}

impl<'a> Plan<'a> {
    pub(crate) fn new(job: &'a Job) -> anyhow::Result<Self> {
        Ok(Self { job, model: model::input(&job.model)?, tasks: tasks(job)? })
    }

    /// What the artifact is made of.
    pub(crate) fn recipe(&self) -> Recipe {
        let one = |planned: &Planned| match &planned.recipes[..] {
            [recipe] => json!(recipe),
            recipes => json!(recipes),
        };
        let tasks: Map<_, _> =
            self.tasks.iter().map(|planned| (planned.task.name.clone(), one(planned))).collect();
        let mut config = json!({"tasks": tasks, "seeds": self.seeds(), "dtype": self.job.dtype});
        self.name_products(&mut config);
        name_corrections(&mut config, self.tasks.iter().flat_map(|planned| &planned.recipes));
        let own = self.tasks.iter().filter(|planned| !planned.task.is_glue());
        let definitions: Map<_, _> =
            own.map(|planned| (planned.task.name.clone(), json!(planned.task))).collect();
        if !definitions.is_empty() {
            config["definitions"] = Value::Object(definitions);
        }
        if RowTokenizer::has_dropout(&self.job.model) {
            // Once such a tokenizer split words by chance.
            config["dropout"] = json!("none");
        }
        if self.job.config.save {
            config["save"] = json!(true);
        }
        let inputs = self.tasks.iter().map(|planned| planned.input.clone());
        Recipe {
            kind: Kind::Glue,
            config,
            inputs: std::iter::once(self.model.clone()).chain(inputs).collect(),
        }
    }

    pub(crate) fn seeds(&self) -> &Seeds {
        &self.job.config.seeds
    }

    /// All runs, those first that others start from.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let all = || {
            self.tasks.iter().enumerate().flat_map(|(task, planned)| {
                let recipes = 0..planned.recipes.len();
                recipes
                    .flat_map(move |recipe| self.seeds().iter().map(move |seed| Unit { task, recipe, seed }))
            })
        };
        let starts = |unit: &Unit| self.recipe_of(*unit).from.is_some();
        all().filter(|unit| !starts(unit)).chain(all().filter(starts)).collect()
    }

    pub(crate) fn recipe_of(&self, unit: Unit) -> &FineTuning {
        &self.tasks[unit.task].recipes[unit.recipe]
    }

    /// The run that `unit` starts from.
    pub(crate) fn origin(&self, unit: Unit) -> Option<Unit> {
        let from = self.recipe_of(unit).from.as_ref()?;
        let task = self.tasks.iter().position(|planned| planned.task.name == *from)?;
        Some(Unit { task, recipe: 0, seed: unit.seed })
    }

    /// Whether the classifier of a run is kept.
    pub(crate) fn is_saved(&self, unit: Unit) -> bool {
        let name = &self.tasks[unit.task].task.name;
        let mut recipes = self.tasks.iter().flat_map(|planned| &planned.recipes);
        self.job.config.save || recipes.any(|recipe| recipe.from.as_ref() == Some(name))
    }

    /// The file of a run without its extension, which is also the name of its classifier's folder. It carries the digest
    /// of all that decides the run, and of nothing else, so that runs survive when tasks and seeds are added.
    pub(crate) fn name(&self, unit: Unit) -> String {
        let planned = &self.tasks[unit.task];
        format!("{}-seed{}-{}", planned.task.name, unit.seed, self.short_key(unit))
    }

    /// The first digits of the run's own key.
    pub(crate) fn short_key(&self, unit: Unit) -> String {
        self.key(unit)[..8].to_owned()
    }

    /// Once bf16 was the type of everything, and now it is that of the matrix products.
    fn name_products(&self, config: &mut Value) {
        if self.job.dtype == "bf16" {
            config["products"] = "bf16".into();
        }
    }

    fn key(&self, unit: Unit) -> String {
        let (planned, seed) = (&self.tasks[unit.task], unit.seed);
        let recipe = self.recipe_of(unit);
        let mut config =
            json!({"task": planned.task.name, "recipe": recipe, "seed": seed, "dtype": self.job.dtype});
        self.name_products(&mut config);
        name_corrections(&mut config, [recipe]);
        if !planned.task.is_glue() {
            config["definition"] = json!(planned.task);
        }
        if let Some(origin) = self.origin(unit) {
            config["origin"] = json!(self.key(origin));
        }
        let inputs = vec![self.model.clone(), planned.input.clone()];
        Recipe { kind: Kind::Glue, config, inputs }.key()
    }

    /// The result of a run that `out` has; a damaged one, or one whose classifier is not whole, is done again.
    pub(crate) fn finished(&self, out: &Path, unit: Unit) -> Option<RunResult> {
        let bytes = fs::read(out.join(result_file(&self.name(unit)))).ok()?;
        let is_whole = self.outputs(out, unit).iter().all(|output| out.join(&output.file).is_file());
        serde_json::from_slice(&bytes).ok().filter(|_| is_whole)
    }

    /// The files of a run.
    pub(crate) fn outputs(&self, out: &Path, unit: Unit) -> Vec<OutputSpec> {
        let name = self.name(unit);
        let mut outputs = vec![OutputSpec::file(result_file(&name))];
        if self.is_saved(unit) {
            let files = ["config.json", "model.safetensors", "tokenizer.json"].into_iter();
            let further = ["tokenizer_config.json", "special_tokens_map.json"].into_iter();
            let further = further.filter(|file| out.join(&name).join(file).is_file());
            outputs.extend(files.chain(further).map(|file| OutputSpec::file(format!("{name}/{file}"))));
        }
        outputs
    }
}

/// The file with the result of the run `name`, which is written last: a run that has it is finished.
pub(crate) fn result_file(name: &str) -> String {
    format!("{name}.json")
}

/// Once the moments of what thaws in the course of a run were corrected by the steps of all, and now by their own.
fn name_corrections<'a>(config: &mut Value, recipes: impl IntoIterator<Item = &'a FineTuning>) {
    if recipes.into_iter().any(|recipe| recipe.freeze == Freeze::Gradual) {
        config["corrections"] = "own".into();
    }
}

impl Planned {
    fn new(data: &Path, task: Task, recipes: Vec<FineTuning>) -> anyhow::Result<Self> {
        let files = data::files(data, &task)?;
        let input = Input::files(&task.name, &task.dir(data), &files, "check `data` in the configuration")?;
        Ok(Self { task, recipes, input })
    }

    /// Reads and tokenizes the task.
    pub(crate) fn data(&self, data: &Path, source: &Source) -> anyhow::Result<TaskData> {
        let recipe = &self.recipes[0];
        let tokenizer = source.tokenizer(recipe.max_length)?;
        let train = data::read(data, &self.task, &self.task.train)?;
        let path = self.task.path(data, &self.task.train);
        let train = tokenizer.encode(&sample(train, recipe.train_rows, &path)?)?;
        let splits = self.task.dev.iter().map(|split| self.dev(data, &split.file, recipe.halves, &tokenizer));
        let (choose, dev): (Vec<_>, Vec<_>) = splits.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        Ok(TaskData { task: self.task.clone(), train, choose: choose.into_iter().flatten().collect(), dev })
    }

    /// The rows of a split to choose on, if it is halved, and those to report.
    fn dev(
        &self,
        data: &Path,
        file: &str,
        halved: bool,
        tokenizer: &RowTokenizer,
    ) -> anyhow::Result<(Option<Tokenized>, Tokenized)> {
        let split = data::read(data, &self.task, file)?;
        if !halved {
            return Ok((None, tokenizer.encode(&split)?));
        }
        let [choose, report] = halves(split, &self.task.path(data, file))?;
        Ok((Some(tokenizer.encode(&choose)?), tokenizer.encode(&report)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_thaws_has_another_key_than_before() {
        let config = |freeze| {
            let mut config = json!({});
            name_corrections(
                &mut config,
                [&FineTuning::default(), &FineTuning { freeze, ..FineTuning::default() }],
            );
            config
        };
        assert_eq!(config(Freeze::Bottom(2)), json!({}));
        assert_eq!(config(Freeze::Body), json!({}));
        assert_eq!(config(Freeze::Gradual), json!({"corrections": "own"}));
    }
}
