//! The training loop: resume, step, log, validate, checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use entromask_artifact::Workbench;
use entromask_cli::{Progress, interrupted};
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_fault::Fault;
use entromask_random::keyed;
use entromask_training::{AdamW, Checkpoints, Gradients, MetricsLog, Schedule};
use fs_err as fs;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::begin::{Begin, Teacher};
use crate::config::Positions;
use crate::data::{Corpus, Example};
use crate::job::Job;
use crate::step::{self, Losses};
use crate::validation::{Score, Validation};

/// File names inside a checkpoint.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
/// The counters of a published model, beside its optimizer.
pub(crate) const COUNTERS: &str = "counters.json";

/// How far training has come; all of it is in every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Steps made, earlier rounds included.
    pub step: u64,
    /// Tokens that were trained on, earlier rounds included.
    pub tokens: u64,
    /// Tokens of earlier rounds.
    pub earlier_tokens: u64,
    /// Floating-point operations of this round by formula.
    pub flops: f64,
    /// Sum of the training losses and number of steps since the last validation.
    pub recent: (f64, u64),
    /// Mean training loss between the last two validations.
    pub train_loss: Option<f64>,
    /// The last validation.
    pub valid: Option<Score>,
}

/// A finished run.
pub(crate) struct Trained {
    pub model: MaskedLm,
    pub optimizer: AdamW,
    pub counters: Counters,
    pub metrics: PathBuf,
    pub speed: PathBuf,
    pub checkpoints: Checkpoints,
}

#[derive(Serialize)]
struct Row {
    step: u64,
    epoch: f64,
    tokens: u64,
    loss: f64,
    ce: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cos: Option<f64>,
    lr: f64,
    grad_norm: f64,
}

#[derive(Serialize)]
struct ValidationRow {
    step: u64,
    epoch: f64,
    tokens: u64,
    valid_loss: f64,
    valid_accuracy: f64,
    valid_perplexity: f64,
}

#[derive(Serialize)]
struct SpeedRow {
    step: u64,
    seconds: f64,
    tokens_per_second: f64,
}

/// Trains from the newest checkpoint, or from the start, to the end of the run's epochs.
pub(crate) fn train(job: &Job, bench: &Workbench, device: &Device, device_name: &str) -> Result<Trained> {
    let mut trainer = Trainer::open(job, bench, device)?;
    trainer.announce(device_name);
    trainer.validate_at_the_start()?;
    let corpus = job.corpus();
    while trainer.counters.step < job.span.end_step() {
        trainer.epoch(&corpus)?;
    }
    trainer.progress.finish();
    Ok(trainer.finish(bench))
}

struct Trainer<'a> {
    job: &'a Job,
    device: Device,
    /// Taken only while the optimizer updates it.
    model: Option<MaskedLm>,
    teacher: Option<Teacher>,
    optimizer: AdamW,
    schedule: Schedule,
    validation: Validation,
    counters: Counters,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
    speed: MetricsLog,
    progress: Progress,
    /// When the tokens of the next line of the speed log began to be counted, and how many there were.
    since: (Instant, u64),
}

impl<'a> Trainer<'a> {
    fn open(job: &'a Job, bench: &Workbench, device: &Device) -> Result<Self> {
        let device = device.clone().autodiff();
        let folder = bench.state_dir();
        fs::create_dir_all(&folder)?;
        let checkpoints = Checkpoints::new(&folder, job.config.run.keep);
        let Begin { model, optimizer, counters, logged } = match checkpoints.latest::<Counters>()? {
            Some(checkpoint) => Begin::resume(job, checkpoint, &device)?,
            None => Begin::fresh(job, &folder.join("metrics.jsonl"), &device)?,
        };
        let [metrics, speed] =
            ["metrics.jsonl", "speed.jsonl"].map(|name| MetricsLog::open(&folder.join(name), logged));
        let progress = Progress::new("training", job.facts.tokens * job.span.epochs);
        progress.resume_at(counters.tokens - counters.earlier_tokens);
        Ok(Self {
            job,
            model: Some(model),
            teacher: Teacher::load(job, &device)?,
            optimizer,
            schedule: job.config.schedule(job.horizon()),
            validation: Validation::read(
                &job.paths.tokens,
                &job.tokens,
                job.facts.special.mask,
                job.config.validation.rows,
            )?,
            since: (Instant::now(), counters.tokens),
            counters,
            checkpoints,
            metrics: metrics?,
            speed: speed?,
            progress,
            device,
        })
    }

