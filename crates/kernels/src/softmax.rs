//! Online softmax sums: block after block of logits, never all of them.

use pulp::Simd;

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

    /// H = ln Σ e^(z−m) − Σ (z−m) e^(z−m) / Σ e^(z−m), and −ln q(t) = ln Σ e^(z−m) + m − z(t).
    fn output(&self, vocab_size: usize) -> Measures {
        let log_sum = self.sum.ln();
        let entropy = (log_sum - self.weighted / self.sum) as f32;
        let surprisal = (log_sum + self.max - self.target) as f32;
        Measures { entropy: entropy.clamp(0.0, (vocab_size as f32).ln()), surprisal: surprisal.max(0.0) }
    }
}

impl Sums {
    /// Σ e^(z−m), whose logarithm is −ln max q.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
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

/// Where the exponential is rounded to 0: −127 ln 2.
pub(crate) const LOWEST: f32 = -88.029_69;

/// e^x for `LOWEST` ≤ x ≤ 0, with a relative error below 3e-7.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2; 2^n goes into the exponent bits and e^r is a polynomial of degree 6. ln 2 is
/// subtracted in two parts so that r is exact.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value| simd.splat_f32s(value);
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the lowest bits.
    let rounder = constant(12_582_912.0);
    let shifted = simd.mul_add_f32s(x, constant(std::f32::consts::LOG2_E), rounder);
    let n = simd.sub_f32s(shifted, rounder);
    let r = simd.mul_add_f32s(n, constant(-0.693_359_4), x);
    let r = simd.mul_add_f32s(n, constant(2.121_944_4e-4), r);
    let power = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(power, simd.splat_u32s(23));
    let series =
        COEFFICIENTS.iter().fold(constant(1.0 / 720.0), |sum, &c| simd.mul_add_f32s(sum, r, constant(c)));
    simd.mul_f32s(series, simd.transmute_f32s_u32s(power))
}

/// 1/5!, 1/4!, …, 1/0!: the Taylor series, whose next term is below 1.2e-7 for |r| ≤ ln 2 / 2.
const COEFFICIENTS: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Exp<'a>(&'a mut [f32]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = exp(simd, *x);
            }
        }
    }

    #[test]
    fn the_exponential_is_exact_to_single_precision() {
        let inputs: Vec<f32> = (0..=8704).map(|i| -i as f32 / 100.0).take(8704).collect();
        let mut found = inputs.clone();
        Arch::new().dispatch(Exp(&mut found));
        for (x, found) in inputs.iter().zip(found) {
            let expected = f64::from(*x).exp();
            assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "e^{x}: {found} is not {expected}");
        }
    }

    #[test]
    fn the_exponential_ends_at_zero() {
        let mut found = [LOWEST; 64];
        Arch::new().dispatch(Exp(&mut found));
        assert!(found.iter().all(|&value| value.to_bits() == 0), "{found:?}");
    }
}
