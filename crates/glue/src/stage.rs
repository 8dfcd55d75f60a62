//! The stage: what is to be done, what an earlier run has done, the rest, the artifact.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use entromask_artifact::{Cost, Input, Kind, OutputSpec, Recipe, Status, Workbench, status, tool};
use entromask_cli::{Progress, check_interrupt};
use fs_err as fs;
use serde_json::{Value, json};

use crate::config::{Config, FineTuning};
use crate::data;
use crate::finetune::{FineTune, TaskData};
use crate::model::{self, Source};
use crate::results::{RunResult, Summary};
use crate::rows::RowTokenizer;
use crate::task::Task;

/// Version of the results and of what they mean.
const FORMAT: u32 = 1;

/// The summary's file.
const RESULTS: &str = "results.json";

/// What to fine-tune, and where.
#[derive(Clone, Debug)]
pub struct Job {
    /// Configuration.
    pub config: Config,
    /// Model folder.
    pub model: PathBuf,
    /// Device, e.g. `cpu`.
    pub device: String,
    /// Floating-point type, e.g. `f32`.
    pub dtype: String,
}

/// Fine-tunes on every task with every seed, and publishes the results in `out`. Runs that `out` has already are kept.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) for mistakes in configuration, model or data, before any training starts; of class
/// interrupted if the user asks to stop, in which case finished runs stay for the next time.
pub fn run(job: &Job, out: &Path) -> anyhow::Result<Summary> {
    let plan = Plan::new(job)?;
    if let Status::UpToDate(_) = status(out, &plan.recipe())? {
        tracing::info!("{}: up to date", out.display());
        return Ok(serde_json::from_slice(&fs::read(out.join(RESULTS))?)?);
    }
    let device = entromask_device::open(&job.device, &job.dtype)?;
    let bench = Workbench::open(out, plan.recipe(), this_tool())?;
    let runs = plan.run_all(&bench, &device)?;
    let summary = Summary::new(&plan.model.content, &runs);
    plan.publish(bench, &summary, &runs)?;
    Ok(summary)
}

/// What the artifact of a job would be made of.
pub fn recipe(job: &Job) -> anyhow::Result<Recipe> {
    Ok(Plan::new(job)?.recipe())
}

struct Plan<'a> {
    job: &'a Job,
    model: Input,
    tasks: Vec<Planned>,
}

struct Planned {
    task: &'static Task,
    recipe: FineTuning,
    files: Vec<PathBuf>,
    input: Input,
}

impl<'a> Plan<'a> {
    fn new(job: &'a Job) -> anyhow::Result<Self> {
        let resolved = job.config.resolve()?;
        let model = model::input(&job.model)?;
        let planned = |(task, recipe)| Planned::new(&job.config.data, task, recipe);
        Ok(Self { job, model, tasks: resolved.into_iter().map(planned).collect::<anyhow::Result<_>>()? })
    }

    fn recipe(&self) -> Recipe {
        let tasks: serde_json::Map<_, _> =
            self.tasks.iter().map(|planned| (planned.task.name.clone(), json!(planned.recipe))).collect();
        let inputs = self.tasks.iter().map(|planned| planned.input.clone());
        Recipe {
            kind: Kind::Glue,
            format: FORMAT,
            config: json!({"tasks": tasks, "seeds": self.job.config.seeds, "dtype": self.job.dtype}),
            inputs: std::iter::once(self.model.clone()).chain(inputs).collect(),
        }
    }

    /// The file of one run. Its name carries the digest of all that decides the run, and of nothing else, so that runs
    /// survive when tasks and seeds are added.
    fn file(&self, planned: &Planned, seed: u64) -> String {
        let recipe = Recipe {
            kind: Kind::Glue,
            format: FORMAT,
            config: json!({"task": planned.task.name, "recipe": planned.recipe, "seed": seed, "dtype": self.job.dtype}),
            inputs: vec![self.model.clone(), planned.input.clone()],
        };
        format!("{}-seed{seed}-{}.json", planned.task.name, &recipe.key()[..8])
    }

    /// Results by task and seed.
    fn run_all(&self, bench: &Workbench, device: &Device) -> anyhow::Result<Vec<Vec<RunResult>>> {
        let source = Source::open(&self.job.model)?;
        let data = self.tasks.iter().map(|planned| self.data_to_do(bench, planned, &source));
        let data = data.collect::<anyhow::Result<Vec<_>>>()?;
        let progress = Progress::new("fine-tuning", self.tokens_to_do(bench, &data));
        let results = self.tasks.iter().zip(&data).map(|(planned, data)| {
            let source = source.with_dropout(planned.recipe.dropout);
            let tuning = data.as_ref().map(|data| FineTune {
                source: &source,
                data,
                recipe: &planned.recipe,
                eval_batch_size: self.job.config.run.eval_batch_size,
                device,
                progress: &progress,
            });
            self.run_task(bench, planned, tuning.as_ref())
        });
        let results = results.collect();
        progress.finish();
        results
    }

