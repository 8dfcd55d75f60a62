//! Where a run begins: at its newest checkpoint, at random weights, at another model, or at the round before.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_fault::Fault;
use entromask_training::{AdamW, Checkpoint};
use fs_err as fs;

use crate::job::{Job, Start};
use crate::train::{COUNTERS, Counters, OPTIMIZER};

/// Weights, optimizer and counters to begin with.
pub(crate) struct Begin {
    pub model: MaskedLm,
    pub optimizer: AdamW,
    pub counters: Counters,
    /// Rows of the logs up to this step belong to the run; `None`: they begin anew.
    pub logged: Option<u64>,
}

/// A model that guides, on a device without autodiff.
pub(crate) struct Teacher {
    pub model: MaskedLm,
    pub config: EncoderConfig,
}

impl Begin {
    /// Goes on from a checkpoint of this run.
    pub(crate) fn resume(job: &Job, checkpoint: Checkpoint<Counters>, device: &Device) -> Result<Self> {
        tracing::info!("resuming at step {} from {}", checkpoint.step, checkpoint.folder.display());
        let (model, _) = MaskedLm::from_pretrained(&checkpoint.folder, device)?;
        let optimizer = AdamW::load(job.config.optimizer(), &checkpoint.folder.join(OPTIMIZER))?;
        Ok(Self { model, optimizer, counters: checkpoint.state, logged: Some(checkpoint.step) })
    }

    /// Starts the run. `metrics` is where its metrics log will be.
    pub(crate) fn fresh(job: &Job, metrics: &Path, device: &Device) -> Result<Self> {
        let model = match &job.paths.start {
            Start::Random => MaskedLm::init(&job.student, job.config.seed, device),
            Start::Init(folder) => load_student(job, folder, device)?,
            Start::Continue(folder) => return Self::after(job, folder, metrics, device),
        };
        let counters = Counters { step: job.span.first_step(), ..Counters::default() };
        Ok(Self { model, optimizer: AdamW::new(job.config.optimizer()), counters, logged: None })
    }

    /// Goes on from the round before, whose metrics become the beginning of this round's.
    fn after(job: &Job, folder: &Path, metrics: &Path, device: &Device) -> Result<Self> {
        let manifest = job.earlier.as_ref().expect("loaded for this start");
        manifest.verify(folder)?;
        let state = folder.join("state").join(manifest.short_key()).join("final");
        let text = fs::read_to_string(state.join(COUNTERS))
            .map_err(|error| Fault::input(error.to_string()).remedy("train the round before again"))?;
        let earlier: Counters = serde_json::from_str(&text).context("counters of the round before")?;
        check_order(folder, earlier.step, job.span.first_step())?;
        let model = load_student(job, folder, device)?;
        let optimizer = AdamW::load(job.config.optimizer(), &state.join(OPTIMIZER))?;
        fs::copy(folder.join("metrics.jsonl"), metrics)?;
        let logged = Some(earlier.step);
        let counters = Counters { earlier_tokens: earlier.tokens, flops: 0.0, ..earlier };
        Ok(Self { model, optimizer, counters, logged })
    }
}

impl Teacher {
    /// The teacher of `job`, if it has one.
    pub(crate) fn load(job: &Job, device: &Device) -> Result<Option<Self>> {
        let Some(folder) = &job.paths.teacher else { return Ok(None) };
        let (model, config) = MaskedLm::from_pretrained(folder, &device.clone().inner())?;
        check_vocabulary(folder, config.vocab_size, job.student.vocab_size)?;
        if job.config.objective.cos > 0.0 {
            check_width(config.hidden_size, job.student.hidden_size)?;
        }
        Ok(Some(Self { model, config }))
    }
}

fn check_order(folder: &Path, stopped: u64, first: u64) -> Result<()> {
    if stopped == first {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: stopped at step {stopped}, but the masks begin at step {first}",
        folder.display()
    ))
    .remedy("train the rounds in order, with the same batch_size and tokens")
    .into())
}

fn check_vocabulary(folder: &Path, found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: knows {found} tokens, the corpus has {wanted}: another tokenizer",
        folder.display()
    ))
    .remedy("distil from a teacher with the tokenizer of the corpus")
    .into())
}

fn check_width(found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Fault::usage(format!("objective.cos: the teacher's width is {found}, the student's {wanted}"))
        .remedy("set objective.cos = 0, or choose models of one width")
        .into())
}

fn load_student(job: &Job, folder: &Path, device: &Device) -> Result<MaskedLm> {
    let (model, config) = MaskedLm::from_pretrained(folder, device)?;
    if config == job.student {
        return Ok(model);
    }
    Err(Fault::usage(format!(
        "{}: its shape is not the one of {}",
        folder.display(),
        job.paths.student.display()
    ))
    .remedy("name the student that the model was trained as")
    .into())
}
