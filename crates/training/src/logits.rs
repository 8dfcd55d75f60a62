//! The losses' gradient with respect to logits: row by row on the CPU, in burn's operations elsewhere.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::head::Objective;
use crate::rows::{self, RowLoss, Teaching, Weights};
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

/// How much one position counts.
pub(crate) struct Mean {
    /// Positions with a target, at least 1.
    pub targets: f64,
    /// Positions, at least 1.
    pub positions: f64,
    weights: Weights,
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
    ) -> (Tensor<2>, RowLoss) {
        if logits.device() == Device::flex() {
            gradient_on_host(logits, bias, targets, &teacher, self.weights)
        } else {
            gradient_on_device(logits, bias, targets, teacher, self.weights)
        }
    }
}

fn gradient_on_host(
    logits: Tensor<2>,
    bias: &Tensor<1>,
    targets: &[Option<u32>],
    teacher: &Taught,
    weights: Weights,
) -> (Tensor<2>, RowLoss) {
    let (device, [_, vocab_size]) = (logits.device(), logits.dims());
    let bias = to_vec(bias.clone());
    let mut logits = logits.into_data();
    let values = logits.as_mut_slice::<f32>().expect("logits are f32 on the CPU");
    let mut buffer = Vec::new();
    let mut teachers: Vec<Option<Teaching>> = match teacher {
        Taught::Nothing => targets.iter().map(|_| None).collect(),
        Taught::Soft(soft) => (0..targets.len()).map(|row| Some(Teaching::Top(soft.at(row)))).collect(),
        Taught::Logits(teacher) => {
            buffer.extend(to_vec(teacher.clone()));
            buffer.chunks_mut(vocab_size).map(|row| Some(Teaching::Logits(row))).collect()
        }
    };
    let losses: Vec<RowLoss> = (values.par_chunks_mut(vocab_size).zip(targets))
        .zip(&mut teachers)
        .map(|((row, &target), teacher)| {
            rows::losses_and_gradient(row, &bias, target, teacher.take(), weights)
        })
        .collect();
    let sum = RowLoss { ce: losses.iter().map(|l| l.ce).sum(), kd: losses.iter().map(|l| l.kd).sum() };
    (Tensor::from_data(logits, &device), sum)
}

fn gradient_on_device(
    logits: Tensor<2>,
    bias: &Tensor<1>,
    targets: &[Option<u32>],
    teacher: Taught,
    weights: Weights,
) -> (Tensor<2>, RowLoss) {
    let logits = logits + bias.clone().unsqueeze();
    let (mut gradient, ce) = cross_entropy_on_device(&logits, targets, weights.ce);
    let mut kd = 0.0;
    let taught = match teacher {
        Taught::Nothing => None,
        Taught::Logits(teacher) => Some(full_divergence_on_device(logits, teacher, weights)),
        Taught::Soft(soft) => Some(divergence_on_device(&logits, &soft, weights)),
    };
    if let Some((value, more)) = taught {
        kd = value;
        gradient = gradient + more;
    }
    (gradient, RowLoss { ce, kd })
}

/// The sum of the positions' T²·KL, and its weighted gradient.
fn full_divergence_on_device(student: Tensor<2>, teacher: Tensor<2>, weights: Weights) -> (f64, Tensor<2>) {
    let temperature = weights.temperature;
    let [student, teacher] = [student, teacher].map(|z| log_softmax(z.div_scalar(temperature), 1));
    let probability = teacher.clone().exp();
    let divergence = (probability.clone() * (teacher - student.clone())).sum();
    let value = divergence.into_scalar::<f64>() * f64::from(temperature).powi(2);
    (value, (student.exp() - probability).mul_scalar(weights.kd * temperature))
}

/// Rows without a target have a column of weight 0 subtracted, and their softmax weighted with 0.
fn cross_entropy_on_device(logits: &Tensor<2>, targets: &[Option<u32>], weight: f32) -> (Tensor<2>, f64) {
    let device = logits.device();
    let columns: Vec<i64> = targets.iter().map(|target| i64::from(target.unwrap_or(0))).collect();
    let counted: Vec<f32> = targets.iter().map(|target| f32::from(u8::from(target.is_some()))).collect();
    let shape = [targets.len(), 1];
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, shape), &device);
    let counted = Tensor::<2>::from_data(TensorData::new(counted, shape), &device);
    let chosen = log_softmax(logits.clone(), 1).gather(1, columns.clone());
    let ce = -(chosen * counted.clone()).sum().into_scalar::<f64>();
    let counted = counted.mul_scalar(weight);
    let gradient = softmax(logits.clone(), 1) * counted.clone();
    (gradient.scatter(1, columns, counted.neg(), IndexingUpdateOp::Add), ce)
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin() * 1.5).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn device_and_host_arithmetic_agree() {
        let objective = Objective { ce: 0.7, kd: 1.3, temperature: 2.0 };
        let targets = [Some(3), Some(0), None, Some(18), Some(7)];
        let weights = Mean::new(&targets, &objective).weights;
        let (logits, bias) = (|| wave([5, 19], 0.9), wave([19], 2.1));
        let soft = SoftTargets {
            k: 2,
            tokens: vec![3, 0, 1, 2, 18, 4, 5, 6, 7, 8],
            logits: to_vec(wave([10], 1.3)),
            tail: vec![0.1, 0.5, 0.0, 0.9, 0.25],
        };
        for teacher in [Taught::Nothing, Taught::Logits(wave([5, 19], 0.3)), Taught::Soft(soft)] {
            let (host, on_host) = gradient_on_host(logits(), &bias, &targets, &teacher, weights);
            let (device, on_device) = gradient_on_device(logits(), &bias, &targets, teacher, weights);
            assert!(to_vec(host).iter().zip(to_vec(device)).all(|(a, b)| (a - b).abs() < 2e-6));
            assert!((on_host.ce - on_device.ce).abs() < 1e-5 && (on_host.kd - on_device.kd).abs() < 1e-4);
        }
    }
}
