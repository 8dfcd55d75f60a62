//! One fine-tuning run: one task, one recipe, one seed.

use std::path::Path;

use anyhow::Context;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::SequenceClassifier;
use entromask_fault::Fault;
use entromask_random::keyed;
use entromask_training::{Gradients, Optimizer, Schedule, cross_entropy};
use rand::Rng;

use crate::batches::train_batches;
use crate::config::FineTuning;
use crate::features::{Body, Features, TaskFeatures};
use crate::freezing;
use crate::host::{Host, Step};
use crate::model::Source;
use crate::predict::{Predictions, Predictor};
use crate::results::{Parameters, RunResult, SplitFacts, TrainFacts, mean_floor, scores};
use crate::rows::Tokenized;
use crate::stop::{Stop, Verdict};
use crate::task::Task;

/// A task, tokenized.
#[derive(Clone, Debug)]
pub struct TaskData {
    /// The task.
    pub task: Task,
    /// Training rows.
    pub train: Tokenized,
    /// Rows to choose epochs or recipes on, of each split to score; empty if nothing is chosen.
    pub choose: Vec<Tokenized>,
    /// Rows to report, of each split to score, in the task's order.
    pub dev: Vec<Tokenized>,
}

/// Everything of a run but its seed.
#[derive(Debug)]
pub struct FineTune<'a> {
    /// The model to start from.
    pub source: Source,
    /// The rows.
    pub data: &'a TaskData,
    /// The recipe.
    pub recipe: &'a FineTuning,
    /// What the body says about the rows, for a recipe that [is a probe](FineTuning::is_probe); see
    /// [`features`](FineTune::features).
    pub features: Option<&'a TaskFeatures>,
    /// As in [`RunConfig`](crate::config::RunConfig).
    pub eval_batch_size: usize,
    /// Where to compute, without automatic differentiation.
    pub device: &'a Device,
    /// Counts tokens.
    pub progress: &'a Progress,
}

/// A model after its training, and how that went.
struct Trained {
    /// For inference.
    model: SequenceClassifier,
    steps: u64,
    best_epoch: Option<u64>,
    course: Course,
}

/// What became of the epochs.
#[derive(Default)]
struct Course {
    loss: Vec<f64>,
    valid_loss: Vec<f64>,
    trainable: Vec<u64>,
    /// Tokens and matrix products of training, and of choosing the epoch.
    tokens: u64,
    flops: f64,
}

impl TaskData {
    /// Tokens that a run reads, if it trains all epochs.
    pub fn tokens(&self, recipe: &FineTuning) -> u64 {
        let epochs = if recipe.is_probe() { 1 } else { recipe.epochs };
        epochs * self.train.tokens() + self.scored().map(Tokenized::tokens).sum::<u64>()
    }

    fn scored(&self) -> impl Iterator<Item = &Tokenized> {
        self.choose.iter().chain(&self.dev)
    }
}

