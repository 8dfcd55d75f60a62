//! The softmax arithmetic of one position's logits on the CPU: losses, and gradients written over the logits.

use std::borrow::Cow;

use crate::soft::{self, Top};

/// What the losses of one position weigh in the gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    /// Weight of the cross-entropy over the number of positions with a target.
    pub ce: f32,
    /// Weight of the distillation over the number of positions.
    pub kd: f32,
    pub temperature: f32,
}

/// Losses of one position, not weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowLoss {
    /// −ln q(target); 0 without a target.
    pub ce: f64,
    /// T²·KL(teacher ‖ student); 0 without a teacher.
    pub kd: f64,
}

/// What a teacher says at one position.
#[derive(Debug)]
pub(crate) enum Teaching<'a> {
    /// Its logits, bias included, which are overwritten.
    Logits(&'a mut [f32]),
    /// Its most probable tokens.
    Top(Top<'a>),
}

/// Replaces `logits` by the gradient of the weighted losses with respect to them.
pub(crate) fn losses_and_gradient(
    logits: &mut [f32],
    target: Option<u32>,
    teacher: Option<Teaching>,
    weights: Weights,
) -> RowLoss {
    let kd = teacher.map(|teacher| match teacher {
        Teaching::Logits(teacher) => {
            let (value, gradient) = divergence(logits, teacher, weights);
            (value, Cow::Borrowed(gradient))
        }
        Teaching::Top(top) => {
            let (value, gradient) = soft::divergence(logits, top, weights);
            (value, Cow::Owned(gradient))
        }
    });
    let ce = if let Some(target) = target {
        surprisal_and_gradient(logits, target as usize, weights.ce)
    } else {
        logits.fill(0.0);
        0.0
    };
    if let Some((_, gradient)) = &kd {
        add(logits, gradient);
    }
    RowLoss { ce, kd: kd.map_or(0.0, |(value, _)| value) }
}

/// Surprisal of `target`, and whether it is the most probable token. `logits` are overwritten.
pub(crate) fn surprisal_and_hit(logits: &mut [f32], target: u32) -> (f64, bool) {
    let (highest, chosen) = (maximum(logits), logits[target as usize]);
    let sum = exponentials(logits, highest, 1.0);
    (f64::from(sum).ln() - f64::from(chosen - highest), chosen >= highest)
}

fn surprisal_and_gradient(logits: &mut [f32], target: usize, weight: f32) -> f64 {
    let highest = maximum(logits);
    let chosen = logits[target] - highest;
    let sum = exponentials(logits, highest, 1.0);
    let scale = weight / sum;
    for e in logits.iter_mut() {
        *e *= scale;
    }
    logits[target] -= weight;
    f64::from(sum).ln() - f64::from(chosen)
}

/// T²·KL(teacher ‖ student) and its gradient T·(q − p) times the weight, which is left in `teacher`.
fn divergence<'a>(student: &[f32], teacher: &'a mut [f32], weights: Weights) -> (f64, &'a [f32]) {
    let inverse = 1.0 / weights.temperature;
    let (top_student, top_teacher) = (maximum(student), maximum(teacher));
    let mut q = student.to_vec();
    // Σ p (z_p − z_q) needs the teacher's logits before they become probabilities.
    let differences: Vec<f32> =
        teacher.iter().zip(student).map(|(p, q)| ((p - top_teacher) - (q - top_student)) * inverse).collect();
    let sum_q = exponentials(&mut q, top_student, inverse);
    let sum_p = exponentials(teacher, top_teacher, inverse);
    let cross = dot(teacher, &differences) / f64::from(sum_p);
    let value = cross - f64::from(sum_p).ln() + f64::from(sum_q).ln();
    let (scale_q, scale_p) =
        (weights.kd * weights.temperature / sum_q, weights.kd * weights.temperature / sum_p);
    teacher.iter_mut().zip(&q).for_each(|(p, q)| *p = q * scale_q - *p * scale_p);
    (value * f64::from(weights.temperature).powi(2), teacher)
}

fn add(values: &mut [f32], other: &[f32]) {
    values.iter_mut().zip(other).for_each(|(value, other)| *value += other);
}

/// Replaces each value z by exp((z − highest)·inverse) and returns the sum.
pub(crate) fn exponentials(values: &mut [f32], highest: f32, inverse: f32) -> f32 {
    let (lanes, rest) = values.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for lane in lanes {
        for (value, sum) in lane.iter_mut().zip(&mut sums) {
            *value = exp((*value - highest) * inverse);
            *sum += *value;
        }
    }
    for value in rest.iter_mut() {
        *value = exp((*value - highest) * inverse);
    }
    sums.iter().chain(rest.iter()).sum()
}

pub(crate) fn maximum(values: &[f32]) -> f32 {
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for lane in lanes {
        highest.iter_mut().zip(lane).for_each(|(top, &value)| *top = if value > *top { value } else { *top });
    }
    highest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Independent sums, so that the compiler may keep them in vector registers.
const LANES: usize = 16;

/// eˣ for x ≤ 0 with a relative error below 3e-7, without a branch, so that loops over it are vectorised. Below −87,
/// where the result leaves the normal numbers, it stays at e⁻⁸⁷; what is not a number stays so.
///
/// x = k·ln 2 + r with |r| ≤ ln 2 / 2: 2ᵏ goes into the exponent's bits, and eʳ is its Taylor polynomial of degree 6,
/// whose remainder is at most 0.3466⁷ / 5040 = 1.2e-7.
#[inline]
fn exp(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has few bits, so that its product with k is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * LN_2[0] - k * LN_2[1];
    let polynomial = 1.0 / 120.0 + r * (1.0 / 720.0);
    let polynomial = 1.0 / 6.0 + r * (1.0 / 24.0 + r * polynomial);
    let polynomial = 1.0 + r * (1.0 + r * (0.5 + r * polynomial));
    polynomial * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_and_monotone_at_its_ends() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "{x}");
        }
        assert!((exp(0.0) - 1.0).abs() < f32::EPSILON);
        assert!(exp(-1e30) > 0.0 && exp(-1e30) < 2e-38);
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let mut logits = vec![1e4, -1e4, 0.0];
        let weights = Weights { ce: 1.0, kd: 1.0, temperature: 2.0 };
        let mut teacher = [-1e4, 1e4, 0.0];
        let teaching = Teaching::Logits(&mut teacher);
        let loss = losses_and_gradient(&mut logits, Some(1), Some(teaching), weights);
        assert!((loss.ce - 2e4).abs() < 1.0 && loss.kd.is_finite());
        assert!(logits.iter().all(|g| g.is_finite()));
    }

    #[test]
    fn a_number_that_is_none_is_not_hidden() {
        let mut logits = vec![f32::NAN, 0.0, 1.0];
        assert!(surprisal_and_hit(&mut logits, 1).0.is_nan());
    }
}
