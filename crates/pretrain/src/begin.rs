//! Where a run begins: at its newest checkpoint, at random weights, at another model, or at the round before.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use entromask_artifact::Manifest;
use entromask_encoder::{EncoderConfig, Inheritance, Lanes, MaskedLm};
use entromask_fault::Fault;
use entromask_kernels::Products;
use entromask_training::{Checkpoint, Optimizer};
use fs_err as fs;

use crate::config::{Budget, Done};
use crate::counters::Counters;
use crate::job::{Job, Start};
use crate::journal::METRICS;
use crate::remarks;
use crate::step::{self, HostBody};
use crate::train::{COUNTERS, OPTIMIZER};

/// Weights, optimizer and counters to begin with.
pub(crate) struct Begin {
    pub model: MaskedLm,
    pub optimizer: Optimizer,
    pub counters: Counters,
    /// The checkpoint that the run goes on from.
    pub resumed: Option<PathBuf>,
    /// Rows of the logs up to this step belong to the run; `None`: they begin anew.
    pub logged: Option<u64>,
}

/// Who guides.
pub(crate) enum Teacher {
    Nobody,
    /// A model, on a device without autodiff.
    Model(Box<Guide>),
    /// Soft targets beside the masks.
    Cached,
}

/// A teacher that is in memory.
pub(crate) struct Guide {
    model: MaskedLm,
    config: EncoderConfig,
    /// Where the CPU computes it without tensors.
    body: Option<HostBody>,
}

impl Begin {
    /// Goes on from a checkpoint of this run.
    pub(crate) fn resume(job: &Job, checkpoint: Checkpoint<Counters>, device: &Device) -> Result<Self> {
        tracing::info!("resuming at step {} from {}", checkpoint.step, checkpoint.folder.display());
        let (model, _) = MaskedLm::from_pretrained(&checkpoint.folder, device)?;
        let optimizer = Optimizer::load(job.config.optimizer(), &checkpoint.folder.join(OPTIMIZER))?;
        Ok(Self {
            model,
            optimizer,
            counters: checkpoint.state,
            resumed: Some(checkpoint.folder),
            logged: Some(checkpoint.step),
        })
    }

    /// Starts the run. `metrics` is where its metrics log will be.
    pub(crate) fn fresh(job: &Job, metrics: &Path, device: &Device) -> Result<Self> {
        let model = match &job.paths.start {
            Start::Random => MaskedLm::init(&job.student, job.config.seed, device),
            Start::Init(folder) => init(job, folder, device)?,
            Start::Continue(folder) => return Self::after(job, folder, metrics, device),
        };
        let counters = at_first_step(job)?;
        remarks::of_a_late_start(job, &counters);
        Ok(Self {
            model,
            optimizer: Optimizer::new(job.config.optimizer()),
            counters,
            resumed: None,
            logged: None,
        })
    }

    /// Goes on from the round before, whose metrics become the beginning of this round's.
    fn after(job: &Job, folder: &Path, metrics: &Path, device: &Device) -> Result<Self> {
        let manifest = job.earlier.as_ref().expect("loaded for this start");
        manifest.verify(folder)?;
        let state = state_of(folder, manifest);
        let earlier = counters_in(&state)?;
        check_order(job, (folder, manifest), &earlier)?;
        check_shape(job, folder)?;
        remarks::of_another_schedule(job, manifest);
        // In this round's shape, which may drop other values.
        let model =
            MaskedLm::init_from(folder, &job.student, &Inheritance::default(), job.config.seed, device)?;
        let optimizer = Optimizer::load(job.config.optimizer(), &state.join(OPTIMIZER))?;
        copy_content(&folder.join(METRICS), metrics)?;
        let logged = Some(earlier.step);
        let counters = Counters { earlier_tokens: earlier.tokens, flops: 0.0, ..earlier };
        Ok(Self { model, optimizer, counters, resumed: None, logged })
    }
}

impl Teacher {
    /// The teacher of `job`, if it has one, on a device without autodiff.
    pub(crate) fn load(job: &Job, device: &Device, products: Products) -> Result<Self> {
        if job.paths.targets.is_some() {
            return Ok(Self::Cached);
        }
        let Some(folder) = &job.paths.teacher else { return Ok(Self::Nobody) };
        let (model, config) = MaskedLm::from_pretrained_first(folder, job.student.vocab_size, device)?;
        Ok(Self::of(model.with_products(products), config))
    }

    /// A model on a device without autodiff.
    pub(crate) fn of(model: MaskedLm, config: EncoderConfig) -> Self {
        let on_host = HostBody::serves(&model);
        let body = on_host.then(|| HostBody::new(&model, &config, Lanes::default()));
        Self::Model(Box::new(Guide { model, config, body }))
    }

