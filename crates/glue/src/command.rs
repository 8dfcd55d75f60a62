//! The command line.

mod predict;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use entromask_artifact::Shard;
use entromask_cli::{CommonArgs, EXIT_CODES_HELP, emit, hide_refused, long_version, stop_with_parent};
use entromask_device::check_dtype;

use crate::config::Config;
use crate::data::{Survey, files};
use crate::stage::{Job, Share, check, recipe, run, run_shard};
use crate::submission::{self, Submission};
use crate::task::Task;
use crate::workers::{Hire, Worker};
use predict::PredictArgs;

/// Fine-tune a model on GLUE tasks and print its dev scores
///
/// Inputs: a Hugging Face model folder (config.json, model.safetensors, tokenizer.json) and a folder in GLUE's
/// official layout (`data` in the config). Output: results.json, results.parquet and one JSON file per task and seed.
/// Scores are percentages, losses nats.
#[derive(Debug, Parser)]
#[command(version, long_version = long_version(env!("CARGO_PKG_VERSION"), &entromask_device::compiled()),
    subcommand_negates_reqs = true, args_conflicts_with_subcommands = true,
    after_help = format!("{EXAMPLE}\n\n{EXIT_CODES_HELP}"))]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    tune: TuneArgs,
    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLE: &str = "Example: entromask-glue --config pipelines/glue/sample.toml \
                       --model data/models/sample/modernbert-tiny-mlm/self-kfold-mixed-r3x1/round-3 --out data/glue/mine";

#[derive(Debug, clap::Args)]
struct TuneArgs {
    /// Model folder to fine-tune
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    model: Option<PathBuf>,
    /// Fine-tune on the task that this TOML file defines; may be repeated
    #[arg(long, value_name = "FILE")]
    task_file: Vec<PathBuf>,
    /// Do so many runs at once, each in a process of its own; with --device cuda:0,1 they take the devices in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Do the runs of one worker
    #[arg(long, value_name = "I/N", hide = true, requires_all = ["parent", "key"])]
    shard: Option<Shard>,
    /// The runs that all workers do, by their places
    #[arg(long, value_name = "N,N", value_delimiter = ',', hide = true, requires = "shard")]
    runs: Vec<usize>,
    /// The process that the worker ends with
    #[arg(long, value_name = "PID", hide = true, requires = "shard")]
    parent: Option<u32>,
    /// The key of what all workers make
    #[arg(long, value_name = "KEY", hide = true, requires = "shard")]
    key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which files of GLUE a folder has, and whether they are the official ones; or whether a configuration makes sense and
    /// its tasks are there
    ///
    /// Examples: entromask-glue data --data data/glue-data; entromask-glue data --config pipelines/glue/sample.toml; entromask-glue
    /// data --task-file mood.toml
    #[command(mut_args(|arg| hide_refused(arg, UNUSED_BY_DATA)))]
    Data {
        /// Folder in GLUE's official layout
        #[arg(long, value_name = "DIR", required_unless_present_any = ["config", "task_file"],
            conflicts_with_all = ["config", "task_file"])]
        data: Option<PathBuf>,
        /// A task of the configuration that this TOML file defines; may be repeated
        #[arg(long, value_name = "FILE")]
        task_file: Vec<PathBuf>,
        #[command(flatten)]
        common: Box<CommonArgs>,
    },
    /// Write what a fine-tuned classifier says about each row of a file, logits included
    ///
    /// Example: entromask-glue predict --classifier data/glue/mine/RTE-seed1-18b48cec --task RTE --data data/glue-data
    /// --file dev.tsv --out rte.tsv
    #[command(mut_args(|arg| hide_refused(arg, UNUSED)))]
    Predict(Box<PredictArgs>),
    /// Predict the test splits and write the zip file that the GLUE server takes
    ///
    /// Needs classifiers of all nine tasks (`save = true` in the config). Example: entromask-glue submit --scores
    /// data/glue/mine --data data/glue-data --seed 1 --out submission.zip
    #[command(mut_args(|arg| hide_refused(arg, UNUSED)))]
    Submit(Box<SubmitArgs>),
    /// Say whether the GLUE server would take a zip file
    #[command(mut_args(|arg| hide_refused(arg, UNUSED_BY_LOOKING)))]
    Validate {
        /// The submission
        zip: PathBuf,
        #[command(flatten)]
        common: Box<CommonArgs>,
    },
}

#[derive(Debug, clap::Args)]
struct SubmitArgs {
    /// Folder that entromask-glue made with `save = true`
    #[arg(long, value_name = "DIR")]
    scores: PathBuf,
    /// Folder in GLUE's official layout
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Seed of the classifiers to take
    #[arg(long, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    common: CommonArgs,
}