    fn announce(&self, device_name: &str) {
        let (job, span) = (self.job, self.job.span);
        tracing::info!(
            "entromask-pretrain {} on {device_name} ({} threads)",
            env!("CARGO_PKG_VERSION"),
            std::thread::available_parallelism().map_or(1, usize::from)
        );
        tracing::info!("config {}", job.recipe.config);
        tracing::info!(
            "{} parameters; epochs {}..{} of {}, {} steps each, {} tokens each; step {} of {}",
            self.model().num_params(),
            span.first_epoch,
            span.end_epoch(),
            job.config.epochs,
            span.steps_per_epoch,
            job.facts.tokens,
            self.counters.step,
            span.end_step()
        );
    }

    /// From the current step to the end of its epoch.
    fn epoch(&mut self, corpus: &Corpus) -> Result<()> {
        let batch_size = self.job.config.batch_size;
        let steps = self.job.span.steps_per_epoch;
        let (epoch, done) = (self.counters.step / steps, self.counters.step % steps);
        let mut rows = corpus.epoch(epoch, done as usize * batch_size)?;
        for _ in done..steps {
            let batch = rows.batch(batch_size)?;
            self.step(&batch)?;
            self.after_step()?;
        }
        Ok(())
    }

    fn step(&mut self, batch: &[Example]) -> Result<()> {
        let step = self.counters.step;
        let objective = self.job.config.objective_at(step, self.job.horizon());
        let tokens = batch.iter().map(|row| row.input_ids.len() as u64).sum::<u64>();
        if batch.iter().all(|row| row.positions.is_empty()) {
            // Rows of special tokens only: there is nothing to learn from.
            self.counters.step += 1;
            self.counters.tokens += tokens;
            return Ok(());
        }
        let rate = self.schedule.rate(step);
        self.device.seed(keyed(self.job.config.seed, "dropout", step, 0).next_u64());
        let pad = self.job.student.pad_token_id;
        let teacher = self.teacher.as_ref().map(|teacher| &teacher.model);
        let losses = step::forward(self.model(), teacher, batch, pad, objective, &self.device)?;
        let mut row = self.row(&losses, tokens, rate);
        let gradients = Gradients::collect(self.model(), losses.backward());
        let model = self.model.take().expect("put back below");
        let (model, norm) = self.optimizer.step(rate, model, gradients)?;
        self.model = Some(model);
        row.grad_norm = norm;
        self.counters.step = row.step;
        self.counters.tokens = row.tokens;
        self.counters.flops += self.flops(batch);
        self.counters.recent.0 += row.loss;
        self.counters.recent.1 += 1;
        self.progress.inc(tokens);
        self.progress.label(format!("step {} loss {:.3}", row.step, row.loss));
        self.log(&row)
    }

    fn row(&self, losses: &Losses, tokens: u64, lr: f64) -> Row {
        let objective = &self.job.config.objective;
        Row {
            step: self.counters.step + 1,
            epoch: self.epochs_at(self.counters.step + 1),
            tokens: self.counters.tokens + tokens,
            loss: losses.total,
            ce: losses.ce,
            kd: (objective.kd > 0.0).then_some(losses.kd),
            cos: (objective.cos > 0.0).then_some(losses.cos),
            lr,
            grad_norm: 0.0,
        }
    }

    fn log(&mut self, row: &Row) -> Result<()> {
        self.metrics.append(row)?;
        if row.step.is_multiple_of(self.job.config.run.log_every.max(1)) {
            let seconds = self.since.0.elapsed().as_secs_f64();
            let tokens_per_second = (row.tokens - self.since.1) as f64 / seconds.max(1e-9);
            self.speed.append(&SpeedRow { step: row.step, seconds, tokens_per_second })?;
            self.since = (Instant::now(), row.tokens);
            tracing::info!(
                "step {} loss {:.4} lr {:.2e} norm {:.2} {:.1} k tokens/s",
                row.step,
                row.loss,
                row.lr,
                row.grad_norm,
                tokens_per_second / 1e3
            );
        }
        Ok(())
    }

