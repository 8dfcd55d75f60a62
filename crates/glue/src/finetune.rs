//! One fine-tuning run: one task, one seed.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::{Batch, SequenceClassifier};
use entromask_random::keyed;
use entromask_training::{AdamW, Gradients, Schedule, cross_entropy};
use rand::Rng;

use crate::batches::{eval_batches, train_batches};
use crate::config::FineTuning;
use crate::metric::majority;
use crate::model::Source;
use crate::results::{RunResult, Score, SplitFacts, TrainFacts};
use crate::rows::Tokenized;
use crate::task::Task;

/// A task, tokenized.
#[derive(Clone, Debug)]
pub struct TaskData {
    /// The task.
    pub task: &'static Task,
    /// Training rows.
    pub train: Tokenized,
    /// Tokenized of each split to score, in the task's order.
    pub dev: Vec<Tokenized>,
}

/// Everything of a run but its seed.
#[derive(Debug)]
pub struct FineTune<'a> {
    /// The model to start from.
    pub source: &'a Source,
    /// The rows.
    pub data: &'a TaskData,
    /// The recipe.
    pub recipe: &'a FineTuning,
    /// Tokenized of a forward pass when scoring.
    pub eval_batch_size: usize,
    /// Where to compute, without automatic differentiation.
    pub device: &'a Device,
    /// Counts tokens.
    pub progress: &'a Progress,
}

impl TaskData {
    /// Tokens that a run with `epochs` epochs reads.
    pub fn tokens(&self, epochs: u64) -> u64 {
        epochs * self.train.tokens() + self.dev.iter().map(Tokenized::tokens).sum::<u64>()
    }
}

impl FineTune<'_> {
    /// Trains and scores with one seed, which decides the head's initial weights, the order of the rows and the dropout.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop, of class failed if training
    /// diverges.
    pub fn run(&self, seed: u64) -> anyhow::Result<RunResult> {
        let task = self.data.task;
        let model = self.source.classifier(task.outputs(), self.draw(seed, "head"), self.device)?;
        self.device.seed(self.draw(seed, "dropout"));
        let (model, train) = self.train(model, seed)?;
        let model = model.valid();
        let predictions = self.data.dev.iter().map(|split| self.predict(&model, split));
        let predictions = predictions.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(RunResult {
            task: task.name.clone(),
            seed,
            recipe: self.recipe.clone(),
            train,
            dev: self.data.dev.iter().map(SplitFacts::of).collect(),
            metrics: scores(task, &predictions, &self.data.dev),
            tokens: self.data.tokens(self.recipe.epochs),
            flops: self.flops(),
        })
    }

    fn train(
        &self,
        mut model: SequenceClassifier,
        seed: u64,
    ) -> anyhow::Result<(SequenceClassifier, TrainFacts)> {
        let split = &self.data.train;
        let steps = split.rows.len().div_ceil(self.recipe.batch_size) as u64 * self.recipe.epochs;
        let schedule = Schedule::new(self.recipe.lr, self.recipe.warmup, self.recipe.decay, steps);
        let mut optimizer = AdamW::new(self.recipe.optimizer());
        let mut losses = Vec::new();
        for epoch in 0..self.recipe.epochs {
            let mut loss_sum = 0.0;
            for batch in self.order(seed, epoch) {
                check_interrupt()?;
                let rate = schedule.rate(optimizer.steps());
                let loss = self.loss(&model, &batch);
                let gradients = Gradients::collect(&model, loss.backward());
                (model, _) = optimizer.step(rate, model, gradients)?;
                loss_sum += loss.into_scalar::<f64>() * batch.len() as f64;
                self.count(split, &batch);
            }
            losses.push(loss_sum / split.rows.len() as f64);
        }
        Ok((model, TrainFacts { split: SplitFacts::of(split), steps, loss: losses }))
    }

    /// Cross-entropy of classes, squared error of numbers; mean over the rows of the batch.
    fn loss(&self, model: &SequenceClassifier, batch: &[usize]) -> Tensor<1> {
        let device = self.device.clone().autodiff();
        let logits = model.logits(&self.batch(&self.data.train, batch, &device));
        let labels = batch.iter().map(|&row| self.data.train.labels[row]);
        if self.data.task.is_regression() {
            let targets = TensorData::new(labels.collect::<Vec<f32>>(), [batch.len(), 1]);
            return (logits - Tensor::from_data(targets, &device)).square().mean();
        }
        let classes = TensorData::new(labels.map(|class| class as i32).collect::<Vec<_>>(), [batch.len()]);
        cross_entropy(logits, Tensor::from_data(classes, &device))
    }

    /// Class numbers, or the numbers of a regression, in the order of the rows.
    fn predict(&self, model: &SequenceClassifier, split: &Tokenized) -> anyhow::Result<Vec<f32>> {
        let mut predictions = vec![0.0; split.rows.len()];
        for batch in eval_batches(&split.lengths(), self.eval_batch_size) {
            check_interrupt()?;
            let logits = model.logits(&self.batch(split, &batch, self.device));
            let values = logits.try_into_vec_as::<f32>()?;
            for (row, values) in batch.iter().zip(values.chunks_exact(self.data.task.outputs())) {
                predictions[*row] =
                    if self.data.task.is_regression() { values[0] } else { argmax(values) as f32 };
            }
            self.count(split, &batch);
        }
        Ok(predictions)
    }

    fn batch(&self, split: &Tokenized, batch: &[usize], device: &Device) -> Batch {
        let rows = || batch.iter().map(|&row| &split.rows[row]);
        let ids: Vec<_> = rows().map(|row| row.ids.as_slice()).collect();
        let inputs = Batch::from_rows(&ids, self.source.config.pad_token_id, device);
        if self.data.task.text.len() < 2 || self.source.config.type_vocab_size < 2 {
            return inputs;
        }
        let types: Vec<_> = rows().map(|row| row.types.as_slice()).collect();
        inputs.with_token_types(&types)
    }

    fn order(&self, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
        let mut rng = keyed(seed, &format!("glue order {}", self.data.task.name), 0, epoch);
        train_batches(&self.data.train.lengths(), self.recipe.batch_size, &mut rng)
    }

    /// A seed of its own for each purpose and task.
    fn draw(&self, seed: u64, purpose: &str) -> u64 {
        keyed(seed, &format!("glue {purpose} {}", self.data.task.name), 0, 0).next_u64()
    }

    fn count(&self, split: &Tokenized, batch: &[usize]) {
        self.progress.inc(batch.iter().map(|&row| split.rows[row].ids.len() as u64).sum());
    }

    /// Matrix products of the layers on real tokens: one forward pass for scoring, three as much for training.
    fn flops(&self) -> f64 {
        let forward = |split: &Tokenized| -> f64 {
            let per_row = |&length: &usize| length as f64 * self.source.config.body_flops_per_token(length);
            split.lengths().iter().map(per_row).sum()
        };
        3.0 * self.recipe.epochs as f64 * forward(&self.data.train)
            + self.data.dev.iter().map(forward).sum::<f64>()
    }
}