/// Common flags that nothing but fine-tuning has a use for.
const UNUSED: &[&str] = &["--config", "--print-config", "--set", "--dry-run"];

/// Common flags that looking at the files of tasks has no use for.
const UNUSED_BY_DATA: &[&str] = &["--print-config", "--dry-run", "--out", "--device"];

/// Common flags that looking at files has no use for.
const UNUSED_BY_LOOKING: &[&str] = &["--config", "--print-config", "--set", "--dry-run", "--out", "--device"];

impl Args {
    /// The flags that it has in common with other stages.
    pub fn common(&self) -> &CommonArgs {
        match &self.command {
            Some(Command::Submit(args)) => &args.common,
            Some(Command::Predict(args)) => &args.common,
            Some(Command::Validate { common, .. } | Command::Data { common, .. }) => common,
            None => &self.common,
        }
    }

    /// Does what was asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            None => self.fine_tune(),
            Some(Command::Submit(args)) => args.submit(),
            Some(Command::Predict(args)) => args.predict(),
            Some(Command::Data { data, task_file, common }) => {
                common.refuse("data", UNUSED_BY_DATA)?;
                data.as_ref().map_or_else(|| tasks(task_file, common), |data| survey(data, common))
            }
            Some(Command::Validate { zip, common }) => {
                common.refuse("validate", UNUSED_BY_LOOKING)?;
                let report = submission::validate(zip)?;
                emit(common, &report, &report)
            }
        }
    }

    fn fine_tune(&self) -> anyhow::Result<()> {
        let common = &self.common;
        let config: Config = entromask_cli::load(common)?;
        if common.print_config {
            return entromask_cli::print_config(common, &config);
        }
        let out = common.out()?;
        let model = self.tune.model.clone().expect("clap requires it without a subcommand");
        let job = Job {
            config,
            task_files: self.tune.task_file.clone(),
            model,
            device: self.devices()?.swap_remove(0),
            dtype: common.dtype.clone(),
        };
        if common.dry_run {
            // Now, whether or not there is a model to tell of.
            check(&job)?;
            let runs = entromask_cli::plan(common, out, &[&job.model], || recipe(&job))?;
            return if runs { check_dtype(&common.device, &common.dtype) } else { Ok(()) };
        }
        if let (Some(shard), Some(parent), Some(key)) = (self.tune.shard, self.tune.parent, &self.tune.key) {
            stop_with_parent(parent)?;
            let share = Share { shard, runs: self.tune.runs.clone(), key: key.clone() };
            return run_shard(&job, out, &share);
        }
        let hire = |key: &str, runs: &[usize]| self.workers(&job.config, key, runs);
        let hire: Option<&Hire<'_>> = if self.jobs()? > 1 { Some(&hire) } else { None };
        let summary = run(&job, out, hire)?;
        emit(common, &summary, &summary)
    }

    fn jobs(&self) -> anyhow::Result<usize> {
        Ok(self.tune.jobs.map_or(self.devices()?.len(), usize::from))
    }

    /// One worker for each job, but no more than there are runs to do. They are given the configuration: its file may have changed
    /// since it was read, or be a pipe.
    fn workers(&self, config: &Config, key: &str, runs: &[usize]) -> anyhow::Result<Vec<Worker>> {
        let (devices, jobs) = (self.devices()?, self.jobs()?.min(runs.len()));
        let places: Vec<_> = runs.iter().map(ToString::to_string).collect();
        let places = places.join(",");
        let all = self
            .common
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let (program, input) = (std::env::current_exe()?, toml::to_string(&toml::Table::try_from(config)?)?);
        let worker = |index: usize| Worker {
            program: program.clone(),
            arguments: [
                self.arguments(index, jobs, &devices[index % devices.len()], (all / jobs).max(1)),
                ["--runs", &places, "--key", key].map(OsString::from).to_vec(),
            ]
            .concat(),
            input: input.clone(),
        };
        Ok((0..jobs).map(worker).collect())
    }

    /// Each by its full name: a worker knows one only.
    fn devices(&self) -> anyhow::Result<Vec<String>> {
        Ok(entromask_device::list(&self.common.device)?.iter().map(ToString::to_string).collect())
    }

    fn arguments(&self, index: usize, jobs: usize, device: &str, threads: usize) -> Vec<OsString> {
        let common = &self.common;
        let mut found: Vec<OsString> = vec![
            "--shard".into(),
            format!("{}/{jobs}", index + 1).into(),
            "--parent".into(),
            std::process::id().to_string().into(),
            "--device".into(),
            device.into(),
            "--threads".into(),
            threads.to_string().into(),
            "--dtype".into(),
            common.dtype.clone().into(),
            "--quiet".into(),
            "--config".into(),
            "/dev/stdin".into(),
        ];
        let paths = [("--model", &self.tune.model), ("--out", &common.out)];
        let paths = paths.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        let files = self.tune.task_file.iter().map(|file| ("--task-file", file));
        for (flag, path) in paths.chain(files) {
            found.extend([flag.into(), path.into()]);
        }
        found
    }
}

