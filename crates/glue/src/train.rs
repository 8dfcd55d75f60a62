//! The training of one run: epochs, batches, and where it goes on after an interruption.

use anyhow::Context;
use burn::module::Module;
use burn::tensor::Tensor;
use entromask_cli::check_interrupt;
use entromask_encoder::SequenceClassifier;
use entromask_fault::{Class, class_of};
use entromask_random::keyed;
use entromask_training::{Gradients, Optimizer, Schedule, diverged};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::batches::train_batches;
use crate::config::FineTuning;
use crate::finetune::FineTune;
use crate::freezing;
use crate::host::{Host, Step};
use crate::kept::Kept;
use crate::predict::Predictions;
use crate::rows::Tokenized;
use crate::stop::{Stop, Verdict};

/// How the training of a run went.
pub(crate) struct Trained {
    pub steps: u64,
    pub best_epoch: Option<u64>,
    pub course: Course,
}

/// What became of the epochs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Course {
    pub loss: Vec<f64>,
    pub valid_loss: Vec<f64>,
    pub trainable: Vec<u64>,
    /// Tokens and matrix products of training, and of choosing the epoch.
    pub tokens: u64,
    pub flops: f64,
}

/// How far a run has come, beside its weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// The epoch at work, from 0.
    epoch: u64,
    /// The batches of it that are done, and the sum of their rows' losses.
    batches: usize,
    sum: f64,
    course: Course,
    stop: Stop,
    pub best_epoch: Option<u64>,
    /// Whether all is trained, and only to be scored.
    is_over: bool,
}

/// One run in training.
pub(crate) struct Training<'a> {
    tuning: &'a FineTune<'a>,
    seed: u64,
    kept: &'a mut Kept,
    schedule: Schedule,
    optimizer: Optimizer,
    host: Host,
    reached: Reached,
    /// The model of the best epoch, for inference.
    best: Option<SequenceClassifier>,
}

impl<'a> Training<'a> {
    pub(crate) fn new(tuning: &'a FineTune<'a>, seed: u64, kept: &'a mut Kept) -> Self {
        let recipe = tuning.recipe;
        let steps = tuning.data.train.rows.len().div_ceil(recipe.batch_size) as u64 * recipe.epochs;
        let (stop, course) = (Stop::new(recipe.patience), Course::default());
        Self {
            tuning,
            seed,
            kept,
            schedule: Schedule::new(recipe.lr, recipe.warmup, recipe.decay, steps),
            optimizer: Optimizer::new(recipe.optimizer()),
            host: Host::default(),
            reached: Reached {
                epoch: 0,
                batches: 0,
                sum: 0.0,
                course,
                stop,
                best_epoch: None,
                is_over: false,
            },
            best: None,
        }
    }

    /// Trains `model`, which has the weights that a run with this seed begins with, or goes on where an earlier process was
    /// interrupted; then lets `measure` score the result.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop, of class failed if training diverges.
    pub(crate) fn run<T>(
        mut self,
        model: SequenceClassifier,
        measure: impl FnOnce(&SequenceClassifier) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Trained, T)> {
        let model = self.resumed(model)?;
        let model = self.epochs(model)?;
        let last = model.valid();
        let result = measure(self.best.as_ref().unwrap_or(&last));
        let measured = self.or_keep(result, &model)?;
        let Reached { best_epoch, course, .. } = self.reached;
        Ok((Trained { steps: self.optimizer.steps(), best_epoch, course }, measured))
    }

    /// The model after the epochs that are left.
    fn epochs(&mut self, mut model: SequenceClassifier) -> anyhow::Result<SequenceClassifier> {
        let recipe = self.tuning.recipe;
        let layers = freezing::layers(&model, recipe.freeze)?;
        while !self.reached.is_over {
            let blocks = recipe.freeze.blocks(layers, self.reached.epoch, recipe.epochs);
            let (thawed, trained) = freezing::frozen(model, blocks, layers);
            // Nothing goes back into frozen layers, which lie below all others.
            let back = 1.0 - blocks.saturating_sub(1) as f64 / layers.max(1) as f64;
            model = self.epoch(thawed)?;
            let before = self.reached.clone();
            self.note_epoch(trained, back);
            let verdict = self.judge(&model);
            if verdict.is_err() {
                // It is judged again, as a whole.
                self.reached = before;
            }
            let verdict = self.or_keep(verdict, &model)?;
            self.reached.epoch += 1;
            self.reached.is_over = verdict == Verdict::Stop || self.reached.epoch == recipe.epochs;
        }
        Ok(model)
    }

