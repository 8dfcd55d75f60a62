//! The losses' gradient with respect to logits in burn's operations.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use crate::head::Objective;
use crate::rows::Weights;
use crate::scalars;
use crate::soft::{SoftTargets, divergence_on_device};

/// What a teacher says at the positions of a chunk.
#[derive(Clone, Debug)]
pub(crate) enum Taught {
    Nothing,
    /// Its logits, bias included, `[n, vocab_size]`.
    Logits(Tensor<2>),
    /// Its most probable tokens.
    Soft(SoftTargets),
}

/// Losses summed over the positions of a chunk, which the device computes, `[1]` each.
pub(crate) struct ChunkLoss {
    pub ce: Tensor<1>,
    /// `None` without a teacher.
    pub kd: Option<Tensor<1>>,
}

/// How much one position counts.
pub(crate) struct Mean {
    /// Positions with a target, at least 1.
    pub targets: f64,
    /// Positions, at least 1.
    pub positions: f64,
    pub weights: Weights,
}

impl Mean {
    pub(crate) fn new(targets: &[Option<u32>], objective: &Objective) -> Self {
        let positions = targets.len().max(1) as f64;
        let targets = targets.iter().flatten().count().max(1) as f64;
        let weights = Weights {
            ce: (objective.ce / targets) as f32,
            kd: (objective.kd / positions) as f32,
            temperature: objective.temperature as f32,
        };
        Self { targets, positions, weights }
    }

    /// The gradient with respect to `logits` (without bias), and the losses summed over the rows.
    pub(crate) fn gradient(
        &self,
        logits: Tensor<2>,
        bias: &Tensor<1>,
        targets: &[Option<u32>],
        teacher: Taught,
    ) -> (Tensor<2>, ChunkLoss) {
        let logits = logits + bias.clone().unsqueeze();
        let (gradient, ce) = cross_entropy(&logits, targets, self.weights.ce);
        let taught = match teacher {
            Taught::Nothing => None,
            Taught::Logits(teacher) => Some(full_divergence(logits, teacher, self.weights)),
            Taught::Soft(soft) => Some(divergence_on_device(&logits, &soft, self.weights)),
        };
        match taught {
            None => (gradient, ChunkLoss { ce, kd: None }),
            Some((kd, more)) => (gradient + more, ChunkLoss { ce, kd: Some(kd) }),
        }
    }
}

/// The sum of the positions' T²·KL, and its weighted gradient.
fn full_divergence(student: Tensor<2>, teacher: Tensor<2>, weights: Weights) -> (Tensor<1>, Tensor<2>) {
    let temperature = weights.temperature;
    let [student, teacher] = [student, teacher].map(|z| log_softmax(z.div_scalar(temperature), 1));
    let probability = teacher.clone().exp();
    let divergence = scalars::sum(probability.clone() * (teacher - student.clone()));
    (
        divergence.mul_scalar(temperature.powi(2)),
        (student.exp() - probability).mul_scalar(weights.kd * temperature),
    )
}

/// Rows without a target have a column of weight 0 subtracted, and their softmax weighted with 0.
fn cross_entropy(logits: &Tensor<2>, targets: &[Option<u32>], weight: f32) -> (Tensor<2>, Tensor<1>) {
    let device = logits.device();
    let columns: Vec<i64> = targets.iter().map(|target| i64::from(target.unwrap_or(0))).collect();
    let counted: Vec<f32> = targets.iter().map(|target| f32::from(u8::from(target.is_some()))).collect();
    let shape = [targets.len(), 1];
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, shape), &device);
    let counted = Tensor::<2>::from_data(TensorData::new(counted, shape), &device);
    let log_q = log_softmax(logits.clone(), 1);
    let chosen = log_q.clone().gather(1, columns.clone());
    let ce = (chosen * counted.clone()).sum().neg();
    let counted = counted.mul_scalar(weight);
    let gradient = log_q.exp() * counted.clone();
    (gradient.scatter(1, columns, counted.neg(), IndexingUpdateOp::Add), ce)
}
