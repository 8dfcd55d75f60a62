//! One fine-tuning run: one task, one recipe, one seed.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_cli::Progress;
use entromask_encoder::SequenceClassifier;
use entromask_random::keyed;
use entromask_training::cross_entropy;
use rand::Rng;

use crate::config::FineTuning;
use crate::features::{Body, Features, TaskFeatures};
use crate::kept::Kept;
use crate::model::Source;
use crate::predict::{Predictions, Predictor};
use crate::results::{Parameters, RunResult, SplitFacts, TrainFacts, mean_floor, scores};
use crate::rows::Tokenized;
use crate::task::Task;
use crate::train::{Trained, Training};

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
    /// The classifier is written to `save` if that is given. What an interrupted run with this seed has `kept` is gone on from.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop, of class failed if training
    /// diverges.
    pub fn run(&self, seed: u64, save: Option<&Path>, kept: &mut Kept) -> anyhow::Result<RunResult> {
        let (task, data) = (&self.data.task, self.data);
        let head = self.recipe.head;
        let model = self.source.classifier(head, task.outputs(), self.draw(seed, "head"), self.device)?;
        self.device.seed(self.draw(seed, "dropout"));
        let parameters = model.num_params() as u64;
        let (trained, [choose, dev]) = Training::new(self, seed, kept).run(model, |model| {
            let choose = self.predict_all(model, &data.choose, self.features.map(|all| &all.choose))?;
            let dev = self.predict_all(model, &data.dev, self.features.map(|all| &all.dev))?;
            save.map_or(Ok(()), |dir| self.save(model, dir))?;
            Ok([choose, dev])
        })?;
        let Trained { steps, best_epoch, course } = trained;
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

    pub(crate) fn predict_all(
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
    pub(crate) fn loss(&self, logits: Tensor<2>, batch: &[usize]) -> Tensor<1> {
        let device = logits.device();
        let labels = batch.iter().map(|&row| self.data.train.labels[row]);
        if self.data.task.is_regression() {
            let targets = TensorData::new(labels.collect::<Vec<f32>>(), [batch.len(), 1]);
            return (logits - Tensor::from_data(targets, &device)).square().mean();
        }
        let classes = TensorData::new(labels.map(|class| class as i32).collect::<Vec<_>>(), [batch.len()]);
        cross_entropy(logits, Tensor::from_data(classes, &device))
    }

    /// A seed of its own for each purpose and task.
    pub(crate) fn draw(&self, seed: u64, purpose: &str) -> u64 {
        keyed(seed, &format!("glue {purpose} {}", self.data.task.name), 0, 0).next_u64()
    }

    /// Matrix products of the layers on real tokens in one forward pass.
    pub(crate) fn forward_flops(&self, split: &Tokenized) -> f64 {
        let per_row = |&length: &usize| length as f64 * self.source.config.body_flops_per_token(length);
        split.lengths().iter().map(per_row).sum()
    }
}
