//! The stage: what is to be done, what an earlier run has done, the rest, the artifact.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::tensor::Device;
use entromask_artifact::{Begun, Cost, Manifest, OutputSpec, Recipe, Shard, Status, Workbench, status, tool};
use entromask_cli::{Progress, check_interrupt};
use entromask_fault::{Class, Fault, class_of};
use entromask_tables::Scores;
use entromask_training::is_divergence;
use fs_err as fs;
use serde_json::{Value, json};

use crate::config::{Config, Head};
use crate::features::TaskFeatures;
use crate::finetune::{FineTune, TaskData};
use crate::kept::Kept;
use crate::model::{self, Source};
use crate::plan::{self, Plan, Unit, result_file};
use crate::results::{RunResult, Summary};
use crate::seconds::{self, SECONDS};
use crate::workers::{self, Hire};

/// The summary's file.
pub(crate) const RESULTS: &str = "results.json";

/// The file with one row for each run and metric.
const TABLE: &str = "results.parquet";

/// What to fine-tune, and where.
#[derive(Clone, Debug)]
pub struct Job {
    /// Configuration.
    pub config: Config,
    /// Files that define tasks beyond GLUE.
    pub task_files: Vec<PathBuf>,
    /// Model folder.
    pub model: PathBuf,
    /// Device, e.g. `cpu`.
    pub device: String,
    /// Floating-point type, e.g. `f32`.
    pub dtype: String,
}

/// What one of several workers does.
#[derive(Clone, Debug)]
pub struct Share {
    /// Which of the workers it is.
    pub shard: Shard,
    /// Places of the runs that all workers do.
    pub runs: Vec<usize>,
    /// Key of the artifact that the runs are part of.
    pub key: String,
}

/// Fine-tunes on every task with every recipe and seed, and publishes the results in `out`. Runs that `out` has already
/// are kept. With `hire` its workers do the runs, and this process only publishes.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) for mistakes in configuration, model or data, before any training starts; of class
/// interrupted if the user asks to stop, in which case finished runs stay for the next time.
pub fn run(job: &Job, out: &Path, hire: Option<&Hire<'_>>) -> anyhow::Result<Summary> {
    let plan = Plan::new(job)?;
    if let Status::UpToDate(_) = status(out, &plan.recipe())? {
        return made(out);
    }
    let begin = || Workbench::begin(out, plan.recipe(), this_tool());
    let Begun::Work(mut bench) = begin()? else { return made(out) };
    plan.drop_changed(&bench)?;
    if let Some(hire) = hire {
        let lent = bench.lend()?;
        workers::run(&plan, out, hire)?;
        drop(lent);
        let Begun::Work(again) = begin()? else { return made(out) };
        bench = again;
    }
    plan.fine_tune(&bench, &plan.units())?;
    plan.publish(*bench)
}

/// What was made before, or by another process.
fn made(out: &Path) -> anyhow::Result<Summary> {
    tracing::info!("{}: up to date", out.display());
    Ok(serde_json::from_slice(&fs::read(out.join(RESULTS))?)?)
}

/// Does its share of the runs, and publishes nothing. Runs whose origin is not finished yet are left for later.
///
/// # Errors
/// As [`run`]; a [`Fault`] of class input if the runs would be of another artifact than those of the other workers.
pub fn run_shard(job: &Job, out: &Path, share: &Share) -> anyhow::Result<()> {
    let plan = Plan::new(job)?;
    let recipe = plan.recipe();
    if recipe.key() != share.key {
        let found = format!("{}: the model, a task or its data changed while the run began", out.display());
        return Err(Fault::input(found).remedy("run the same command again").into());
    }
    let begun = Workbench::begin_shard(out, recipe, this_tool(), share.shard, &job.device)?;
    let Begun::Work(bench) = begun else { return Ok(()) };
    let units = plan.units();
    let own = share.runs.iter().enumerate().filter(|(index, _)| share.shard.has(*index));
    let own: Vec<_> = own.filter_map(|(_, place)| units.get(*place).copied()).collect();
    plan.fine_tune(&bench, &own)
}

/// What the artifact of a job would be made of.
pub fn recipe(job: &Job) -> anyhow::Result<Recipe> {
    Ok(Plan::new(job)?.recipe())
}

/// Checks all of a job but its model, which may not be there yet.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) that names the key or the task whose files are missing.
pub fn check(job: &Job) -> anyhow::Result<()> {
    entromask_device::check(&job.device)?;
    plan::tasks(job).map(drop)
}

