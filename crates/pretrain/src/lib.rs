//! Trains a masked language model: tokens + masks (+ teacher) → a Hugging Face folder.
//!
//! A run trains the epochs that its masks hold and no others; the learning-rate schedule spans all rounds, so that a
//! later round (`--continue-from`) goes on exactly where the earlier one stopped. The data order, the masks, dropout and
//! initial weights are all drawn from keyed generators, so that on the CPU a run that was killed and started again
//! ends with the same bits as one that was not.

mod begin;
mod card;
mod config;
mod counters;
mod data;
mod finite;
#[cfg(test)]
#[path = "../tests/fixture/mod.rs"]
#[expect(dead_code, reason = "the tests of the command line use the rest")]
mod fixture;
mod flops;
mod job;
mod journal;
mod online;
mod plan;
mod publish;
mod remarks;
mod shards;
mod step;
mod student;
mod tokenizer;
mod train;
mod validate;
mod validation;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Begun, Manifest, Status, Workbench, is_artifact, status, tool};
use entromask_cli::CommonArgs;
use entromask_encoder::{EncoderConfig, MaskedLm};
use serde::Serialize;

pub use config::{
    Budget, Config, Init, ObjectiveConfig, OnlineConfig, OnlineMode, Positions, Ramp, Run, Transfer,
    TransferMode, Validation,
};
pub use job::{Paths, Start};
pub use validate::{Validated, validate};

use job::Job;

/// Where to compute.
#[derive(Clone, Copy, Debug)]
pub struct Compute<'a> {
    /// `cpu`, `wgpu[:n]`, `vulkan[:n]` or `cuda[:n]`, or several GPUs of one backend: `cuda:0,1,2`.
    pub device: &'a str,
    /// Type of the matrix products, `f32` or `bf16`; part of the key.
    pub dtype: &'a str,
}

/// What a run made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's folder.
    pub out: PathBuf,
    /// The artifact's key.
    pub key: String,
    /// True if there was nothing to do.
    pub up_to_date: bool,
    /// Steps made since the first epoch, earlier rounds included.
    pub steps: u64,
    /// Mean surprisal on the fixed validation, nats, if there are held-out rows.
    pub valid_loss: Option<f64>,
    /// Accuracy on the fixed validation.
    pub valid_accuracy: Option<f64>,
}

/// Trains the model in `paths.out` unless it is up to date.
///
/// # Errors
/// Faults of class usage (configuration), input (artifacts), device, failed (divergence, disk), interrupted.
pub fn run(config: &Config, paths: &Paths, compute: Compute) -> Result<Report> {
    let job = Job::resolve(config, paths, compute.dtype)?;
    match status(&job.paths.out, &job.recipe)? {
        Status::UpToDate(manifest) => Ok(finished(&job, &manifest)),
        _ => make(&job, compute),
    }
}

/// The model that is up to date.
fn finished(job: &Job, manifest: &Manifest) -> Report {
    let out = &job.paths.out;
    tracing::debug!("{}: up to date", out.display());
    Report::new(out, manifest, true)
}

/// Trains the model, unless another process has while this one was on its way to the lock.
fn make(job: &Job, compute: Compute) -> Result<Report> {
    let devices = entromask_device::open_all(compute.device, compute.dtype)?;
    let program = tool("entromask-pretrain", env!("CARGO_PKG_VERSION"), &entromask_device::compiled());
    let bench = match Workbench::begin(&job.paths.out, job.recipe.clone(), program)? {
        Begun::UpToDate(manifest) => return Ok(finished(job, &manifest)),
        Begun::Work(bench) => bench,
    };
    let trained = train::train(job, &bench, &devices, compute.device)?;
    let manifest = publish::publish(job, *bench, &trained, compute.device)?;
    Ok(Report::new(&job.paths.out, &manifest, false))
}

