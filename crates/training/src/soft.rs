//! Distillation from a teacher's most probable tokens and the mass of all others.
//!
//! Let p be the teacher's softmax at temperature T, q the student's, K the k tokens that were kept and r the rest. The
//! loss is T² times the divergence of the k + 1 outcomes K and r,
//!
//! ```text
//! T² (Σ_{i ∈ K} p_i ln (p_i / q_i) + p_r ln (p_r / q_r)),    p_r = Σ_{i ∉ K} p_i,    q_r = Σ_{i ∉ K} q_i,
//! ```
//!
//! which is a lower bound of T²·KL(p ‖ q) (outcomes that are thrown together diverge less) and equals it where all
//! tokens are kept. Its gradient with respect to a logit is `T (q_i − p_i)` in K and `T (q_i − p_r q_i / q_r)` elsewhere.

use burn::tensor::activation::softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use crate::rows::{self, Weights};

/// What a teacher said at n positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoftTargets {
    /// Tokens kept of a position, k.
    pub k: usize,
    /// Ids of the most probable tokens, `[n, k]`.
    pub tokens: Vec<u32>,
    /// Their logits, `[n, k]`.
    pub logits: Vec<f32>,
    /// Probability of all other tokens together at the temperature of the loss, `[n]`.
    pub tail: Vec<f32>,
}

/// What a teacher said at one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Top<'a> {
    tokens: &'a [u32],
    logits: &'a [f32],
    tail: f32,
}

impl SoftTargets {
    /// Adds positions, each with k tokens.
    pub fn extend(&mut self, more: &Self) {
        self.k = more.k;
        self.tokens.extend(&more.tokens);
        self.logits.extend(&more.logits);
        self.tail.extend(&more.tail);
    }

    /// Number of positions, n.
    pub fn positions(&self) -> usize {
        self.tail.len()
    }

    /// The positions `range`.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
        let wide = range.start * self.k..range.end * self.k;
        Self {
            k: self.k,
            tokens: self.tokens[wide.clone()].to_vec(),
            logits: self.logits[wide].to_vec(),
            tail: self.tail[range].to_vec(),
        }
    }

    pub(crate) fn at(&self, position: usize) -> Top<'_> {
        let wide = position * self.k..(position + 1) * self.k;
        Top { tokens: &self.tokens[wide.clone()], logits: &self.logits[wide], tail: self.tail[position] }
    }

    /// `p_i` at temperature `temperature`, `[n, k]`.
    fn probabilities(&self, temperature: f32) -> Vec<f32> {
        (0..self.positions()).flat_map(|position| self.at(position).probabilities(temperature)).collect()
    }
}

impl Top<'_> {
    fn probabilities(self, temperature: f32) -> Vec<f32> {
        let highest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut values: Vec<f32> = self.logits.iter().map(|&z| ((z - highest) / temperature).exp()).collect();
        let scale = (1.0 - self.tail) / values.iter().sum::<f32>();
        for value in &mut values {
            *value *= scale;
        }
        values
    }
}

/// The loss of one position, and its weighted gradient with respect to the student's logits (bias included).
pub(crate) fn divergence(student: &[f32], top: Top, weights: Weights) -> (f64, Vec<f32>) {
    let temperature = weights.temperature;
    let mut q = student.to_vec();
    let highest = rows::maximum(student);
    let sum = rows::exponentials(&mut q, highest, 1.0 / temperature);
    let p = top.probabilities(temperature);
    let kept: Vec<f32> = top.tokens.iter().map(|&token| std::mem::take(&mut q[token as usize])).collect();
    // Summed over what is left, since 1 − Σ would lose the small ones.
    let rest: f32 = q.iter().sum();
    let mut value = 0.0;
    for (p, q) in p.iter().zip(&kept) {
        value += term(*p, q / sum);
    }
    value += term(top.tail, rest / sum);
    let scale = weights.kd * temperature;
    let others = if rest > 0.0 { scale * (1.0 / sum - top.tail / rest) } else { 0.0 };
    for q in &mut q {
        *q *= others;
    }
    for ((&token, p), kept) in top.tokens.iter().zip(p).zip(kept) {
        q[token as usize] = scale * (kept / sum - p);
    }
    (value * f64::from(temperature).powi(2), q)
}

