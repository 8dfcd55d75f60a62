//! Derivatives of the activation functions.

use pulp::{Arch, Simd, WithSimd};

use crate::Activation;
use crate::activation::{P_OVER_SQRT_2, SERIES, sigmoid};
use crate::exponential::{LOWEST, exp};
use crate::matrix::Matrix;

impl Activation {
    /// `output` becomes the function of `input`, both `[rows, width]`; `input` stays as it is for the backward pass.
    pub fn forward(self, input: &Matrix, output: &mut Matrix) {
        output.gather(input, 0..input.rows());
        self.apply(output);
    }

    /// `activated` becomes the function of the left half of each row of `input`, `[rows, 2 · width]`, and `output` that
    /// times the right half, `[rows, width]`: gated linear units, as [`Activation::gate`].
    pub fn gate_forward(self, input: &Matrix, activated: &mut Matrix, output: &mut Matrix) {
        let width = input.width() / 2;
        activated.reshape(input.rows(), width);
        output.reshape(input.rows(), width);
        (0..input.rows()).for_each(|row| activated.row_mut(row).copy_from_slice(&input.row(row)[..width]));
        self.apply(activated);
        for row in 0..input.rows() {
            let pairs = activated.row(row).iter().zip(&input.row(row)[width..]);
            output.row_mut(row).iter_mut().zip(pairs).for_each(|(to, (left, right))| *to = left * right);
        }
    }

    /// `d_input` `[rows, 2 · width]` becomes the gradient of the input of [`Activation::gate_forward`], from that of its output,
    /// `d_output` `[rows, width]`.
    pub fn gate_backward(self, input: &Matrix, activated: &Matrix, d_output: &Matrix, d_input: &mut Matrix) {
        let (width, arch) = (d_output.width(), Arch::new());
        d_input.reshape(input.rows(), input.width());
        for row in 0..input.rows() {
            let ((left, right), d) = (input.row(row).split_at(width), d_output.row(row));
            let (d_left, d_right) = d_input.row_mut(row).split_at_mut(width);
            d_right.iter_mut().zip(d.iter().zip(activated.row(row))).for_each(|(to, (d, y))| *to = d * y);
            d_left.iter_mut().zip(d.iter().zip(right)).for_each(|(to, (d, right))| *to = d * right);
            arch.dispatch(Backward { function: self, input: left, gradient: d_left });
        }
    }

    /// Multiplies `gradient`, that of the output, with the derivative at `input`, both `[rows, width]`.
    pub fn backward(self, input: &Matrix, gradient: &mut Matrix) {
        let arch = Arch::new();
        for row in 0..input.rows() {
            arch.dispatch(Backward {
                function: self,
                input: input.row(row),
                gradient: gradient.row_mut(row),
            });
        }
    }
}

struct Backward<'a> {
    function: Activation,
    input: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.function {
            Activation::Gelu => each::<S, Gelu>(simd, self.input, self.gradient),
            Activation::GeluTanh => each::<S, GeluTanh>(simd, self.input, self.gradient),
            Activation::QuickGelu => each::<S, QuickGelu>(simd, self.input, self.gradient),
            Activation::Relu => each::<S, Relu>(simd, self.input, self.gradient),
            Activation::Silu => each::<S, Silu>(simd, self.input, self.gradient),
        }
    }
}

/// The derivative of a function of a vector. A trait and not a closure, since a closure cannot be told to be inlined.
trait Derivative {
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s;
}

#[inline(always)]
fn each<S: Simd, D: Derivative>(simd: S, input: &[f32], gradient: &mut [f32]) {
    let ((inputs, rest), (gradients, rest_of_gradient)) =
        (S::as_simd_f32s(input), S::as_mut_simd_f32s(gradient));
    for (gradient, &x) in gradients.iter_mut().zip(inputs) {
        *gradient = simd.mul_f32s(*gradient, D::at(simd, x));
    }
    if !rest.is_empty() {
        let slope = D::at(simd, simd.partial_load_f32s(rest));
        let product = simd.mul_f32s(simd.partial_load_f32s(rest_of_gradient), slope);
        simd.partial_store_f32s(rest_of_gradient, product);
    }
}

struct Gelu;
struct GeluTanh;
struct QuickGelu;
struct Relu;
struct Silu;

impl Derivative for Gelu {
    /// Φ(x) + x·φ(x), with Φ by formula 7.1.26 of Abramowitz and Stegun as in the function itself.
    #[inline(always)]
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let (size, one, half) = (simd.abs_f32s(x), simd.splat_f32s(1.0), simd.splat_f32s(0.5));
        let t = simd.div_f32s(one, simd.mul_add_f32s(size, simd.splat_f32s(P_OVER_SQRT_2), one));
        let mut series = simd.splat_f32s(SERIES[0]);
        for &a in &SERIES[1..] {
            series = simd.mul_add_f32s(series, t, simd.splat_f32s(a));
        }
        let exponent = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5));
        let bell = exp(simd, simd.max_f32s(exponent, simd.splat_f32s(LOWEST)));
        // Φ(−|x|)
        let tail = simd.mul_f32s(simd.mul_f32s(simd.mul_f32s(series, t), bell), half);
        let negative = simd.less_than_f32s(x, simd.splat_f32s(0.0));
        let share = simd.select_f32s(negative, tail, simd.sub_f32s(one, tail));
        // 1 / √(2π)
        simd.mul_add_f32s(simd.mul_f32s(x, bell), simd.splat_f32s(0.398_942_3), share)
    }
}