/// Checks what does not depend on artifacts that may not be there yet: the configuration and the flags beside it, the student,
/// the devices, and models whose configuration is there.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) that names the key, file or device.
fn check(config: &Config, paths: &Paths, device: &str) -> Result<()> {
    config.check()?;
    job::check_flags(config, paths)?;
    entromask_device::check(device)?;
    let start = paths.start.model();
    // The model of the round before may be one that is not there yet, or not finished.
    if start != Some(&paths.student) || paths.student.join("config.json").is_file() {
        student::check(&paths.student)?;
    }
    let start = start.map(|model| (model, config.init.fresh_head));
    let models = paths.teacher.iter().map(|teacher| (teacher, false)).chain(start);
    models.into_iter().try_for_each(|(model, without_head)| check_model(model, without_head))
}

/// One of the pipeline may be replaced before it is read, and predicts tokens in any case.
fn check_model(dir: &Path, without_head: bool) -> Result<()> {
    match dir.join("config.json").is_file() {
        false => Ok(()),
        true if without_head || is_artifact(dir) => EncoderConfig::from_pretrained(dir).map(drop),
        true => MaskedLm::check(dir),
    }
}

/// Says what [`run`] would do.
///
/// # Errors
/// Those of [`run`], as far as they can be found without training.
pub fn dry_run(common: &CommonArgs, config: &Config, paths: &Paths) -> Result<()> {
    check(config, paths, &common.device)?;
    let mut found = None;
    let recipe = || {
        let job = Job::resolve(config, paths, &common.dtype)?;
        let recipe = job.recipe.clone();
        found = Some(job);
        Ok(recipe)
    };
    if entromask_cli::plan(common, &paths.out, &paths.inputs(), recipe)? {
        entromask_device::check_dtype(&common.device, &common.dtype)?;
        found.as_ref().map_or(Ok(()), begin::check)?;
    }
    Ok(())
}

impl Report {
    fn new(out: &Path, manifest: &Manifest, up_to_date: bool) -> Self {
        let number = |name: &str| manifest.stats.get(name).and_then(serde_json::Value::as_f64);
        Self {
            out: out.into(),
            key: manifest.key.clone(),
            up_to_date,
            steps: number("steps").unwrap_or(0.0) as u64,
            valid_loss: number("valid_loss"),
            valid_accuracy: number("valid_accuracy"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.up_to_date { "up to date" } else { "trained" };
        write!(f, "{}: {done}, {} steps", self.out.display(), self.steps)?;
        if let (Some(loss), Some(accuracy)) = (self.valid_loss, self.valid_accuracy) {
            write!(f, ", validation loss {loss:.4} nats, accuracy {:.2} %", 100.0 * accuracy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    const STUDENT: &str = "hidden_size = 8\nnum_hidden_layers = 1\nnum_attention_heads = 2\nintermediate_size = 16\n\
                           max_position_embeddings = 8\n";

    /// Of two processes that find no model the second gets the lock when the first has made it.
    #[test]
    fn what_another_process_has_made_meanwhile_is_not_made_again() -> Result<()> {
        let fixture = Fixture::new()?;
        let (compute, config) =
            (Compute { device: "cpu", dtype: "f32" }, Config { epochs: 1, ..Config::default() });
        let paths = Paths {
            student: fixture.file("student.toml", STUDENT)?,
            tokens: fixture.tokens(),
            masks: fixture.masks(0, 1)?,
            first_masks: None,
            teacher: None,
            targets: None,
            start: Start::Random,
            out: fixture.path("model"),
        };
        assert!(!run(&config, &paths, compute)?.up_to_date);
        let made = || Ok::<_, anyhow::Error>(std::fs::metadata(paths.out.join("manifest.json"))?.modified()?);
        let before = made()?;
        let late = make(&Job::resolve(&config, &paths, compute.dtype)?, compute)?;
        assert!(late.up_to_date && before == made()?);
        let left = std::fs::read_dir(&paths.out)?.flatten().map(|entry| entry.file_name());
        assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".elapsed-")));
        Ok(())
    }
}
