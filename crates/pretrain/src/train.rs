//! The training loop: resume, step, log, validate, checkpoint.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use burn::module::Module;
use entromask_artifact::Workbench;
use entromask_cli::{Progress, interrupted};
use entromask_device::Devices;
use entromask_encoder::MaskedLm;
use entromask_fault::{Class, Fault, class_of};
use entromask_random::keyed;
use entromask_training::{Checkpoints, Kept, Optimizer, Schedule, diverged, is_divergence};
use fs_err as fs;
use rand::Rng;

use crate::begin::{Begin, Teacher};
use crate::config::{Budget, Done, ObjectiveConfig};
use crate::counters::{Counters, FIRST_STEPS, Logged};
use crate::data::{Corpus, Example};
use crate::finite::is_finite;
use crate::flops;
use crate::job::{Job, Start};
use crate::journal::{Journal, METRICS, StepRow};
use crate::online::{Freshness, Now, Online};
use crate::remarks;
use crate::shards::{Shards, StepOutput, Task};
use crate::step::Losses;
use crate::validation::Validation;

/// File names inside a checkpoint.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
/// The counters of a published model, beside its optimizer.
pub(crate) const COUNTERS: &str = "counters.json";

/// A checkpoint is written after so long, however few steps that were: what a run that is killed can lose.
const PATIENCE: Duration = Duration::from_mins(5);

/// A finished run.
pub(crate) struct Trained {
    pub model: MaskedLm,
    pub optimizer: Optimizer,
    pub counters: Counters,
    /// Rows and masked positions of each validation.
    pub validated: (usize, usize),
    pub metrics: PathBuf,
    pub speed: PathBuf,
    /// What was masked, where that was chosen while training ran.
    pub masks: Option<PathBuf>,
    pub checkpoints: Checkpoints,
}

/// Trains from the newest checkpoint, or from the start, to the end of the run's epochs or of its budget.
pub(crate) fn train(job: &Job, bench: &Workbench, devices: &Devices, names: &str) -> Result<Trained> {
    let mut trainer = Trainer::open(job, bench, devices)?;
    trainer.announce(names);
    remarks::of_soft_targets(job);
    remarks::of_dropout(job);
    remarks::of_nothing_held_out(job);
    trainer.validate_at_the_start()?;
    trainer.validate_what_was_due()?;
    let corpus = job.corpus();
    while !trainer.has_ended() {
        trainer.epoch(&corpus).inspect_err(|error| remarks::of_a_failure(error, &trainer.checkpoints))?;
    }
    trainer.progress.finish();
    remarks::of_the_end(job, trainer.done(), trainer.before_last_step);
    Ok(trainer.finish())
}

struct Trainer<'a> {
    job: &'a Job,
    shards: Shards,
    online: Option<Online>,
    optimizer: Optimizer,
    schedule: Schedule,
    validation: Validation,
    counters: Counters,
    checkpoints: Checkpoints,
    journal: Journal,
    progress: Progress,
    /// When the seconds of a budget were last counted.
    clock: Instant,
    /// When the last checkpoint was written, or the run began.
    saved: Instant,
    /// Where the horizon stood before the last step of this process.
    before_last_step: Option<Done>,
}

impl<'a> Trainer<'a> {
    fn open(job: &'a Job, bench: &Workbench, devices: &Devices) -> Result<Self> {
        let (device, products) = (devices.all[0].clone().autodiff(), devices.products);
        let folder = bench.state_dir();
        fs::create_dir_all(&folder)?;
        let run = job.config.run;
        let checkpoints = Checkpoints::new(&folder, run.keep);
        let begin = match checkpoints.latest::<Counters>()? {
            Some(checkpoint) => Begin::resume(job, checkpoint, &device)?,
            None => Begin::fresh(job, &folder.join(METRICS), &device)?,
        };
        let Begin { model, optimizer, mut counters, resumed, logged } = begin;
        let done = (counters.tokens, counters.flops);
        let Logged { metrics, masks } = counters.logged.take().unwrap_or_default();
        let kept = |rows| logged.map(|last| Kept { last, rows });
        let journal = Journal::open(&folder, kept(metrics), (run.log_every, run.peak_flops), done)?;
        let online = job
            .config
            .sown_online()
            .map(|config| Online::open(config, job.vocabulary(), &folder, (resumed.as_deref(), kept(masks))));
        let progress = Progress::new("training", job.facts.tokens * job.span.epochs).untold();
        progress.resume_at(counters.tokens - counters.earlier_tokens);
        Ok(Self {
            job,
            shards: Shards::new(&model.with_products(products), &job.student, &devices.all, |device| {
                Teacher::load(job, device, products)
            })?,
            online: online.transpose()?,
            optimizer,
            schedule: job.config.schedule(counters.done(job.config.budget, job.plan.steps()).total),
            validation: Validation::read(
                &job.paths.tokens,
                &job.tokens,
                job.facts.special.mask,
                job.config.validation.rows,
            )?,
            counters,
            checkpoints,
            journal,
            progress,
            clock: Instant::now(),
            saved: Instant::now(),
            before_last_step: None,
        })
    }