    /// Reads and tokenizes a task, unless all of its runs are finished.
    fn data_to_do(
        &self,
        bench: &Workbench,
        planned: &Planned,
        source: &Source,
    ) -> anyhow::Result<Option<TaskData>> {
        check_interrupt()?;
        if self.seeds_to_do(bench, planned) == 0 {
            return Ok(None);
        }
        planned.data(source).map(Some)
    }

    fn seeds_to_do(&self, bench: &Workbench, planned: &Planned) -> usize {
        let finished = |seed: &u64| finished(bench, &self.file(planned, *seed)).is_some();
        self.job.config.seeds.iter().filter(|seed| !finished(seed)).count()
    }

    fn tokens_to_do(&self, bench: &Workbench, data: &[Option<TaskData>]) -> u64 {
        let tokens = |(planned, data): (&Planned, &Option<TaskData>)| {
            let one = data.as_ref().map_or(0, |data| data.tokens(planned.recipe.epochs));
            one * self.seeds_to_do(bench, planned) as u64
        };
        self.tasks.iter().zip(data).map(tokens).sum()
    }

    fn run_task(
        &self,
        bench: &Workbench,
        planned: &Planned,
        tuning: Option<&FineTune>,
    ) -> anyhow::Result<Vec<RunResult>> {
        let seeds = self.job.config.seeds.iter();
        seeds
            .map(|seed| {
                let file = self.file(planned, seed);
                match (finished(bench, &file), tuning) {
                    (Some(result), _) => Ok(result),
                    (None, Some(tuning)) => run_one(bench, &file, tuning, seed),
                    (None, None) => anyhow::bail!("{file} vanished while the stage was running"),
                }
            })
            .collect()
    }

    fn publish(&self, bench: Workbench, summary: &Summary, runs: &[Vec<RunResult>]) -> anyhow::Result<()> {
        bench.write_bytes(RESULTS, &to_json(summary)?)?;
        let seeds = || self.job.config.seeds.iter();
        let files = self.tasks.iter().flat_map(|planned| seeds().map(|seed| self.file(planned, seed)));
        let outputs = std::iter::once(RESULTS.to_string()).chain(files).map(OutputSpec::file).collect();
        let all = || runs.iter().flatten();
        let cost = Cost {
            flops: all().map(|run| run.flops).sum(),
            tokens: all().map(|run| run.tokens).sum(),
            device: self.job.device.clone(),
            ..Cost::default()
        };
        bench.publish(outputs, stats(summary), cost)?;
        Ok(())
    }
}

impl Planned {
    fn new(data: &Path, task: &'static Task, recipe: FineTuning) -> anyhow::Result<Self> {
        let files = data::files(data, task)?;
        let input =
            Input::files(&task.name, &data.join(&task.name), &files, "check `data` in the configuration")?;
        Ok(Self { task, recipe, files, input })
    }

    fn data(&self, source: &Source) -> anyhow::Result<TaskData> {
        let longest = self.recipe.max_length.min(source.config.max_seq_length());
        let tokenizer = RowTokenizer::load(source.dir(), source.config.vocab_size, longest)?;
        let read = |file: &PathBuf| tokenizer.encode(&data::read(file, self.task)?);
        let mut splits = self.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let train = splits.remove(0);
        Ok(TaskData { task: self.task, train, dev: splits })
    }
}

/// A run that is there and readable; a damaged one is done again.
fn finished(bench: &Workbench, file: &str) -> Option<RunResult> {
    let bytes = fs::read(bench.out().join(file)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn run_one(bench: &Workbench, file: &str, tuning: &FineTune, seed: u64) -> anyhow::Result<RunResult> {
    let started = Instant::now();
    let task = &tuning.data.task.name;
    tuning.progress.label(format!("{task} seed {seed}"));
    let result = tuning.run(seed)?;
    bench.write_bytes(file, &to_json(&result)?)?;
    let scores: Vec<_> =
        result.metrics.iter().map(|score| format!("{} {:.1}", score.name, score.value)).collect();
    let (loss, seconds) = (result.train.loss.last().unwrap_or(&f64::NAN), started.elapsed().as_secs_f64());
    tracing::info!("{task} seed {seed}: {}, training loss {loss:.3}, {seconds:.1} s", scores.join(", "));
    Ok(result)
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