    fn after_step(&mut self) -> Result<()> {
        let step = self.counters.step;
        let end = step == self.job.span.end_step();
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if end || due(self.job.config.validation.every) {
            self.validate()?;
        }
        let asked_to_end = interrupted();
        if end || asked_to_end || due(self.job.config.run.checkpoint_every) {
            self.checkpoint()?;
        }
        if asked_to_end && !end {
            return Err(Fault::interrupted().into());
        }
        Ok(())
    }

    /// The model of an earlier round has been validated at its end.
    fn validate_at_the_start(&mut self) -> Result<()> {
        let untouched = self.counters.step == self.job.span.first_step() && self.counters.valid.is_none();
        if untouched && self.job.earlier.is_none() { self.validate() } else { Ok(()) }
    }

    fn validate(&mut self) -> Result<()> {
        let (job, began) = (self.job, Instant::now());
        let model = self.model();
        let score =
            self.validation.score(model, job.config.batch_size, job.student.pad_token_id, &self.device);
        let Some(score) = score else { return Ok(()) };
        if !score.loss.is_finite() {
            return Err(Fault::failed(format!("training diverged: the validation loss is {}", score.loss))
                .remedy("lower lr or lengthen warmup; the last good checkpoint is kept")
                .into());
        }
        let Counters { step, tokens, .. } = self.counters;
        let Score { loss: valid_loss, accuracy: valid_accuracy, perplexity: valid_perplexity } = score;
        let epoch = self.epochs_at(step);
        self.metrics.append(&ValidationRow {
            step,
            epoch,
            tokens,
            valid_loss,
            valid_accuracy,
            valid_perplexity,
        })?;
        tracing::info!(
            "step {step} validation loss {:.4} accuracy {:.2} %",
            score.loss,
            100.0 * score.accuracy
        );
        self.counters.valid = Some(score);
        let (sum, steps) = std::mem::take(&mut self.counters.recent);
        if steps > 0 {
            self.counters.train_loss = Some(sum / steps as f64);
        }
        self.since.0 += began.elapsed();
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let began = Instant::now();
        self.metrics.sync()?;
        self.speed.sync()?;
        let model = self.model();
        self.checkpoints.save(self.counters.step, &self.counters, |folder| {
            model.save_pretrained(&self.job.student, folder, &[])?;
            self.optimizer.save(&folder.join(OPTIMIZER))
        })?;
        tracing::debug!("checkpoint at step {}", self.counters.step);
        self.since.0 += began.elapsed();
        Ok(())
    }

    fn finish(self, bench: &Workbench) -> Trained {
        let folder = bench.state_dir();
        Trained {
            model: self.model.expect("put back after each step"),
            optimizer: self.optimizer,
            counters: self.counters,
            metrics: folder.join("metrics.jsonl"),
            speed: folder.join("speed.jsonl"),
            checkpoints: self.checkpoints,
        }
    }

    fn model(&self) -> &MaskedLm {
        self.model.as_ref().expect("taken only while the optimizer updates it")
    }

    fn epochs_at(&self, step: u64) -> f64 {
        step as f64 / self.job.span.steps_per_epoch as f64
    }

    /// Forward and backward pass are three forward passes; a teacher makes one.
    fn flops(&self, batch: &[Example]) -> f64 {
        let longest = batch.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
        let tokens = (batch.len() * longest) as f64;
        let masked = batch.iter().map(|row| row.positions.len()).sum::<usize>() as f64;
        let everywhere = self.teacher.is_some() && self.job.config.objective.positions == Positions::All;
        let positions = if everywhere { tokens } else { masked };
        let forward = |config: &EncoderConfig| {
            tokens * config.body_flops_per_token(longest) + positions * config.head_flops_per_position()
        };
        3.0 * forward(&self.job.student)
            + self.teacher.as_ref().map_or(0.0, |teacher| forward(&teacher.config))
    }
}
