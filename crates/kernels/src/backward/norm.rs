//! Layer normalisation (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>): y = x̂·γ + β, where x̂ = (x − mean) / σ.

use pulp::{Arch, Simd, WithSimd};

use super::linear::add;
use crate::matrix::Matrix;
use crate::norm::{sum, sum_of_squares};

/// A layer normalisation that is trained.
#[derive(Clone, Debug)]
pub struct TrainedNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

/// What the backward pass of a normalisation needs.
#[derive(Clone, Debug, Default)]
pub struct NormTape {
    /// x̂, `[rows, width]`.
    normed: Matrix,
    /// 1 / σ of each row.
    scales: Vec<f32>,
}

/// Gradient of a normalisation's parameters, `[width]` each.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names of the parameters")]
pub struct NormGradient {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

impl TrainedNorm {
    /// Scale and shift, each `[width]`, and what is added to the variance.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(gamma: Vec<f32>, beta: Vec<f32>, epsilon: f32) -> Self {
        assert_eq!(gamma.len(), beta.len(), "one shift a scale");
        Self { gamma, beta, epsilon }
    }

    /// `output` becomes the normalised rows of `input`, both `[rows, width]`.
    pub fn forward(&self, input: &Matrix, tape: &mut NormTape, output: &mut Matrix) {
        tape.normed.reshape(input.rows(), input.width());
        (0..input.rows()).for_each(|row| tape.normed.row_mut(row).copy_from_slice(input.row(row)));
        self.finish(tape, output);
    }

    /// `output` becomes the normalised sums of the rows of `input` and `residual`, all `[rows, width]`.
    pub fn forward_sum(&self, input: &Matrix, residual: &Matrix, tape: &mut NormTape, output: &mut Matrix) {
        tape.normed.reshape(input.rows(), input.width());
        for row in 0..input.rows() {
            let pairs = input.row(row).iter().zip(residual.row(row));
            tape.normed.row_mut(row).iter_mut().zip(pairs).for_each(|(to, (a, b))| *to = a + b);
        }
        self.finish(tape, output);
    }

    /// `d_input`, which is that of the sum, becomes ((g − mean g) − x̂ · mean (g·x̂)) / σ with g = `d_output` · γ. Both
    /// are `[rows, width]`. Adds to `gradient`.
    pub fn backward(
        &self,
        tape: &NormTape,
        d_output: &Matrix,
        d_input: &mut Matrix,
        gradient: &mut NormGradient,
    ) {
        d_input.reshape(d_output.rows(), d_output.width());
        Arch::new().dispatch(Backward { norm: self, tape, d_output, d_input, gradient });
    }

    /// A gradient of 0.
    pub fn zero_gradient(&self) -> NormGradient {
        let zeros = || vec![0.0; self.gamma.len()];
        NormGradient { gamma: zeros(), beta: zeros() }
    }

    fn finish(&self, tape: &mut NormTape, output: &mut Matrix) {
        output.reshape(tape.normed.rows(), tape.normed.width());
        Arch::new().dispatch(Forward { norm: self, tape, output });
    }
}

impl NormGradient {
    /// Adds the gradient of another part of the batch.
    pub fn add_part(&mut self, part: &Self) {
        add(&mut self.gamma, &part.gamma);
        add(&mut self.beta, &part.beta);
    }

    /// Becomes 0.
    pub fn clear(&mut self) {
        self.gamma.fill(0.0);
        self.beta.fill(0.0);
    }
}

struct Forward<'a> {
    norm: &'a TrainedNorm,
    tape: &'a mut NormTape,
    output: &'a mut Matrix,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let TrainedNorm { gamma, beta, epsilon } = self.norm;
        let NormTape { normed, scales } = self.tape;
        scales.clear();
        for index in 0..normed.rows() {
            let row = normed.row_mut(index);
            let (vectors, rest) = S::as_simd_f32s(row);
            let mean = (sum(simd, vectors) + rest.iter().sum::<f32>()) / row.len() as f32;
            let squares = rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
            let squares = squares + sum_of_squares(simd, vectors, mean);
            let scale = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
            scales.push(scale);
            let affine = gamma.iter().zip(beta);
            for ((x, y), (gamma, beta)) in row.iter_mut().zip(self.output.row_mut(index)).zip(affine) {
                *x = (*x - mean) * scale;
                *y = *x * gamma + beta;
            }
        }
    }
}