    /// The model after the rest of the epoch.
    fn epoch(&mut self, mut model: SequenceClassifier) -> anyhow::Result<SequenceClassifier> {
        let batches = self.order(self.reached.epoch);
        for batch in &batches[self.reached.batches..] {
            self.keep(&model)?;
            let (loss, gradients) = self.learn(&model, batch);
            check_finite(loss).with_context(|| self.place())?;
            let rate = self.schedule.rate(self.optimizer.steps());
            let step = self.optimizer.step(rate, model, gradients);
            (model, _) = step.with_context(|| self.place())?;
            self.reached.batches += 1;
            self.reached.sum += loss * batch.len() as f64;
            self.count(batch);
        }
        Ok(model)
    }

    /// Keeps what is reached where it is time to, or the user asks to stop.
    fn keep(&mut self, model: &SequenceClassifier) -> anyhow::Result<()> {
        if self.kept.is_due() {
            self.save(model);
        }
        self.or_keep(check_interrupt(), model)
    }

    /// Keeps what is reached where `done` is an interruption.
    fn or_keep<T>(&mut self, done: anyhow::Result<T>, model: &SequenceClassifier) -> anyhow::Result<T> {
        done.inspect_err(|error| {
            if class_of(error.as_ref()) == Class::Interrupted {
                self.save(model);
            }
        })
    }

    /// A run without a checkpoint is better than none.
    fn save(&mut self, model: &SequenceClassifier) {
        // A probe is done sooner than it is read.
        if self.tuning.features.is_some() {
            return;
        }
        let model = (model, &self.tuning.source.config);
        let saved = self.kept.save(model, &self.optimizer, self.best.as_ref(), &self.reached);
        if let Err(error) = saved {
            tracing::warn!("{}: no checkpoint: {error:#}", self.place_name());
        }
    }

    /// The model that an earlier process has kept of this run, if it has; else `model`.
    fn resumed(&mut self, model: SequenceClassifier) -> anyhow::Result<SequenceClassifier> {
        let Some(checkpoint) = self.kept.latest()? else { return Ok(model) };
        let (folder, config) = (&checkpoint.folder, &self.tuning.source.config);
        tracing::info!("{}: going on at step {}", self.place_name(), checkpoint.step);
        self.optimizer = Kept::optimizer(self.tuning.recipe.optimizer(), folder)?;
        self.best = self.kept.best(&checkpoint.state, &model, config)?;
        self.reached = checkpoint.state;
        self.skip_dropout(&model);
        self.count_all();
        model.with_weights_in(folder, config)
    }

    /// The loss of a batch and its gradients.
    fn learn(&mut self, model: &SequenceClassifier, batch: &[usize]) -> (f64, Gradients) {
        let Self { tuning, host, .. } = self;
        let (is_pair, split) = (tuning.data.task.is_pair(), &tuning.data.train);
        let (config, device) = (&tuning.source.config, tuning.device.clone().autodiff());
        let logits = match tuning.features {
            Some(features) => model.logits_of(features.train.batch(batch, &device)),
            None if entromask_device::is_cpu(tuning.device) => {
                let rows = split.sentences(batch, is_pair, config);
                let dropout = tuning.draw(self.seed, "dropout");
                let seed = keyed(dropout, "glue dropout", self.optimizer.steps(), 0).next_u64();
                let step = Step { model, config, rows: &rows, seed, device: &device };
                return host.learn(&step, |features| tuning.loss(model.logits_of(features), batch));
            }
            None => model.logits(&split.batch(batch, is_pair, config, &device)),
        };
        let loss = tuning.loss(logits, batch);
        let gradients = Gradients::collect(model, loss.backward());
        (loss.into_scalar::<f64>(), gradients)
    }

    /// Brings the device's generator to where it was after the batches that are done: the head draws from it what it drops. On
    /// a GPU the body does, too, and goes on with other draws.
    fn skip_dropout(&self, model: &SequenceClassifier) {
        let Self { tuning, reached, .. } = self;
        if !entromask_device::is_cpu(tuning.device) {
            let dropout = tuning.draw(self.seed, "dropout");
            return tuning.device.seed(keyed(dropout, "glue resumed", self.optimizer.steps(), 0).next_u64());
        }
        let width = tuning.source.config.hidden_size;
        let draw = |rows: usize| {
            model.logits_of(Tensor::zeros([rows, width], &tuning.device.clone().autodiff()));
        };
        (0..reached.epoch).flat_map(|epoch| self.order(epoch)).for_each(|batch| draw(batch.len()));
        self.order(reached.epoch)[..reached.batches].iter().for_each(|batch| draw(batch.len()));
    }

