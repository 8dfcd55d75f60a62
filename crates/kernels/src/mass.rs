//! How much of a softmax some logits have, without the rest of it.

use pulp::{Arch, Simd, WithSimd};

use crate::exponential::{LOWEST, exp};

/// Vectors whose exponentials are added up in f32, each lane its own, before the sum goes on in f64.
const BLOCK: usize = 256;

/// Σ e^((z − `highest`) · `scale`) over `logits`, of which none is above `highest`. A logit of −∞ has no part in it; sums that
/// are no number stay that.
///
/// Each term has a relative error below 3e-7; the order in which terms are added follows the vectors of the machine.
pub fn exponential_mass(logits: &[f32], highest: f32, scale: f32) -> f64 {
    Arch::new().dispatch(Mass { logits, highest, scale })
}

/// More than any vector has, and a multiple of it.
const MOST_LANES: usize = 64;

struct Mass<'a> {
    logits: &'a [f32],
    highest: f32,
    scale: f32,
}

impl WithSimd for Mass<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (vectors, rest) = S::as_simd_f32s(self.logits);
        let (highest, scale) = (simd.splat_f32s(self.highest), simd.splat_f32s(self.scale));
        let mut last = [f32::NEG_INFINITY; MOST_LANES];
        last[..rest.len()].copy_from_slice(rest);
        // Loops, since closures would not be made for the vector unit.
        let mut sum = 0.0;
        for block in vectors.chunks(BLOCK).chain([S::as_simd_f32s(&last).0]) {
            let mut lanes = simd.splat_f32s(0.0);
            for &z in block {
                let below = simd.mul_f32s(simd.sub_f32s(z, highest), scale);
                // In this order, by which x86 keeps what is no number.
                lanes = simd.add_f32s(lanes, exp(simd, simd.max_f32s(simd.splat_f32s(LOWEST), below)));
            }
            sum += f64::from(simd.reduce_sum_f32s(lanes));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use entromask_random::{keyed, normals};

    use super::*;

    #[test]
    fn it_is_the_sum_of_exponentials_for_any_number_of_logits() {
        for n in [1, 2, 7, 8, 9, 31, 64, 1000, 30_522] {
            let logits: Vec<f32> = normals(n, 5.0, &mut keyed(1, "mass", n as u64, 0));
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for scale in [1.0, 0.5] {
                let expected: f64 =
                    logits.iter().map(|&z| (f64::from(z - highest) * f64::from(scale)).exp()).sum();
                let found = exponential_mass(&logits, highest, scale);
                assert!((found / expected - 1.0).abs() < 1e-6, "{n} at {scale}: {found} is not {expected}");
            }
        }
        assert_eq!(exponential_mass(&[], 0.0, 1.0).to_bits(), 0);
    }

    #[test]
    fn what_is_far_below_or_left_out_has_no_part_in_it() {
        let logits = [0.0, f32::NEG_INFINITY, -1e4, -89.0];
        assert_eq!(exponential_mass(&logits, 0.0, 1.0).to_bits(), 1f64.to_bits());
        assert_eq!(exponential_mass(&logits[1..], 0.0, 1.0).to_bits(), 0);
    }
}