/// The index of the largest value, the first of several.
fn argmax(values: &[f32]) -> usize {
    let larger = |best: usize, index: usize| if values[index] > values[best] { index } else { best };
    (1..values.len()).fold(0, larger)
}

/// Each metric on each split, beside what a constant classifier gets: the split's most frequent class.
fn scores(task: &Task, predictions: &[Vec<f32>], dev: &[Tokenized]) -> Vec<Score> {
    let mut scores = Vec::new();
    for ((split, rows), predictions) in task.dev.iter().zip(dev).zip(predictions) {
        let constant = if task.is_regression() { 0.0 } else { majority(&rows.labels) };
        let constant = vec![constant; rows.labels.len()];
        scores.extend(task.metrics.iter().map(|metric| Score {
            name: format!("{metric} {}", split.name).trim_end().to_string(),
            floor: 100.0 * metric.of(&constant, &rows.labels),
            value: 100.0 * metric.of(predictions, &rows.labels),
        }));
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(labels: &[f32]) -> Tokenized {
        Tokenized { labels: labels.to_vec(), ..Tokenized::default() }
    }

    #[test]
    fn of_equal_logits_the_first_wins() {
        assert_eq!([argmax(&[0.5, 0.5]), argmax(&[-1.0, 0.0, 0.0])], [0, 1]);
    }

    #[test]
    fn each_split_has_its_own_scores_and_floors() -> anyhow::Result<()> {
        let dev = [rows(&[0.0, 0.0, 1.0, 2.0]), rows(&[2.0, 2.0])];
        let found = scores(Task::named("MNLI")?, &[vec![0.0, 1.0, 1.0, 2.0], vec![2.0, 1.0]], &dev);
        let found: Vec<_> =
            found.iter().map(|s| format!("{} {:.1} {:.1}", s.name, s.floor, s.value)).collect();
        assert_eq!(found, ["accuracy matched 50.0 75.0", "accuracy mismatched 100.0 50.0"]);
        Ok(())
    }

    #[test]
    fn a_regression_has_floor_zero() -> anyhow::Result<()> {
        let found = scores(Task::named("STS-B")?, &[vec![1.0, 2.0, 4.0]], &[rows(&[0.0, 1.0, 3.0])]);
        assert!(
            found.iter().all(|score| score.floor == 0.0 && (score.value - 100.0).abs() < 1e-9),
            "{found:?}"
        );
        Ok(())
    }
}