impl Plan<'_> {
    /// Runs whose files are not what the manifest lists are done again, whoever does the runs: their results are removed as long
    /// as the manifest is there to tell.
    fn drop_changed(&self, bench: &Workbench) -> anyhow::Result<()> {
        let Ok(manifest) = Manifest::load_any(bench.out()) else { return Ok(()) };
        for unit in self.units() {
            let files = self.outputs(bench.out(), unit);
            let is_its = |name: &str| files.iter().any(|output| output.file == name);
            let result = bench.out().join(result_file(&self.name(unit)));
            if let Some(error) = manifest.verify_read(bench.out(), is_its).err().filter(|_| result.exists()) {
                tracing::warn!("{}: done again: {error:#}", self.name(unit));
                fs::remove_file(result)?;
            }
        }
        Ok(())
    }

    /// Does those of `units` that are not finished.
    fn fine_tune(&self, bench: &Workbench, units: &[Unit]) -> anyhow::Result<()> {
        let todo: Vec<_> =
            units.iter().copied().filter(|unit| self.finished(bench.out(), *unit).is_none()).collect();
        if todo.is_empty() {
            return Ok(());
        }
        let (device, products) = entromask_device::open_to_train(&self.job.device, &self.job.dtype)?;
        let source = Source::open(&self.job.model)?.with_products(products);
        let data = self.read(&todo, &source)?;
        let tokens = |unit: &Unit| data[&unit.task].tokens(self.recipe_of(*unit));
        let progress = Progress::new("fine-tuning", todo.iter().map(tokens).sum());
        let (device, source, progress, features) = (&device, &source, &progress, RefCell::default());
        let runner = Runner { plan: self, bench, device, source, progress, features };
        let done = runner.run_all(&todo, &data);
        progress.finish();
        done.map_err(|error| self.explain(error, bench, units))
    }

    /// What an interruption leaves for the next time.
    fn explain(&self, error: anyhow::Error, bench: &Workbench, units: &[Unit]) -> anyhow::Error {
        if class_of(error.as_ref()) != Class::Interrupted {
            return error;
        }
        let kept = units.iter().filter(|unit| self.finished(bench.out(), **unit).is_some()).count();
        let at_work = units.iter().any(|unit| Kept::new(bench.state_of(&self.short_key(*unit))).exists());
        let at_work = if at_work { "goes on where it was" } else { "begins anew" };
        let remedy = format!(
            "run the same command again: {kept} of {} runs are kept, the one that was at work {at_work}",
            units.len()
        );
        Fault::interrupted().remedy(remedy).into()
    }

    /// Reads and tokenizes the tasks of `units`.
    fn read(&self, units: &[Unit], source: &Source) -> anyhow::Result<BTreeMap<usize, TaskData>> {
        let mut data = BTreeMap::new();
        for unit in units {
            check_interrupt()?;
            if let Entry::Vacant(place) = data.entry(unit.task) {
                place.insert(self.tasks[unit.task].data(&self.job.config.data, source)?);
            }
        }
        Ok(data)
    }

    fn publish(&self, bench: Workbench) -> anyhow::Result<Summary> {
        let runs = self.results(bench.out())?;
        let model_key = model::key(&self.job.model)?;
        let summary = Summary::new(&self.model.content, model_key, &runs);
        let table = table(&summary, &runs);
        let units = self.units();
        let names: Vec<_> = units.iter().map(|unit| self.name(*unit)).collect();
        let seconds = seconds::gather(&bench, &names)?;
        bench.write_bytes(RESULTS, &to_json(&summary)?)?;
        bench.write(TABLE, |path| table.write(path, &bench.footer()))?;
        let table = OutputSpec::part(TABLE.into(), table.rows() as u64);
        let files = [OutputSpec::file(RESULTS), table, OutputSpec::log(SECONDS)];
        let outputs = files.into_iter().chain(units.iter().flat_map(|unit| self.outputs(bench.out(), *unit)));
        let outputs = outputs.collect();
        let all = || runs.iter().flatten().flatten();
        let cost = Cost {
            seconds,
            flops: all().map(|run| run.flops).sum(),
            tokens: all().map(|run| run.tokens).sum(),
            device: self.job.device.clone(),
            ..Cost::default()
        };
        let out = bench.out().to_owned();
        bench.publish(outputs, stats(&summary), cost)?;
        seconds::tidy(&out, &names);
        Ok(summary)
    }

    /// Results by task, recipe and seed.
    fn results(&self, out: &Path) -> anyhow::Result<Vec<Vec<Vec<RunResult>>>> {
        let one = |task, recipe, seed| {
            let unit = Unit { task, recipe, seed };
            let name = self.name(unit);
            self.finished(out, unit)
                .ok_or_else(|| anyhow::anyhow!("{name} vanished while the stage was running"))
        };
        let seeds = |task, recipe| self.seeds().iter().map(move |seed| one(task, recipe, seed)).collect();
        let recipes =
            |task: usize| (0..self.tasks[task].recipes.len()).map(|recipe| seeds(task, recipe)).collect();
        (0..self.tasks.len()).map(recipes).collect()
    }
}

/// What all runs need.
struct Runner<'a> {
    plan: &'a Plan<'a>,
    bench: &'a Workbench,
    device: &'a Device,
    source: &'a Source,
    progress: &'a Progress,
    /// Those of the last probe: its runs with other seeds and recipes read them again.
    features: RefCell<Option<(Pooled, Rc<TaskFeatures>)>>,
}

/// What features depend on within a stage: task, head, and the run whose body it is, if it is not the model's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pooled {
    task: usize,
    head: Head,
    origin: Option<String>,
}

