//! Online softmax sums: block after block of logits, never all of them.

use pulp::Simd;

use crate::exponential::{LOWEST, exp};
use crate::head::Measures;

/// What is kept of the logits of one position.
pub(crate) trait Online: Copy + Send {
    /// What it comes to.
    type Output: Send;

    /// Before any logit.
    const EMPTY: Self;

    /// Takes in the next logits, a multiple of the vector length; `target` is the target's place among them, if it is.
    fn add<S: Simd>(&mut self, simd: S, logits: &[f32], target: usize);

    /// After the last logit.
    fn output(&self, vocab_size: usize) -> Self::Output;
}

/// With z the logits seen so far and m their maximum: m, Σ e^(z−m) and Σ (z−m) e^(z−m).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    max: f64,
    sum: f64,
    weighted: f64,
    target: f64,
}

impl Online for Sums {
    type Output = Measures;

    const EMPTY: Self = Self { max: f64::NEG_INFINITY, sum: 0.0, weighted: 0.0, target: 0.0 };

    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, logits: &[f32], target: usize) {
        if let Some(&logit) = logits.get(target) {
            self.target = f64::from(logit);
        }
        let vectors = S::as_simd_f32s(logits).0;
        let max = maximum(simd, vectors);
        let (sum, weighted) = exponential_sums(simd, vectors, max);
        self.merge(f64::from(max), f64::from(sum), f64::from(weighted));
    }

    /// H = ln Σ e^(z−m) − Σ (z−m) e^(z−m) / Σ e^(z−m), and −ln q(t) = ln Σ e^(z−m) + m − z(t). Neither is a number where
    /// no logit is one.
    fn output(&self, vocab_size: usize) -> Measures {
        if !self.max.is_finite() {
            return Measures { entropy: f32::NAN, surprisal: f32::NAN };
        }
        let log_sum = self.sum.ln();
        let entropy = (log_sum - self.weighted / self.sum) as f32;
        let surprisal = (log_sum + self.max - self.target) as f32;
        Measures {
            entropy: entropy.clamp(0.0, (vocab_size as f32).ln()),
            surprisal: surprisal.clamp(0.0, f32::INFINITY),
        }
    }
}

impl Sums {
    /// Σ e^(z−m), whose logarithm is −ln max q.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    /// Takes in what a block of logits was reduced to: m, Σ e^(z−m) and Σ (z−m) e^(z−m).
    #[cfg(feature = "cube")]
    pub(crate) fn add_reduced(&mut self, [max, sum, weighted]: [f64; 3], target: Option<f64>) {
        self.target = target.unwrap_or(self.target);
        self.merge(max, sum, weighted);
    }

    /// Brings both to the larger maximum; the weighted sum moves by that much times the sum.
    fn merge(&mut self, max: f64, sum: f64, weighted: f64) {
        let top = self.max.max(max);
        let (old, new) = (scaled(self.max - top, self.sum, self.weighted), scaled(max - top, sum, weighted));
        (self.max, self.sum, self.weighted) = (top, old.0 + new.0, old.1 + new.1);
    }
}

/// Sums relative to a maximum that is `-shift` larger.
fn scaled(shift: f64, sum: f64, weighted: f64) -> (f64, f64) {
    if sum == 0.0 {
        return (0.0, 0.0);
    }
    let scale = shift.exp();
    (sum * scale, (weighted + shift * sum) * scale)
}

#[inline(always)]
fn maximum<S: Simd>(simd: S, logits: &[S::f32s]) -> f32 {
    let mut chains = [simd.splat_f32s(f32::NEG_INFINITY); 4];
    let (fours, rest) = logits.as_chunks::<4>();
    for four in fours {
        for (chain, &logits) in chains.iter_mut().zip(four) {
            *chain = simd.max_f32s(*chain, logits);
        }
    }
    let tops = rest.iter().fold(chains[0], |top, &logits| simd.max_f32s(top, logits));
    let pair = (simd.max_f32s(tops, chains[1]), simd.max_f32s(chains[2], chains[3]));
    simd.reduce_max_f32s(simd.max_f32s(pair.0, pair.1))
}

/// Σ e^(z−m) and Σ (z−m) e^(z−m).
#[inline(always)]
fn exponential_sums<S: Simd>(simd: S, logits: &[S::f32s], max: f32) -> (f32, f32) {
    let zero = simd.splat_f32s(0.0);
    let (mut sum, mut weighted) = (zero, zero);
    let max = simd.splat_f32s(max);
    for &logits in logits {
        let below = simd.max_f32s(simd.sub_f32s(logits, max), simd.splat_f32s(LOWEST));
        let exponential = exp(simd, below);
        sum = simd.add_f32s(sum, exponential);
        weighted = simd.mul_add_f32s(below, exponential, weighted);
    }
    (simd.reduce_sum_f32s(sum), simd.reduce_sum_f32s(weighted))
}