impl FineTune<'_> {
    /// Trains and scores with one seed, which decides the head's initial weights, the order of the rows and the dropout.
    /// The classifier is written to `save` if that is given.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop, of class failed if training
    /// diverges.
    pub fn run(&self, seed: u64, save: Option<&Path>) -> anyhow::Result<RunResult> {
        let (task, data) = (&self.data.task, self.data);
        let head = self.recipe.head;
        let model = self.source.classifier(head, task.outputs(), self.draw(seed, "head"), self.device)?;
        self.device.seed(self.draw(seed, "dropout"));
        let parameters = model.num_params() as u64;
        let Trained { model, steps, best_epoch, course } = self.train(model, seed)?;
        let choose = self.predict_all(&model, &data.choose, self.features.map(|all| &all.choose))?;
        let dev = self.predict_all(&model, &data.dev, self.features.map(|all| &all.dev))?;
        if let Some(dir) = save {
            self.save(&model, dir)?;
        }
        let split = SplitFacts::of(&data.train);
        Ok(RunResult {
            task: task.name.clone(),
            seed,
            recipe: self.recipe.clone(),
            train: TrainFacts { split, steps, loss: course.loss, valid_loss: course.valid_loss, best_epoch },
            parameters: Parameters { total: parameters, trainable: course.trainable },
            dev: data.dev.iter().map(SplitFacts::of).collect(),
            choose: scores(task, &choose, &data.choose),
            metrics: scores(task, &dev, &data.dev),
            floor: Some(mean_floor(task, &data.dev)),
            tokens: course.tokens + data.scored().map(Tokenized::tokens).sum::<u64>(),
            flops: course.flops + data.scored().map(|split| self.forward_flops(split)).sum::<f64>(),
        })
    }

    /// Runs the frozen body once on each row. The head and the seed do not matter, but what it pools does.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn features(&self) -> anyhow::Result<TaskFeatures> {
        let outputs = self.data.task.outputs();
        let model = self.source.classifier(self.recipe.head, outputs, 0, self.device)?.valid();
        let (config, batch_size) = (&self.source.config, self.eval_batch_size);
        let body = Body { model: &model, config, batch_size, device: self.device, progress: self.progress };
        TaskFeatures::of(&body, self.data)
    }

    fn train(&self, mut model: SequenceClassifier, seed: u64) -> anyhow::Result<Trained> {
        let (recipe, split) = (self.recipe, &self.data.train);
        let layers = freezing::layers(&model, recipe.freeze)?;
        let mut trainer = Trainer::new(self, self.draw(seed, "dropout"));
        let mut stop = Stop::new(recipe.patience);
        let (mut course, mut best) = (Course::default(), None);
        for epoch in 0..recipe.epochs {
            let blocks = recipe.freeze.blocks(layers, epoch, recipe.epochs);
            let (thawed, numbers) = freezing::frozen(model, blocks, layers);
            let place = || self.place(seed, epoch);
            let (next, loss) = trainer.epoch(thawed, &self.order(seed, epoch), &place)?;
            model = next;
            course.loss.push(loss);
            course.trainable.push(numbers);
            if self.features.is_none() || epoch == 0 {
                course.tokens += split.tokens();
                // Nothing goes back into frozen layers, which lie below all others.
                let back = 1.0 - blocks.saturating_sub(1) as f64 / layers.max(1) as f64;
                course.flops += (1.0 + 2.0 * back) * self.forward_flops(split);
            }
            if recipe.patience > 0 {
                match stop.after(self.validate(&model.valid(), &mut course)?) {
                    Verdict::Best => best = Some((model.valid(), epoch)),
                    Verdict::GoOn => {}
                    Verdict::Stop => break,
                }
            }
        }
        let steps = trainer.steps();
        let (model, best_epoch) =
            best.map_or_else(|| (model.valid(), None), |(model, epoch)| (model, Some(epoch)));
        Ok(Trained { model, steps, best_epoch, course })
    }

    /// Where training diverged: of many runs one has to be found and mended.
    fn place(&self, seed: u64, epoch: u64) -> String {
        let (task, FineTuning { lr, batch_size, warmup, clip, .. }) = (&self.data.task.name, self.recipe);
        let recipe = format!("lr {lr}, batch_size {batch_size}, warmup {warmup}, clip {clip}");
        format!("{task}, seed {seed}, epoch {} ({recipe}; finished runs are kept)", epoch + 1)
    }

    /// The mean loss of the rows to choose on.
    fn validate(&self, model: &SequenceClassifier, course: &mut Course) -> anyhow::Result<f64> {
        let splits = &self.data.choose;
        let found = self.predict_all(model, splits, self.features.map(|all| &all.choose))?;
        let rows: usize = splits.iter().map(|split| split.rows.len()).sum();
        let sum = |(found, split): (&Predictions, &Tokenized)| found.loss * split.rows.len() as f64;
        let loss = found.iter().zip(splits).map(sum).sum::<f64>() / rows as f64;
        course.valid_loss.push(loss);
        if self.features.is_none() {
            course.tokens += splits.iter().map(Tokenized::tokens).sum::<u64>();
            course.flops += splits.iter().map(|split| self.forward_flops(split)).sum::<f64>();
        }
        Ok(loss)
    }

    fn predict_all(
        &self,
        model: &SequenceClassifier,
        splits: &[Tokenized],
        features: Option<&Vec<Features>>,
    ) -> anyhow::Result<Vec<Predictions>> {
        let predictor = Predictor {
            task: &self.data.task,
            config: &self.source.config,
            batch_size: self.eval_batch_size,
            device: self.device,
            progress: self.progress,
        };
        let Some(features) = features else {
            return splits.iter().map(|split| predictor.predict(model, split)).collect();
        };
        let pairs = splits.iter().zip(features);
        pairs.map(|(split, features)| predictor.predict_from(model, split, features)).collect()
    }

    fn save(&self, model: &SequenceClassifier, dir: &Path) -> anyhow::Result<()> {
        fs_err::create_dir_all(dir)?;
        let model = model.clone().with_labels(self.data.task.labels.clone());
        model.save_pretrained(&self.source.config, dir, &[])?;
        self.source.copy_tokenizer(dir)
    }

    /// Cross-entropy of classes, squared error of numbers; mean over the training rows numbered `batch`.
    fn loss(&self, logits: Tensor<2>, batch: &[usize]) -> Tensor<1> {
        let device = logits.device();
        let labels = batch.iter().map(|&row| self.data.train.labels[row]);
        if self.data.task.is_regression() {
            let targets = TensorData::new(labels.collect::<Vec<f32>>(), [batch.len(), 1]);
            return (logits - Tensor::from_data(targets, &device)).square().mean();
        }
        let classes = TensorData::new(labels.map(|class| class as i32).collect::<Vec<_>>(), [batch.len()]);
        cross_entropy(logits, Tensor::from_data(classes, &device))
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
        let mut rng = keyed(seed, &format!("glue order {}", self.data.task.name), 0, epoch);
        train_batches(&self.data.train.lengths(), self.recipe.batch_size, &mut rng)
    }

    /// A seed of its own for each purpose and task.
    fn draw(&self, seed: u64, purpose: &str) -> u64 {
        keyed(seed, &format!("glue {purpose} {}", self.data.task.name), 0, 0).next_u64()
    }

    /// Matrix products of the layers on real tokens in one forward pass.
    fn forward_flops(&self, split: &Tokenized) -> f64 {
        let per_row = |&length: &usize| length as f64 * self.source.config.body_flops_per_token(length);
        split.lengths().iter().map(per_row).sum()
    }
}

