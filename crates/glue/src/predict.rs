//! What a classifier says about the rows of a split.

use burn::tensor::{Device, Tensor, TensorData};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::{EncoderConfig, SequenceClassifier};

use crate::batches::eval_batches;
use crate::features::{Body, Features};
use crate::rows::Tokenized;
use crate::task::Task;

/// How rows are put through a model.
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a> {
    /// The task.
    pub task: &'a Task,
    /// Shape of the model.
    pub config: &'a EncoderConfig,
    /// Rows of a forward pass on a GPU.
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
    /// Outputs of the classifier, row by row.
    pub logits: Vec<Vec<f32>>,
}

impl Predictor<'_> {
    /// Predicts each row of `split`.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop.
    pub fn predict(&self, model: &SequenceClassifier, split: &Tokenized) -> anyhow::Result<Predictions> {
        let Self { config, batch_size, device, progress, .. } = *self;
        let body = Body { model, config, batch_size, device, progress };
        let mut found = Predictions::of(split);
        body.each(split, self.task.is_pair(), |rows, features| {
            let features = TensorData::new(features, [rows.len(), config.hidden_size]);
            self.add(&mut found, rows, split, model.logits_of(Tensor::from_data(features, device)))
        })?;
        Ok(found)
    }

    /// As [`predict`](Self::predict), from what the body says about the rows.
    pub fn predict_from(
        &self,
        model: &SequenceClassifier,
        split: &Tokenized,
        features: &Features,
    ) -> anyhow::Result<Predictions> {
        let mut found = Predictions::of(split);
        for batch in eval_batches(&split.lengths(), self.batch_size) {
            check_interrupt()?;
            let logits = model.logits_of(features.batch(&batch, self.device));
            self.add(&mut found, &batch, split, logits)?;
        }
        Ok(found)
    }

    /// Notes what `logits` say about the rows numbered `batch`.
    fn add(
        &self,
        found: &mut Predictions,
        batch: &[usize],
        split: &Tokenized,
        logits: Tensor<2>,
    ) -> anyhow::Result<()> {
        let logits = logits.try_into_vec_as::<f32>()?;
        for (&row, logits) in batch.iter().zip(logits.chunks_exact(self.task.outputs())) {
            let (value, loss) = self.one(logits, split.labels[row]);
            found.values[row] = value;
            found.loss += loss / split.rows.len() as f64;
            found.logits[row] = logits.to_vec();
        }
        Ok(())
    }

    /// Prediction and loss of one row.
    fn one(&self, logits: &[f32], label: f32) -> (f32, f64) {
        if self.task.is_regression() {
            return (logits[0], f64::from(logits[0] - label).powi(2));
        }
        (argmax(logits) as f32, surprisal(logits, label as usize))
    }
}

impl Predictions {
    /// Nothing yet.
    fn of(split: &Tokenized) -> Self {
        let rows = split.rows.len();
        Self { values: vec![0.0; rows], loss: 0.0, logits: vec![Vec::new(); rows] }
    }
}

/// −ln of the probability of class `label`.
fn surprisal(logits: &[f32], label: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    sum.ln() - f64::from(logits[label] - highest)
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

    /// ln(1 + e² + e¹) = 2.407606; extreme logits stay finite.
    #[test]
    fn the_loss_is_the_surprisal_of_the_label() {
        assert!((surprisal(&[0.0, 2.0, 1.0], 2) - 1.407_606).abs() < 1e-6);
        assert!((surprisal(&[1e4, -1e4], 1) - 2e4).abs() < 1e-9);
        assert!(surprisal(&[f32::NAN, 0.0], 1).is_nan());
    }
}
