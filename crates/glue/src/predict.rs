//! What a classifier says about the rows of a split.

use burn::tensor::Device;
use burn::tensor::activation::log_softmax;
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::{EncoderConfig, SequenceClassifier};

use crate::batches::eval_batches;
use crate::rows::Tokenized;
use crate::task::Task;

/// How rows are put through a model.
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a> {
    /// The task.
    pub task: &'a Task,
    /// Shape of the model.
    pub config: &'a EncoderConfig,
    /// Rows of a forward pass.
    pub batch_size: usize,
    /// Where to compute, without automatic differentiation.
    pub device: &'a Device,
    /// Counts tokens.
    pub progress: &'a Progress,
}

/// What a classifier says about a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Class numbers, or the numbers of a regression, in the order of the rows.
    pub values: Vec<f32>,
    /// Mean over the rows of the cross-entropy with their labels, in nats; of the squared error for a regression.
    pub loss: f64,
}

impl Predictor<'_> {
    /// Predicts each row of `split`.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop.
    pub fn predict(&self, model: &SequenceClassifier, split: &Tokenized) -> anyhow::Result<Predictions> {
        let mut found = Predictions { values: vec![0.0; split.rows.len()], loss: 0.0 };
        for batch in eval_batches(&split.lengths(), self.batch_size) {
            check_interrupt()?;
            let logits = model.logits(&split.batch(&batch, self.task.is_pair(), self.config, self.device));
            let scores = if self.task.is_regression() { logits } else { log_softmax(logits, 1) };
            let scores = scores.try_into_vec_as::<f32>()?;
            for (&row, scores) in batch.iter().zip(scores.chunks_exact(self.task.outputs())) {
                let (value, loss) = self.one(scores, split.labels[row]);
                found.values[row] = value;
                found.loss += loss / split.rows.len() as f64;
            }
            self.progress.inc(batch.iter().map(|&row| split.rows[row].ids.len() as u64).sum());
        }
        Ok(found)
    }

    /// Prediction and loss of one row; `scores` are logarithms of probabilities, or the number of a regression.
    fn one(&self, scores: &[f32], label: f32) -> (f32, f64) {
        if self.task.is_regression() {
            return (scores[0], f64::from(scores[0] - label).powi(2));
        }
        (argmax(scores) as f32, -f64::from(scores[label as usize]))
    }
}

/// The index of the largest value, the first of several.
fn argmax(values: &[f32]) -> usize {
    let larger = |best: usize, index: usize| if values[index] > values[best] { index } else { best };
    (1..values.len()).fold(0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_logits_the_first_wins() {
        assert_eq!([argmax(&[0.5, 0.5]), argmax(&[-1.0, 0.0, 0.0])], [0, 1]);
    }
}