/// The steps of a run.
struct Trainer<'a> {
    tuning: &'a FineTune<'a>,
    schedule: Schedule,
    optimizer: Optimizer,
    /// What decides what is dropped.
    dropout: u64,
    host: Host,
}

impl<'a> Trainer<'a> {
    fn new(tuning: &'a FineTune<'a>, dropout: u64) -> Self {
        let recipe = tuning.recipe;
        let steps = tuning.data.train.rows.len().div_ceil(recipe.batch_size) as u64 * recipe.epochs;
        let schedule = Schedule::new(recipe.lr, recipe.warmup, recipe.decay, steps);
        Self {
            tuning,
            schedule,
            optimizer: Optimizer::new(recipe.optimizer()),
            dropout,
            host: Host::default(),
        }
    }

    fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The model after one pass over the training rows, and the mean loss of the rows; `place` names it in errors.
    fn epoch(
        &mut self,
        mut model: SequenceClassifier,
        batches: &[Vec<usize>],
        place: &dyn Fn() -> String,
    ) -> anyhow::Result<(SequenceClassifier, f64)> {
        let split = &self.tuning.data.train;
        let mut sum = 0.0;
        for batch in batches {
            check_interrupt()?;
            let (loss, gradients) = self.learn(&model, batch);
            check_finite(loss).with_context(place)?;
            let rate = self.schedule.rate(self.optimizer.steps());
            (model, _) = self.optimizer.step(rate, model, gradients).with_context(place)?;
            sum += loss * batch.len() as f64;
            if self.tuning.features.is_none() {
                self.tuning.progress.inc(batch.iter().map(|&row| split.rows[row].ids.len() as u64).sum());
            }
        }
        Ok((model, sum / split.rows.len() as f64))
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
                let seed = keyed(self.dropout, "glue dropout", self.optimizer.steps(), 0).next_u64();
                let step = Step { model, config, rows: &rows, seed, device: &device };
                return host.learn(&step, |features| tuning.loss(model.logits_of(features), batch));
            }
            None => model.logits(&split.batch(batch, is_pair, config, &device)),
        };
        let loss = tuning.loss(logits, batch);
        let gradients = Gradients::collect(model, loss.backward());
        (loss.into_scalar::<f64>(), gradients)
    }
}

/// Infinite losses may have finite gradients, but a result with one cannot be read again.
fn check_finite(loss: f64) -> Result<(), Fault> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(Fault::failed(format!("training diverged: the loss is {loss}"))
        .remedy("lower lr or clip, or lengthen warmup"))
}