    fn announce(&self, devices: &str) {
        let (job, span) = (self.job, self.job.span);
        let threads = match rayon::current_num_threads() {
            1 => "1 thread".into(),
            n => format!("{n} threads"),
        };
        tracing::info!("entromask-pretrain {} on {devices} ({threads})", env!("CARGO_PKG_VERSION"));
        tracing::debug!("config {}", job.recipe.config);
        tracing::info!(
            "{} parameters; epochs {}..{} of {}, {} tokens each; step {} of {}{}",
            self.model().num_params(),
            span.first_epoch,
            span.end_epoch(),
            job.config.epochs,
            job.facts.tokens,
            self.counters.step,
            job.end_step(),
            job.schedule_beyond()
        );
    }

    /// From the current step to the end of its epoch, or of the budget.
    fn epoch(&mut self, corpus: &Corpus) -> Result<()> {
        let plan = &self.job.plan;
        let (epoch, mut rows_done) = plan.start(self.counters.step);
        let mut rows = corpus.epoch(epoch, rows_done)?;
        while self.counters.step < plan.first_step(epoch + 1) && !self.has_ended() {
            let share = self.job.config.mask_transfer.map_or(1.0, |transfer| transfer.share(self.done()));
            let mut batch = rows.batch(plan.size(epoch, rows_done), share)?;
            rows_done += batch.len();
            self.choose_masks(&mut batch)?;
            match self.step(&batch) {
                Err(error) if class_of(error.as_ref()) == Class::Interrupted => {
                    return Err(self.give_up(error));
                }
                outcome => outcome?,
            }
            self.after_step()?;
        }
        Ok(())
    }

    /// Keeps what there was before a step that was not made to its end.
    fn give_up(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.checkpoint().err().unwrap_or(error)
    }