fn survey(data: &Path, common: &CommonArgs) -> anyhow::Result<()> {
    let survey = Survey::new(data)?;
    emit(common, &survey, &survey)?;
    survey.check()
}

/// The folders of a configuration's tasks, some of which `task_files` define.
fn tasks(task_files: &[PathBuf], common: &CommonArgs) -> anyhow::Result<()> {
    let config: Config = entromask_cli::load(common)?;
    let tasks = config.resolve(&Task::from_files(task_files)?)?;
    let tasks: Vec<Task> = tasks.into_iter().map(|one| one.task).collect();
    tasks.iter().try_for_each(|task| files(&config.data, task).map(drop))?;
    let folders: BTreeMap<_, _> = tasks.iter().map(|task| (&task.name, task.dir(&config.data))).collect();
    let lines: Vec<_> =
        folders.iter().map(|(name, folder)| format!("{name}: {}", folder.display())).collect();
    emit(common, lines.join("\n"), &folders)
}

impl SubmitArgs {
    fn submit(&self) -> anyhow::Result<()> {
        self.common.refuse("submit", UNUSED)?;
        let submission = Submission {
            scores: self.scores.clone(),
            data: self.data.clone(),
            seed: self.seed,
            device: self.common.device.clone(),
            dtype: self.common.dtype.clone(),
        };
        let report = submission.write(self.common.out()?)?;
        emit(&self.common, &report, &report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(flags: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let args = ["entromask-glue", "--model", "m", "--out", "o"].iter().chain(flags);
        let after = |worker: &Worker, flag: &str| {
            let found = worker.arguments.iter().skip_while(|argument| *argument != flag).nth(1);
            found.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let workers = Args::try_parse_from(args)?.workers(&Config::default(), "key", &[3, 5, 8])?;
        Ok(workers.iter().map(|worker| (after(worker, "--shard"), after(worker, "--device"))).collect())
    }

    fn devices(flags: &[&str]) -> anyhow::Result<Vec<String>> {
        Ok(workers(flags)?.into_iter().map(|(_, device)| device).collect())
    }

    #[test]
    fn each_worker_has_a_device_by_its_full_name() -> anyhow::Result<()> {
        assert_eq!(devices(&["--device", "cuda:0,1"])?, ["cuda:0", "cuda:1"]);
        assert_eq!(
            devices(&["--device", "vulkan:2,vulkan:0", "--jobs", "3"])?,
            ["vulkan:2", "vulkan:0", "vulkan:2"]
        );
        assert_eq!(devices(&["--device", "cpu,cpu"])?, ["cpu", "cpu"]);
        let shards = |jobs: &str| -> anyhow::Result<Vec<String>> {
            Ok(workers(&["--jobs", jobs])?.into_iter().map(|(shard, _)| shard).collect())
        };
        assert_eq!(shards("2")?, ["1/2", "2/2"]);
        assert_eq!(shards("64")?, ["1/3", "2/3", "3/3"], "no more than there are runs");
        Ok(())
    }

    #[test]
    fn workers_know_which_runs_are_shared_out_and_how_they_are_configured() -> anyhow::Result<()> {
        let words = ["--out", "o", "--jobs", "2", "--config", "c.toml", "--set", "recipe.lr=1"];
        let args = Args::try_parse_from(["entromask-glue", "--model", "m"].iter().chain(&words))?;
        let text = "tasks = [\"RTE\"]\nseeds = [7, 3]\nsave = true\n[recipe]\nlr = 1e-30\ntrain_rows = 9\n\
                    [task.RTE]\nepochs = 1\n[grid]\nclip = [0.1, 1.0]\n";
        let config: Config = toml::from_str(text)?;
        for worker in args.workers(&config, "1a2b", &[3, 5, 8])? {
            let words = std::iter::once("entromask-glue".into()).chain(worker.arguments);
            let Args { tune, common, .. } = Args::try_parse_from(words)?;
            assert_eq!((&tune.runs[..], tune.key.as_deref()), (&[3, 5, 8][..], Some("1a2b")));
            assert_eq!((common.config, common.set.len()), (Some("/dev/stdin".into()), 0));
            assert_eq!(toml::from_str::<Config>(&worker.input)?, config);
        }
        Ok(())
    }

    #[test]
    fn lists_that_cannot_be_meant_are_refused() {
        let error = workers(&["--device", "cuda:0,vulkan:1"]).expect_err("two backends");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
    }
}