struct Backward<'a> {
    norm: &'a TrainedNorm,
    tape: &'a NormTape,
    d_output: &'a Matrix,
    d_input: &'a mut Matrix,
    gradient: &'a mut NormGradient,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { norm, tape, d_output, d_input, gradient } = self;
        let width = d_output.width() as f32;
        for index in 0..d_output.rows() {
            let (d_y, x, d_x) = (d_output.row(index), tape.normed.row(index), d_input.row_mut(index));
            add(&mut gradient.beta, d_y);
            for ((to, d_y), x) in gradient.gamma.iter_mut().zip(d_y).zip(x) {
                *to += d_y * x;
            }
            d_x.iter_mut().zip(d_y.iter().zip(&norm.gamma)).for_each(|(to, (d_y, gamma))| *to = d_y * gamma);
            let (vectors, rest) = S::as_simd_f32s(d_x);
            let mean = (sum(simd, vectors) + rest.iter().sum::<f32>()) / width;
            let share = dot(simd, d_x, x) / width;
            let scale = tape.scales[index];
            d_x.iter_mut().zip(x).for_each(|(to, x)| *to = (*to - mean - x * share) * scale);
        }
    }
}

/// Σ a·b.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut chains = [simd.splat_f32s(0.0); 4];
    let ((fours_a, ones_a), (fours_b, ones_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in fours_a.iter().zip(fours_b) {
        for ((chain, &a), &b) in chains.iter_mut().zip(a).zip(b) {
            *chain = simd.mul_add_f32s(a, b, *chain);
        }
    }
    for ((chain, &a), &b) in chains.iter_mut().zip(ones_a).zip(ones_b) {
        *chain = simd.mul_add_f32s(a, b, *chain);
    }
    let [a, b, c, d] = chains;
    let vectors = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)));
    vectors + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::tests::{assert_close, draw, tracked};
    use crate::matrix::tests::matrix;

    #[test]
    fn equals_automatic_differentiation() {
        for (rows, width) in [(1, 2), (3, 7), (4, 33), (6, 128)] {
            let (x, more, seed) =
                (draw(rows * width, "x"), draw(rows * width, "more"), draw(rows * width, "seed"));
            let (gamma, beta) = (draw(width, "gamma"), draw(width, "beta"));
            let (t_x, t_gamma) = (tracked(&x, [rows, width]), tracked(&gamma, [1, width]));
            let t_beta = tracked(&beta, [1, width]);
            let sum = t_x.clone() + tracked(&more, [rows, width]);
            let centred = sum.clone() - sum.mean_dim(1);
            let variance = centred.clone().square().mean_dim(1);
            let output = centred / (variance + 1e-5).sqrt() * t_gamma.clone() + t_beta.clone();
            let backward = (output.clone() * tracked(&seed, [rows, width])).sum().backward();

            let norm = TrainedNorm::new(gamma, beta, 1e-5);
            let (mut tape, mut y, mut d_x) = (NormTape::default(), Matrix::default(), Matrix::default());
            norm.forward_sum(&matrix(&x, width), &matrix(&more, width), &mut tape, &mut y);
            let mut gradient = norm.zero_gradient();
            norm.backward(&tape, &matrix(&seed, width), &mut d_x, &mut gradient);
            assert_close(&y.to_vec(), output.inner());
            assert_close(&d_x.to_vec(), t_x.grad(&backward).expect("tracked"));
            assert_close(&gradient.gamma, t_gamma.grad(&backward).expect("tracked"));
            assert_close(&gradient.beta, t_beta.grad(&backward).expect("tracked"));
        }
    }
}
