//! Activation functions.

use pulp::{Arch, Simd, WithSimd};

use crate::exponential::{LOWEST, exp};
use crate::matrix::Matrix;

/// Functions between the dense layers of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), Φ being the distribution function of the standard normal distribution.
    Gelu,
    /// x·σ(2·√(2/π)·(x + 0.044715·x³)), the tanh approximation of GELU.
    GeluTanh,
    /// x·σ(1.702·x).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// x·σ(x).
    Silu,
}

impl Activation {
    /// Applies the function to each of `values`, `[rows, width]`.
    pub fn apply(self, values: &mut Matrix) {
        let arch = Arch::new();
        (0..values.rows())
            .for_each(|row| arch.dispatch(Apply { function: self, values: values.row_mut(row) }));
    }

    /// Applies the function to the left half of each row of `values` and multiplies it by the right half: gated linear
    /// units (Shazeer, 2020). `[rows, 2 · width]` to `[rows, width]`.
    pub fn gate(self, values: &mut Matrix, output: &mut Matrix) {
        let width = values.width() / 2;
        output.reshape(values.rows(), width);
        let arch = Arch::new();
        for row in 0..values.rows() {
            let (left, right) = values.row_mut(row).split_at_mut(width);
            arch.dispatch(Apply { function: self, values: left });
            let pairs = left.iter().zip(right.iter());
            output.row_mut(row).iter_mut().zip(pairs).for_each(|(to, (left, right))| *to = left * right);
        }
    }
}

struct Apply<'a> {
    function: Activation,
    values: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.function {
            Activation::Gelu => each::<S, Gelu>(simd, self.values),
            Activation::GeluTanh => each::<S, GeluTanh>(simd, self.values),
            Activation::QuickGelu => each::<S, QuickGelu>(simd, self.values),
            Activation::Relu => each::<S, Relu>(simd, self.values),
            Activation::Silu => each::<S, Silu>(simd, self.values),
        }
    }
}

/// A function of a vector. A trait and not a closure, since a closure cannot be told to be inlined.
trait Function {
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s;
}

#[inline(always)]
fn each<S: Simd, F: Function>(simd: S, values: &mut [f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    for vector in vectors {
        *vector = F::of(simd, *vector);
    }
    if !rest.is_empty() {
        let applied = F::of(simd, simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, applied);
    }
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;
struct Relu;
struct Silu;

impl Function for Gelu {
    /// max(x, 0) − |x|·Φ(−|x|), with Φ(−x) = ½·(a₁t + … + a₅t⁵)·e^(−x²/2) and t = 1 / (1 + p·x/√2).
    ///
    /// The polynomial is formula 7.1.26 of Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964); its
    /// error in erf is below 1.5e-7, so that of GELU is below 8e-8·|x|.
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let size = simd.abs_f32s(x);
        let one = simd.splat_f32s(1.0);
        let t = simd.div_f32s(one, simd.mul_add_f32s(size, simd.splat_f32s(P_OVER_SQRT_2), one));
        let mut sum = simd.splat_f32s(SERIES[0]);
        for &a in &SERIES[1..] {
            sum = simd.mul_add_f32s(sum, t, simd.splat_f32s(a));
        }
        let exponent = simd.mul_f32s(simd.mul_f32s(size, size), simd.splat_f32s(-0.5));
        let bell = exp(simd, simd.max_f32s(exponent, simd.splat_f32s(LOWEST)));
        let tail = simd.mul_f32s(simd.mul_f32s(sum, t), bell);
        let lost = simd.mul_f32s(simd.mul_f32s(size, simd.splat_f32s(0.5)), tail);
        simd.sub_f32s(simd.max_f32s(x, simd.splat_f32s(0.0)), lost)
    }
}

/// p/√2 of formula 7.1.26.
pub(crate) const P_OVER_SQRT_2: f32 = 0.231_641_9;

/// a₅ … a₁ of formula 7.1.26.
pub(crate) const SERIES: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];

impl Function for GeluTanh {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        // 2·√(2/π), and that times 0.044715.
        let (linear, cubic) = (simd.splat_f32s(1.595_769), simd.splat_f32s(0.071_354_814));
        let slope = simd.mul_add_f32s(simd.mul_f32s(x, x), cubic, linear);
        simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(x, slope)))
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(x, sigmoid(simd, simd.mul_f32s(x, simd.splat_f32s(1.702))))
    }
}

impl Function for Relu {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        // A maximum would lose what is no number.
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_or_equal_f32s(x, zero), zero, x)
    }
}

impl Function for Silu {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(x, sigmoid(simd, x))
    }
}

/// 1 / (1 + e^(−x)), by way of e^(−|x|), which does not overflow.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(0.0));
    let below = simd.max_f32s(simd.neg_f32s(simd.abs_f32s(x)), simd.splat_f32s(LOWEST));
    let small = exp(simd, below);
    let numerator = simd.select_f32s(simd.less_than_f32s(x, zero), small, one);
    simd.div_f32s(numerator, simd.add_f32s(one, small))
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu};
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::matrix::tests::matrix;

    const ALL: [Activation; 5] =
        [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu, Activation::Silu];

    /// From −120 to 120, dense around 0, with the ends of what f32 holds.
    fn inputs() -> Vec<f32> {
        let near = (-2000..=2000).map(|i| i as f32 / 250.0);
        near.chain((-120..=120).map(|i| i as f32)).chain([f32::MIN, f32::MAX, 1e-30, -1e-30]).collect()
    }

    fn plain(function: Activation, x: Tensor<1>) -> Tensor<1> {
        match function {
            Activation::Gelu => gelu(x),
            Activation::GeluTanh => gelu_approximate(x),
            Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
            Activation::Relu => relu(x),
            Activation::Silu => silu(x),
        }
    }

    #[test]
    fn equals_the_plain_function() {
        for function in ALL {
            let inputs = inputs();
            let mut found = matrix(&inputs, inputs.len());
            function.apply(&mut found);
            let tensor = Tensor::from_floats(inputs.as_slice(), &Device::flex());
            let expected: Vec<f32> = plain(function, tensor).try_into_vec_as().expect("f32");
            for ((x, found), expected) in inputs.iter().zip(found.row(0)).zip(expected) {
                if x.abs() < 1e6 {
                    let allowed = 1e-6 * x.abs().max(1.0);
                    assert!((found - expected).abs() < allowed, "{function:?}({x}): {found} {expected}");
                } else {
                    let limit = if *x < 0.0 { 0.0 } else { *x };
                    assert!((found - limit).abs() <= 1e-6 * limit, "{function:?}({x}): {found}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for function in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Relu,
            Activation::Silu,
        ] {
            let mut values = matrix(&[1.0, f32::NAN, -3.0], 3);
            function.apply(&mut values);
            let is_nan: Vec<bool> = values.to_vec().into_iter().map(f32::is_nan).collect();
            assert_eq!(is_nan, [false, true, false], "{function:?}");
        }
    }

    #[test]
    fn gates_multiply_the_halves() {
        let (mut values, mut output) = (matrix(&[1.0, -2.0, 3.0, 4.0, 0.5, 6.0], 6), Matrix::default());
        Activation::Relu.gate(&mut values, &mut output);
        assert_eq!(output.to_vec(), [4.0, 0.0, 18.0]);
    }
}