impl Derivative for GeluTanh {
    #[inline(always)]
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        // 2·√(2/π), and that times 0.044715.
        let (linear, cubic) = (simd.splat_f32s(1.595_769), simd.splat_f32s(0.071_354_814));
        let square = simd.mul_f32s(x, x);
        let inner = simd.mul_f32s(x, simd.mul_add_f32s(square, cubic, linear));
        let three = simd.mul_f32s(cubic, simd.splat_f32s(3.0));
        swished(simd, x, sigmoid(simd, inner), simd.mul_add_f32s(square, three, linear))
    }
}

impl Derivative for QuickGelu {
    #[inline(always)]
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let slope = simd.splat_f32s(1.702);
        swished(simd, x, sigmoid(simd, simd.mul_f32s(x, slope)), slope)
    }
}

impl Derivative for Relu {
    #[inline(always)]
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(zero, x), simd.splat_f32s(1.0), zero)
    }
}

impl Derivative for Silu {
    #[inline(always)]
    fn at<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        swished(simd, x, sigmoid(simd, x), simd.splat_f32s(1.0))
    }
}

/// Of x·σ(u): σ + x·σ·(1 − σ)·u', where the share is σ(u) and the slope u'.
#[inline(always)]
fn swished<S: Simd>(simd: S, x: S::f32s, share: S::f32s, slope: S::f32s) -> S::f32s {
    let rest = simd.sub_f32s(simd.splat_f32s(1.0), share);
    let bend = simd.mul_f32s(simd.mul_f32s(x, slope), rest);
    simd.mul_add_f32s(share, bend, share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::tests::{assert_close, draw, tracked};
    use crate::matrix::tests::matrix;

    const ALL: [Activation; 5] =
        [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu, Activation::Silu];

    /// The functions in f64.
    fn function(of: Activation, x: f64) -> f64 {
        let logistic = |u: f64| x / (1.0 + (-u).exp());
        match of {
            Activation::Gelu => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                logistic(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3)))
            }
            Activation::QuickGelu => logistic(1.702 * x),
            Activation::Relu => x.max(0.0),
            Activation::Silu => logistic(x),
        }
    }

    /// 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!, whose terms have one sign.
    fn erf(x: f64) -> f64 {
        if x.abs() > 6.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..300 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn equals_finite_differences() {
        let inputs: Vec<f32> = (-1201..=1203).step_by(2).map(|i| i as f32 / 100.0).collect();
        for of in ALL {
            let mut found = matrix(&vec![2.0; inputs.len()], inputs.len());
            of.backward(&matrix(&inputs, inputs.len()), &mut found);
            for (&x, found) in inputs.iter().zip(found.row(0)) {
                let (x, step) = (f64::from(x), 1e-5);
                let slope = (function(of, x + step) - function(of, x - step)) / (2.0 * step);
                assert!(
                    (f64::from(*found) - 2.0 * slope).abs() < 4e-6,
                    "{of:?}'({x}): {found} {}",
                    2.0 * slope
                );
            }
        }
    }

    #[test]
    fn a_gate_equals_automatic_differentiation() {
        for (rows, width) in [(1, 1), (3, 7), (5, 40)] {
            let (x, seed) = (draw(rows * 2 * width, "x"), draw(rows * width, "seed"));
            let tracked_x = tracked(&x, [rows, 2 * width]);
            let half = |start: usize| tracked_x.clone().narrow(1, start, width);
            let output = burn::tensor::activation::silu(half(0)) * half(width);
            let backward = (output.clone() * tracked(&seed, [rows, width])).sum().backward();

            let (input, d_output) = (matrix(&x, 2 * width), matrix(&seed, width));
            let (mut y, mut activated, mut d_x) = (Matrix::default(), Matrix::default(), Matrix::default());
            Activation::Silu.gate_forward(&input, &mut activated, &mut y);
            Activation::Silu.gate_backward(&input, &activated, &d_output, &mut d_x);
            assert_close(&y.to_vec(), output.inner());
            assert_close(&d_x.to_vec(), tracked_x.grad(&backward).expect("tracked"));
        }
    }

    #[test]
    fn stays_finite_far_out() {
        for of in ALL {
            let inputs = [-1e30, -200.0, 200.0, 1e9];
            let mut found = matrix(&[1.0; 4], 4);
            of.backward(&matrix(&inputs, 4), &mut found);
            let far: Vec<f32> = found.row(0).to_vec();
            assert!(
                far[1].abs() < 1e-6 && (far[2] - 1.0).abs() < 1e-6 && far[3].is_finite(),
                "{of:?} {far:?}"
            );
        }
    }
}