    /// As a step needs it.
    pub(crate) fn for_step(&self) -> step::Teacher<'_> {
        match self {
            Self::Nobody => step::Teacher::Nobody,
            Self::Model(teacher) => step::Teacher::Model(&teacher.model, teacher.body.as_ref()),
            Self::Cached => step::Teacher::Cached,
        }
    }

    /// Shape of a model that is asked at every step.
    pub(crate) fn config(&self) -> Option<&EncoderConfig> {
        match self {
            Self::Model(teacher) => Some(&teacher.config),
            _ => None,
        }
    }
}

/// Looks whether the weights that `job` begins with are of its shape, and the round before is the one before it, as far as can be told
/// without reading them.
///
/// # Errors
/// A [`Fault`] that names the model and the remedy.
pub(crate) fn check(job: &Job) -> Result<()> {
    match &job.paths.start {
        Start::Random => Ok(()),
        Start::Init(folder) => {
            at_first_step(job)?;
            MaskedLm::check_init(folder, &job.student, &(&job.config.init).into())
        }
        Start::Continue(folder) => {
            let manifest = job.earlier.as_ref().expect("loaded for this start");
            check_order(job, (folder, manifest), &counters_in(&state_of(folder, manifest))?)?;
            check_shape(job, folder)
        }
    }
}

/// The counters of a run that goes on from no other.
///
/// # Errors
/// A [`Fault`] of class usage if its budget is used up before its masks begin.
fn at_first_step(job: &Job) -> Result<Counters> {
    let (first, steps) = (job.first_step(), job.plan.steps());
    let counters = Counters { step: first, ..Counters::default() };
    if !is_used_up(job.config.budget, &counters, steps) {
        return Ok(counters);
    }
    let masks = job.paths.masks.display();
    Err(Fault::usage(format!(
        "{masks}: begins at step {first}, where the budget is used up: nothing is trained"
    ))
    .remedy("raise budget, or take masks with first_epoch = 0")
    .into())
}

/// Not its permissions: who protects a model can train on from it.
fn copy_content(from: &Path, to: &Path) -> Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(fs::write(to, fs::read(from)?)?),
    }
}

/// Where a model of the pipeline has what another round needs.
fn state_of(folder: &Path, manifest: &Manifest) -> PathBuf {
    folder.join("state").join(manifest.short_key()).join("final")
}

fn counters_in(state: &Path) -> Result<Counters> {
    let text = fs::read_to_string(state.join(COUNTERS))
        .map_err(|error| Fault::input(error.to_string()).remedy("train the round before again"))?;
    serde_json::from_str(&text).context("counters of the round before")
}

fn check_order(job: &Job, (folder, manifest): (&Path, &Manifest), earlier: &Counters) -> Result<()> {
    let (stopped, first, steps) = (earlier.step, job.first_step(), job.plan.steps());
    let own_budget_is_used_up = is_used_up(job.config.budget, earlier, steps);
    if stopped == first && !own_budget_is_used_up {
        return Ok(());
    }
    let what =
        format!("{}: stopped at step {stopped}, but the masks begin at step {first}", folder.display());
    if stopped <= first && (own_budget_is_used_up || is_used_up(budget_of(manifest), earlier, steps)) {
        return Err(Fault::usage(format!("{what}: its budget, which counts all rounds, was used up"))
            .remedy("raise budget from the first round on, or leave this round out")
            .into());
    }
    Err(Fault::input(what).remedy("train the rounds in order, with the same batch_size and tokens").into())
}

fn budget_of(manifest: &Manifest) -> Option<Budget> {
    serde_json::from_value(manifest.config["budget"].clone()).unwrap_or(None)
}

/// Whether a run that stands at `counters` has nothing left of `budget`.
fn is_used_up(budget: Option<Budget>, counters: &Counters, steps: u64) -> bool {
    let Done { at, total, .. } = counters.done(budget, steps);
    budget.is_some() && at >= total
}

/// The weights of a model from elsewhere, as far as the configuration asks for them.
fn init(job: &Job, folder: &Path, device: &Device) -> Result<MaskedLm> {
    MaskedLm::init_from(folder, &job.student, &(&job.config.init).into(), job.config.seed, device)
}

fn check_shape(job: &Job, folder: &Path) -> Result<()> {
    // What is dropped is no shape: a round may drop other values than the one before.
    let shape = |config: EncoderConfig| config.with_dropout(0.0);
    if shape(EncoderConfig::from_pretrained(folder)?) == shape(job.student.as_stored()?) {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "{}: its shape is not the one of {}",
        folder.display(),
        job.paths.student.display()
    ))
    .remedy("name the student that the model was trained as")
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_can_be_written_on() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, "rows")?;
        let protect = || -> Result<_> {
            let mut permissions = fs::metadata(&from)?.permissions();
            permissions.set_readonly(true);
            Ok(fs::set_permissions(&from, permissions)?)
        };
        protect()?;
        for _ in 0..2 {
            copy_content(&from, &to)?;
            assert_eq!(fs::read_to_string(&to)?, "rows");
            assert!(!fs::metadata(&to)?.permissions().readonly());
            // As it was copied once.
            fs::copy(&from, &to)?;
        }
        Ok(())
    }
}