impl Runner<'_> {
    /// A run that diverges does not keep the others from being done.
    ///
    /// # Errors
    /// That of the first run that diverged, once all others are done, or what ends the stage.
    fn run_all(&self, units: &[Unit], data: &BTreeMap<usize, TaskData>) -> anyhow::Result<()> {
        let mut diverged = Vec::new();
        for unit in units {
            match self.run(*unit, &data[&unit.task]) {
                Err(error) if is_divergence(&error) => {
                    tracing::warn!("{error:#}");
                    diverged.push(error);
                }
                done => done?,
            }
        }
        let count = diverged.len();
        match diverged.into_iter().next() {
            Some(error) if count > 1 => {
                Err(error.context(format!("{count} runs diverged, the first of them")))
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn run(&self, unit: Unit, data: &TaskData) -> anyhow::Result<()> {
        let plan = self.plan;
        let mut kept = Kept::new(self.bench.state_of(&plan.short_key(unit)));
        let (recipe, out, name) = (plan.recipe_of(unit), self.bench.out(), plan.name(unit));
        let mut source = self.source.with_dropout(recipe.dropout);
        let mut pooled = Pooled { task: unit.task, head: recipe.head, origin: None };
        if let Some(origin) = plan.origin(unit) {
            if plan.finished(out, origin).is_none() {
                tracing::debug!("{name} waits for {}", plan.name(origin));
                return Ok(());
            }
            source = source.at(&out.join(plan.name(origin)));
            pooled.origin = Some(plan.name(origin));
        }
        self.progress.label(format!("{} seed {}", data.task.name, unit.seed));
        let mut tuning = FineTune {
            source,
            data,
            recipe,
            features: None,
            eval_batch_size: plan.job.config.run.eval_batch_size,
            device: self.device,
            progress: self.progress,
        };
        let features = recipe.is_probe().then(|| self.features(pooled, &tuning)).transpose()?;
        tuning.features = features.as_deref();
        let (folder, file) = (out.join(&name), result_file(&name));
        // What an earlier run has left must not stand beside what this one writes.
        self.bench.remove(&file)?;
        self.bench.remove(&name)?;
        let result = tuning.run(unit.seed, plan.is_saved(unit).then_some(folder.as_path()), &mut kept);
        if result.as_ref().is_err_and(is_divergence) {
            // It would diverge again.
            kept.clear();
            return result.map(drop);
        }
        let result = result?;
        let seconds = kept.seconds();
        seconds::note(self.bench, &name, seconds)?;
        self.bench.write_bytes(&file, &to_json(&result)?)?;
        kept.clear();
        tracing::info!("{}, {seconds:.1} s", line(&result));
        Ok(())
    }

    /// What the body says about the rows: what it said before, where nothing that matters has changed.
    fn features(&self, pooled: Pooled, tuning: &FineTune) -> anyhow::Result<Rc<TaskFeatures>> {
        if let Some((of, features)) = &*self.features.borrow()
            && *of == pooled
        {
            self.progress.inc(tuning.data.tokens(tuning.recipe));
            return Ok(features.clone());
        }
        let features = Rc::new(tuning.features()?);
        self.features.replace(Some((pooled, features.clone())));
        Ok(features)
    }
}

/// `RTE seed 1: accuracy 60.3, training loss 0.512`
pub(crate) fn line(result: &RunResult) -> String {
    let scores: Vec<_> =
        result.metrics.iter().map(|score| format!("{} {:.1}", score.name, score.value)).collect();
    let loss = result.train.loss.last().unwrap_or(&f64::NAN);
    format!("{} seed {}: {}, training loss {loss:.3}", result.task, result.seed, scores.join(", "))
}

/// The runs that are reported, one row for each metric.
fn table(summary: &Summary, runs: &[Vec<Vec<RunResult>>]) -> Scores {
    let mut table = Scores::default();
    for (task, recipes) in summary.tasks.iter().zip(runs) {
        for run in recipes.iter().flatten().filter(|run| run.recipe == task.recipe) {
            for score in &run.metrics {
                table.model_key.push(summary.model_key.clone().unwrap_or_default());
                table.model.push(summary.model.clone());
                table.task.push(run.task.clone());
                table.metric.push(score.name.clone());
                table.seed.push(run.seed);
                table.floor.push(score.floor);
                table.value.push(score.value);
            }
        }
    }
    table
}

fn stats(summary: &Summary) -> Value {
    let estimate = |e: &crate::Estimate| json!({"floor": e.floor, "mean": e.mean, "std": e.std});
    let tasks: serde_json::Map<_, _> =
        summary.tasks.iter().map(|task| (task.task.clone(), estimate(&task.score))).collect();
    let averages: serde_json::Map<_, _> =
        summary.averages.iter().map(|average| (average.name.clone(), estimate(average))).collect();
    json!({"seeds": summary.seeds.len(), "tasks": tasks, "averages": averages})
}

fn to_json(value: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn this_tool() -> entromask_artifact::Tool {
    tool("entromask-glue", env!("CARGO_PKG_VERSION"), &entromask_device::compiled())
}