    /// Names the teacher where it is its fault.
    fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match self.job.paths.teacher.as_ref().or(self.job.paths.targets.as_ref()) {
            Some(teacher) if class_of(error.as_ref()) == Class::Input => {
                error.context(teacher.display().to_string())
            }
            _ => error,
        }
    }

    fn step(&mut self, batch: &[Example]) -> Result<()> {
        let tokens = batch.iter().map(|row| row.input_ids.len() as u64).sum::<u64>();
        if batch.iter().all(|row| row.positions.is_empty()) {
            // Rows of special tokens only: there is nothing to learn from.
            self.counters.step += 1;
            self.counters.tokens += tokens;
            return Ok(());
        }
        let (done, job, config) = (self.done(), self.job, &self.job.config);
        self.before_last_step = Some(done);
        let objective = config.objective.at(&config.transfer, done);
        let seed = keyed(config.seed, "dropout", self.counters.step, 0).next_u64();
        self.shards.device().seed(seed);
        let entropies = self.online.as_ref().is_some_and(Online::learns);
        // Masks that were chosen for a step are counted: it is made to its end.
        let stops = self.online.is_none();
        let task = Task { objective: &objective, rows: config.micro_batch, entropies, seed, stops };
        let StepOutput { losses, gradients, entropies } =
            self.shards.learn(batch, task).map_err(|error| self.blame(error))?;
        let rate = self.schedule.between(done.at, self.after(done, tokens));
        let mut row = self.row(&losses, &objective, (tokens, rate));
        let now = self.now();
        if let Some(online) = &mut self.online {
            let Freshness { staleness, rank_drift } = online.learn(batch, &entropies, now);
            (row.staleness, row.rank_drift) = (staleness, rank_drift);
        } else if self.job.masks_itself() {
            row.staleness = Some((now.tokens - self.counters.earlier_tokens) as f64);
        }
        let updated = self.shards.update(|model| self.optimizer.step(rate, model, gradients));
        row.grad_norm = updated.with_context(|| format!("step {}", row.step))?;
        self.counters.step = row.step;
        self.counters.tokens = row.tokens;
        self.counters.flops +=
            flops::of_step(&job.student, self.shards.teacher().config(), &objective, batch);
        self.counters.count_loss(row.loss, row.ce, self.most_cross_entropy())?;
        self.count_seconds();
        self.progress.inc(tokens);
        self.progress.label(format!("step {} loss {:.3}", row.step, row.loss));
        self.journal.step(&row, self.counters.flops)
    }

    /// Chooses the masks of rows that have none yet.
    fn choose_masks(&mut self, batch: &mut [Example]) -> Result<()> {
        let (now, began) = (self.now(), batch.len());
        let Some(online) = &mut self.online else { return Ok(()) };
        let model = self.shards.model().valid();
        let rows = self.job.config.micro_batch.unwrap_or(began);
        let device = self.shards.device().clone().inner();
        let chosen = online.choose(batch, (&model, &self.job.student), now, (rows, &device))?;
        self.counters.flops += chosen.flops;
        *self.counters.online.get_or_insert_default() += chosen.budget;
        Ok(())
    }

    /// A teacher's losses are there in the steps in which it is asked for them.
    fn row(&self, losses: &Losses, objective: &ObjectiveConfig, (tokens, lr): (u64, f64)) -> StepRow {
        let step = self.counters.step + 1;
        StepRow {
            step,
            epoch: self.job.plan.epochs(step),
            tokens: self.counters.tokens + tokens,
            loss: losses.total,
            ce: losses.ce,
            kd: (objective.kd > 0.0).then_some(losses.kd),
            cos: (objective.cos > 0.0).then_some(losses.cos),
            hidden: (objective.hidden > 0.0).then_some(losses.hidden),
            lr,
            ..StepRow::default()
        }
    }

    fn after_step(&mut self) -> Result<()> {
        let (step, end) = (self.counters.step, self.has_ended());
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        self.counters.unvalidated = end || due(self.job.config.validation.every);
        let best = match self.validate_if_due() {
            Err(error) if class_of(error.as_ref()) == Class::Interrupted => return Err(self.give_up(error)),
            outcome => outcome?,
        };
        let asked_to_end = interrupted();
        let every = self.job.config.run.checkpoint_every;
        if end || asked_to_end || due(every) || (every > 0 && self.saved.elapsed() >= PATIENCE) {
            self.checkpoint()?;
            // Only what is written anyway: the result is the last model, and nearly every validation is the best so far.
            if best {
                self.checkpoints.mark_best(step)?;
            }
        }
        if asked_to_end && !end {
            return Err(Fault::interrupted().into());
        }
        Ok(())
    }

    /// The model of an earlier round has been validated at its end.
    fn validate_at_the_start(&mut self) -> Result<()> {
        let untouched = self.counters.step == self.job.first_step() && self.counters.valid.is_none();
        if untouched && self.job.earlier.is_none() {
            self.validate().map_err(|error| match &self.job.paths.start {
                Start::Init(model) if is_divergence(&error) => broken(model),
                _ => error,
            })?;
        }
        Ok(())
    }

    /// Whoever stopped this run did not wait for the validation of its last step.
    fn validate_what_was_due(&mut self) -> Result<()> {
        if self.validate_if_due()? {
            self.checkpoints.mark_best(self.counters.step)?;
        }
        Ok(())
    }

    /// True if there is no better model so far.
    fn validate_if_due(&mut self) -> Result<bool> {
        let best = self.counters.unvalidated && self.validate()?;
        self.counters.unvalidated = false;
        Ok(best)
    }

    /// True if there is no better model so far.
    ///
    /// # Errors
    /// A fault of class interrupted if the user asks to stop: nothing is counted then.
    fn validate(&mut self) -> Result<bool> {
        let (job, began) = (self.job, Instant::now());
        let model = self.model();
        // A device that has no room for more rows to train on may have none to validate on.
        let rows = job.config.batch_size.min(job.config.micro_batch.unwrap_or(usize::MAX));
        let score = self.validation.score(model, &job.student, rows, self.shards.device())?;
        let Some(score) = score else { return Ok(false) };
        let rise = job.config.run.divergence;
        let best = self.counters.count_validation(score, (rise > 0.0).then_some(rise))?;
        self.journal.validation(job.plan.epochs(self.counters.step), &self.counters, &score)?;
        self.pause(began);
        Ok(best)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let began = Instant::now();
        self.journal.sync()?;
        self.online.as_ref().map_or(Ok(()), Online::sync)?;
        let model = self.model();
        if !is_finite(model) {
            return Err(diverged("a weight is no longer a number", ""));
        }
        let masks = self.online.as_ref().map_or(0, Online::rows);
        let logged = Some(Logged { metrics: self.journal.rows(), masks });
        let counters = Counters { logged, ..self.counters.clone() };
        self.checkpoints.save(counters.step, &counters, |folder| {
            model.save_pretrained(&self.job.student, folder, &[])?;
            self.optimizer.save(&folder.join(OPTIMIZER))?;
            self.online.as_ref().map_or(Ok(()), |online| online.save(folder))
        })?;
        tracing::debug!("checkpoint at step {}", counters.step);
        self.saved = Instant::now();
        self.pause(began);
        Ok(())
    }

    fn finish(self) -> Trained {
        let [metrics, speed] = self.journal.paths();
        Trained {
            model: self.shards.into_model(),
            optimizer: self.optimizer,
            counters: self.counters,
            validated: self.validation.size(),
            metrics,
            speed,
            masks: self.online.as_ref().map(|online| online.path().into()),
            checkpoints: self.checkpoints,
        }
    }

    fn model(&self) -> &MaskedLm {
        self.shards.model()
    }

    fn now(&self) -> Now {
        Now { step: self.counters.step, tokens: self.counters.tokens }
    }

    fn done(&self) -> Done {
        self.counters.done(self.job.config.budget, self.job.plan.steps())
    }

    /// Where the horizon will stand after a step of `tokens`, as far as one can know before the weights change.
    fn after(&self, done: Done, tokens: u64) -> f64 {
        let length = match self.job.config.budget {
            None | Some(Budget::Steps(_)) => 1.0,
            Some(Budget::Tokens(_)) => tokens as f64,
            Some(Budget::Seconds(_)) => self.clock.elapsed().as_secs_f64(),
        };
        done.at + length
    }

    fn has_ended(&self) -> bool {
        let Done { at, total, .. } = self.done();
        self.counters.step >= self.job.end_step() || (self.job.config.budget.is_some() && at >= total)
    }

    /// Time that a budget of seconds counts ends here, and begins again.
    fn count_seconds(&mut self) {
        if matches!(self.job.config.budget, Some(Budget::Seconds(_))) {
            let step = self.clock.elapsed().as_secs_f64();
            self.clock = Instant::now();
            self.counters.seconds = Some(self.counters.seconds.unwrap_or(0.0) + step);
        }
    }

    /// Validation and checkpoints since `began` count neither for the speed nor for a budget.
    fn pause(&mut self, began: Instant) {
        self.journal.pause(began.elapsed());
        self.clock += began.elapsed();
    }

    /// The running mean of the cross-entropy above which a run has diverged: worse than guessing, ln V. The weights that a run
    /// begins with may be for something else, and its first step says little.
    fn most_cross_entropy(&self) -> Option<f64> {
        let rise = self.job.config.run.divergence;
        let guessing = (self.job.student.vocab_size as f64).ln();
        let is_late = self.counters.step >= self.job.first_step() + FIRST_STEPS;
        (rise > 0.0 && self.job.config.objective.ce > 0.0 && is_late).then_some(guessing + rise)
    }
}

/// Nothing was trained yet.
fn broken(model: &Path) -> anyhow::Error {
    Fault::input(format!("{}: its validation loss is no number", model.display()))
        .remedy("begin with another model, or look whether its file is damaged")
        .into()
}
