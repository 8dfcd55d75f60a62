//! The exponential function on vectors.

use pulp::Simd;

/// Where the exponential is rounded to 0: −127 ln 2.
pub(crate) const LOWEST: f32 = -88.029_69;

/// e^x for `LOWEST` ≤ x ≤ 0, with a relative error below 3e-7.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2; 2^n goes into the exponent bits and e^r is a polynomial of degree 6. ln 2 is
/// subtracted in two parts so that r is exact.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the lowest bits.
    let rounder = simd.splat_f32s(12_582_912.0);
    let shifted = simd.mul_add_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), rounder);
    let n = simd.sub_f32s(shifted, rounder);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let power = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(power, simd.splat_u32s(23));
    let mut series = simd.splat_f32s(1.0 / 720.0);
    for &c in &COEFFICIENTS {
        series = simd.mul_add_f32s(series, r, simd.splat_f32s(c));
    }
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