    /// Ends the account of the epoch, in which `trained` numbers were trained and gradients went back through the share `back`
    /// of the layers.
    fn note_epoch(&mut self, trained: u64, back: f64) {
        let (tuning, reached) = (self.tuning, &mut self.reached);
        let (split, course) = (&tuning.data.train, &mut reached.course);
        course.loss.push(reached.sum / split.rows.len() as f64);
        course.trainable.push(trained);
        if tuning.features.is_none() || reached.epoch == 0 {
            course.tokens += split.tokens();
            course.flops += (1.0 + 2.0 * back) * tuning.forward_flops(split);
        }
        (reached.batches, reached.sum) = (0, 0.0);
    }

    /// Whether to go on, by the rows to choose on.
    fn judge(&mut self, model: &SequenceClassifier) -> anyhow::Result<Verdict> {
        if self.tuning.recipe.patience == 0 {
            return Ok(Verdict::GoOn);
        }
        let model = model.valid();
        let loss = self.validate(&model)?;
        let verdict = self.reached.stop.after(loss);
        if verdict == Verdict::Best {
            (self.best, self.reached.best_epoch) = (Some(model), Some(self.reached.epoch));
        }
        Ok(verdict)
    }

    /// The mean loss of the rows to choose on.
    fn validate(&mut self, model: &SequenceClassifier) -> anyhow::Result<f64> {
        let (tuning, course) = (self.tuning, &mut self.reached.course);
        let splits = &tuning.data.choose;
        let found = tuning.predict_all(model, splits, tuning.features.map(|all| &all.choose))?;
        let rows: usize = splits.iter().map(|split| split.rows.len()).sum();
        let sum = |(found, split): (&Predictions, &Tokenized)| found.loss * split.rows.len() as f64;
        let loss = found.iter().zip(splits).map(sum).sum::<f64>() / rows as f64;
        course.valid_loss.push(loss);
        if tuning.features.is_none() {
            course.tokens += splits.iter().map(Tokenized::tokens).sum::<u64>();
            course.flops += splits.iter().map(|split| tuning.forward_flops(split)).sum::<f64>();
        }
        Ok(loss)
    }

    /// The rows of each batch of an epoch.
    fn order(&self, epoch: u64) -> Vec<Vec<usize>> {
        let FineTune { data, recipe, .. } = self.tuning;
        let mut rng = keyed(self.seed, &format!("glue order {}", data.task.name), 0, epoch);
        train_batches(&data.train.lengths(), recipe.batch_size, &mut rng)
    }

    /// Tells the tokens of a batch.
    fn count(&self, batch: &[usize]) {
        let rows = &self.tuning.data.train.rows;
        if self.tuning.features.is_none() {
            self.tuning.progress.inc(batch.iter().map(|&row| rows[row].ids.len() as u64).sum());
        }
    }

    /// Tells the tokens of what an earlier process has done.
    fn count_all(&self) {
        let Reached { epoch, batches, .. } = self.reached;
        self.tuning.progress.inc(epoch * self.tuning.data.train.tokens());
        self.order(epoch)[..batches].iter().for_each(|batch| self.count(batch));
    }

    /// Where training diverged: of many runs one has to be found and mended.
    fn place(&self) -> String {
        let FineTuning { lr, batch_size, warmup, clip, .. } = self.tuning.recipe;
        let recipe = format!("lr {lr}, batch_size {batch_size}, warmup {warmup}, clip {clip}");
        format!("{}, epoch {} ({recipe}; finished runs are kept)", self.place_name(), self.reached.epoch + 1)
    }

    fn place_name(&self) -> String {
        format!("{}, seed {}", self.tuning.data.task.name, self.seed)
    }
}

/// Infinite losses may have finite gradients, but a result with one cannot be read again.
fn check_finite(loss: f64) -> anyhow::Result<()> {
    if loss.is_finite() { Ok(()) } else { Err(diverged(&format!("the loss is {loss}"), "")) }
}
