//! What the further measures need: Σ q² and the two highest logits, block after block.

use pulp::Simd;

use crate::exponential::{LOWEST, exp};
use crate::head::{Details, Measures};
use crate::softmax::{Online, Sums};

/// The sums of the entropy and, with z the logits seen so far: the highest and the second highest, and
/// Σ e^(2(z−highest)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peaks {
    sums: Sums,
    first: f64,
    second: f64,
    squares: f64,
}

impl Online for Peaks {
    type Output = (Measures, Details);

    const EMPTY: Self =
        Self { sums: Sums::EMPTY, first: f64::NEG_INFINITY, second: f64::NEG_INFINITY, squares: 0.0 };

    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, logits: &[f32], target: usize) {
        self.sums.add(simd, logits, target);
        let vectors = S::as_simd_f32s(logits).0;
        let (first, second) = top_two(simd, vectors);
        let squares = squares(simd, vectors, first);
        self.merge(f64::from(first), f64::from(second), f64::from(squares));
    }

    /// −ln max q = ln Σ e^(z−m), −ln Σ q² = 2 ln Σ e^(z−m) − ln Σ e^(2(z−m)), and the difference of the two highest
    /// probabilities (1 − e^(z₂−m)) / Σ e^(z−m).
    fn output(&self, vocab_size: usize) -> (Measures, Details) {
        let measures = self.sums.output(vocab_size);
        if measures.entropy.is_nan() {
            return (measures, Details { min_entropy: f32::NAN, renyi2: f32::NAN, margin: f32::NAN });
        }
        let sum = self.sums.sum();
        // Rounding must not break the order min-entropy ≤ Rényi-2 ≤ entropy.
        let min_entropy = (sum.ln() as f32).clamp(0.0, measures.entropy);
        let renyi2 = ((2.0 * sum.ln() - self.squares.ln()) as f32).clamp(min_entropy, measures.entropy);
        let margin = (0.0 - (self.second - self.first).exp_m1() / sum) as f32;
        (measures, Details { min_entropy, renyi2, margin: margin.clamp(0.0, 1.0) })
    }
}

impl Peaks {
    /// Takes in what a block of logits was reduced to: its maximum m, Σ e^(z−m), Σ (z−m) e^(z−m), its second highest
    /// logit and Σ e^(2(z−m)); `target` is the target's logit if it is among them.
    #[cfg(feature = "cube")]
    pub(crate) fn add_reduced(&mut self, block: [f32; 5], target: Option<f32>) {
        let [max, sum, weighted, second, squares] = block.map(f64::from);
        self.sums.add_reduced([max, sum, weighted], target.map(f64::from));
        self.merge(max, second, squares);
    }

    fn merge(&mut self, first: f64, second: f64, squares: f64) {
        let top = self.first.max(first);
        let scaled = |first: f64, squares: f64| squares * (2.0 * (first - top)).exp();
        self.squares = scaled(self.first, self.squares) + scaled(first, squares);
        self.second = self.first.min(first).max(self.second).max(second);
        self.first = top;
    }
}

/// The highest and the second highest value; equal where the highest occurs twice.
#[inline(always)]
fn top_two<S: Simd>(simd: S, logits: &[S::f32s]) -> (f32, f32) {
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let (mut first, mut second) = (lowest, lowest);
    for &logits in logits {
        second = simd.max_f32s(second, simd.min_f32s(first, logits));
        first = simd.max_f32s(first, logits);
    }
    let mut lanes = [f32::NEG_INFINITY; 2 * MOST_LANES];
    let vectors = S::as_mut_simd_f32s(&mut lanes[..2 * S::F32_LANES]).0;
    (vectors[0], vectors[1]) = (first, second);
    lanes.iter().fold((f32::NEG_INFINITY, f32::NEG_INFINITY), |(first, second), &lane| {
        (first.max(lane), second.max(first.min(lane)))
    })
}

/// Single-precision numbers in the longest vector that `pulp` knows, with room to spare.
const MOST_LANES: usize = 64;

/// Σ e^(2(z−m)).
#[inline(always)]
fn squares<S: Simd>(simd: S, logits: &[S::f32s], max: f32) -> f32 {
    let max = simd.splat_f32s(max);
    let mut sum = simd.splat_f32s(0.0);
    for &logits in logits {
        let below = simd.max_f32s(simd.sub_f32s(logits, max), simd.splat_f32s(LOWEST));
        let exponential = exp(simd, below);
        sum = simd.mul_add_f32s(exponential, exponential, sum);
    }
    simd.reduce_sum_f32s(sum)
}
