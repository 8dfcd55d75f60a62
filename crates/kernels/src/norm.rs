//! Layer normalisation (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>).

use pulp::{Arch, Simd, WithSimd};

use crate::matrix::Matrix;

/// A layer normalisation over the width of the rows.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Scale and shift, each `[width]`, and what is added to the variance.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(gamma: Vec<f32>, beta: Vec<f32>, epsilon: f32) -> Self {
        assert_eq!(gamma.len(), beta.len(), "one shift a scale");
        Self { gamma, beta, epsilon }
    }

    /// Normalises each row of `values`, `[rows, width]`.
    pub fn apply(&self, values: &mut Matrix) {
        Arch::new().dispatch(Apply { norm: self, values, residual: None });
    }

    /// Adds the rows of `residual` to those of `values`, both `[rows, width]`, and normalises each sum.
    pub fn add_and_apply(&self, values: &mut Matrix, residual: &Matrix) {
        Arch::new().dispatch(Apply { norm: self, values, residual: Some(residual) });
    }
}

struct Apply<'a> {
    norm: &'a LayerNorm,
    values: &'a mut Matrix,
    residual: Option<&'a Matrix>,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for index in 0..self.values.rows() {
            let row = self.values.row_mut(index);
            if let Some(residual) = self.residual {
                row.iter_mut().zip(residual.row(index)).for_each(|(value, more)| *value += more);
            }
            let (vectors, rest) = S::as_simd_f32s(row);
            let total = sum(simd, vectors) + rest.iter().sum::<f32>();
            let mean = total / row.len() as f32;
            let squares = sum_of_squares(simd, vectors, mean);
            let squares = squares + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
            let variance = squares / row.len() as f32;
            // Beyond f32 it would make every row the same: what is no number is found by who reads it.
            let scale =
                if variance.is_finite() { 1.0 / (variance + self.norm.epsilon).sqrt() } else { f32::NAN };
            let affine = self.norm.gamma.iter().zip(&self.norm.beta);
            for (value, (gamma, beta)) in row.iter_mut().zip(affine) {
                *value = (*value - mean) * scale * gamma + beta;
            }
        }
    }
}

/// Σ x, in four chains.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, vectors: &[S::f32s]) -> f32 {
    let mut chains = [simd.splat_f32s(0.0); 4];
    let (fours, ones) = vectors.as_chunks::<4>();
    for four in fours {
        for (chain, &vector) in chains.iter_mut().zip(four) {
            *chain = simd.add_f32s(*chain, vector);
        }
    }
    for (chain, &vector) in chains.iter_mut().zip(ones) {
        *chain = simd.add_f32s(*chain, vector);
    }
    total(simd, chains)
}

/// Σ (x − mean)², in four chains.
#[inline(always)]
pub(crate) fn sum_of_squares<S: Simd>(simd: S, vectors: &[S::f32s], mean: f32) -> f32 {
    let mean = simd.splat_f32s(mean);
    let mut chains = [simd.splat_f32s(0.0); 4];
    let (fours, ones) = vectors.as_chunks::<4>();
    for four in fours {
        for (chain, &vector) in chains.iter_mut().zip(four) {
            let off = simd.sub_f32s(vector, mean);
            *chain = simd.mul_add_f32s(off, off, *chain);
        }
    }
    for (chain, &vector) in chains.iter_mut().zip(ones) {
        let off = simd.sub_f32s(vector, mean);
        *chain = simd.mul_add_f32s(off, off, *chain);
    }
    total(simd, chains)
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::matrix;
    use entromask_random::{keyed, normals};

    #[test]
    fn equals_the_formula_in_f64() {
        for width in [1, 7, 8, 33, 768] {
            let draw = |n, purpose| normals(n, 2.0, &mut keyed(1, purpose, 0, 0));
            let (values, more) = (draw(3 * width, "values"), draw(3 * width, "more"));
            let (gamma, beta) = (draw(width, "gamma"), draw(width, "beta"));
            let norm = LayerNorm::new(gamma.clone(), beta.clone(), 1e-5);
            let mut found = matrix(&values, width);
            norm.add_and_apply(&mut found, &matrix(&more, width));
            for row in 0..3 {
                let sums = (0..width).map(|i| f64::from(values[row * width + i] + more[row * width + i]));
                let sums: Vec<f64> = sums.collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for (i, &found) in found.row(row).iter().enumerate() {
                    let normed = (sums[i] - mean) / (variance + 1e-5).sqrt();
                    let expected = normed * f64::from(gamma[i]) + f64::from(beta[i]);
                    assert!((f64::from(found) - expected).abs() < 2e-5, "{width} {i}: {found} {expected}");
                }
            }
        }
    }

    /// Not the shift alone, by which a model that diverged would look sound.
    #[test]
    fn a_deviation_beyond_f32_is_no_number() {
        let mut values = matrix(&[3e38, -3e38, 1.0, 2.0], 4);
        LayerNorm::new(vec![1.0; 4], vec![0.5; 4], 1e-5).apply(&mut values);
        assert!(values.to_vec().into_iter().all(f32::is_nan));
    }

    #[test]
    fn a_large_mean_costs_no_precision() {
        let values: Vec<f32> = (0..12).map(|i| 1000.0 + (i % 2) as f32).collect();
        let mut found = matrix(&values, 12);
        LayerNorm::new(vec![1.0; 12], vec![0.0; 12], 0.0).apply(&mut found);
        assert!(found.row(0).iter().all(|x| (x.abs() - 1.0).abs() < 1e-4), "{:?}", found.row(0));
    }
}