/// The same for all positions in burn's operations: the sum of the losses and the gradient, `[n, vocab_size]`.
pub(crate) fn divergence_on_device(
    student: &Tensor<2>,
    soft: &SoftTargets,
    weights: Weights,
) -> (Tensor<1>, Tensor<2>) {
    let (device, n, temperature) = (student.device(), soft.positions(), weights.temperature);
    let floats =
        |values: Vec<f32>, columns| Tensor::<2>::from_data(TensorData::new(values, [n, columns]), &device);
    let tokens: Vec<i64> = soft.tokens.iter().map(|&token| i64::from(token)).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [n, soft.k]), &device);
    let p = floats(soft.probabilities(temperature), soft.k);
    let tail = floats(soft.tail.clone(), 1);
    let q = softmax(student.clone().div_scalar(temperature), 1);
    let kept = q.clone().gather(1, tokens.clone());
    let others = q.clone().scatter(1, tokens.clone(), kept.clone().neg(), IndexingUpdateOp::Add);
    let others = others.clamp_min(0.0);
    let rest = others.clone().sum_dim(1).clamp_min(TINY);
    let ratio = |p: &Tensor<2>, q: &Tensor<2>| {
        p.clone() * (p.clone().clamp_min(TINY).log() - q.clone().clamp_min(TINY).log())
    };
    let value = ratio(&p, &kept).sum() + ratio(&tail, &rest).sum();
    let gradient = others * (tail / rest).neg().add_scalar(1.0);
    let gradient = gradient.scatter(1, tokens, kept - p, IndexingUpdateOp::Add);
    (value.mul_scalar(temperature.powi(2)), gradient.mul_scalar(weights.kd * temperature))
}

const TINY: f32 = f32::MIN_POSITIVE;

/// p ln (p / q), 0 where p is.
fn term(p: f32, q: f32) -> f64 {
    if p <= 0.0 {
        return 0.0;
    }
    f64::from(p) * (f64::from(p).ln() - f64::from(q.max(TINY)).ln())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const STUDENT: [f32; 5] = [0.5, -1.0, 2.0, 0.1, 0.7];
    const TEACHER: [f32; 5] = [1.0, 0.0, 1.5, -0.5, 0.1];
    const WEIGHTS: Weights = Weights { ce: 0.0, kd: 1.0, temperature: 2.0 };

    fn softmax(z: &[f32]) -> Vec<f64> {
        let e: Vec<f64> = z.iter().map(|&z| (f64::from(z) / 2.0).exp()).collect();
        e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
    }

    /// Tokens 2 and 0 and the mass of the others, or all of them.
    fn soft(all: bool) -> SoftTargets {
        let p = softmax(&TEACHER);
        let tokens = if all { vec![2, 0, 4, 1, 3] } else { vec![2, 0] };
        let logits = tokens.iter().map(|&token: &u32| TEACHER[token as usize]).collect();
        let tail = if all { 0.0 } else { (p[1] + p[3] + p[4]) as f32 };
        SoftTargets { k: tokens.len(), tokens, logits, tail: vec![tail] }
    }

    fn expected(student: &[f32], all: bool) -> f64 {
        let (p, q) = (softmax(&TEACHER), softmax(student));
        let merge = |x: &[f64]| {
            if all { x.to_vec() } else { vec![x[2], x[0], x[1] + x[3] + x[4]] }
        };
        4.0 * merge(&p).iter().zip(merge(&q)).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
    }

    #[test]
    fn the_loss_is_that_of_merged_outcomes_and_its_gradient_that_of_differences() {
        for all in [false, true] {
            let soft = soft(all);
            let (value, gradient) = divergence(&STUDENT, soft.at(0), WEIGHTS);
            assert!((value - expected(&STUDENT, all)).abs() < 1e-6, "{value}");
            for (index, exact) in gradient.iter().enumerate() {
                let moved = |by: f32| {
                    let mut student = STUDENT;
                    student[index] += by;
                    expected(&student, all)
                };
                let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((difference - f64::from(*exact)).abs() < 1e-4, "{index}: {difference} {exact}");
            }
            let tensor = Tensor::<1>::from_floats(STUDENT, &Device::flex()).unsqueeze();
            let (on_device, device_gradient) = divergence_on_device(&tensor, &soft, WEIGHTS);
            let on_device = on_device.into_scalar::<f64>();
            assert!((on_device - value).abs() < 1e-5, "{on_device} {value}");
            let device_gradient: Vec<f32> = device_gradient.into_data().try_into_vec().expect("f32");
            assert!(gradient.iter().zip(device_gradient).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn keeping_fewer_tokens_bounds_the_divergence_from_below() {
        let value = |all| divergence(&STUDENT, soft(all).at(0), WEIGHTS).0;
        assert!(value(false) < value(true) && value(false) > 0.0);
    }
}
