//! The decoder of a masked language model: logits = hidden · weightᵀ + bias.
//!
//! Its products are the largest of a small model's training step, so they are laid out for it: positions are computed in
//! tiles, each on one thread from the logits to the gradient of the hidden states, and the gradient of the weights in
//! tiles of the vocabulary, each of which adds up over all positions while it is in the caches.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::linear::add;
use crate::exponential::{LOWEST, exp};
use crate::matrix::Matrix;
use crate::mixed::Products;
use crate::panels::NO_TOKEN;
use crate::product::{Left, Start};
use crate::weights::Weights;

/// A decoder laid out for both passes. Its memory is used again where another one is read.
#[derive(Clone, Debug, Default)]
pub struct TrainedVocabulary {
    columns: Weights,
    rows: Weights,
    bias: Vec<f32>,
}

/// Gradient of a decoder.
#[derive(Clone, Debug, Default)]
pub struct VocabularyGradient {
    /// `[vocab_size, hidden_size]`; any values as long as nothing has been added.
    weight: Matrix,
    /// `[vocab_size]`.
    bias: Vec<f32>,
    has_more: bool,
    products: Products,
}

/// Tokens whose weights one task adds up: with 256 hidden units that are 512 KiB.
const TOKENS: usize = 512;

impl TrainedVocabulary {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub fn new(weight: &[f32], bias: &[f32], products: Products) -> Self {
        let mut vocabulary = Self::default();
        vocabulary.read(weight, bias, products);
        vocabulary
    }

    /// Becomes [`TrainedVocabulary::new`] of `weight` `[vocab_size, hidden_size]` and `bias` `[vocab_size]`.
    pub fn read(&mut self, weight: &[f32], bias: &[f32], products: Products) {
        let hidden_size = weight.len() / bias.len();
        let (columns, rows) = (&mut self.columns, &mut self.rows);
        columns.set_products(products);
        rows.set_products(products);
        rayon::join(
            || columns.pack_matrix(hidden_size, weight),
            || rows.pack_rows(hidden_size, weight.chunks_exact(hidden_size)),
        );
        self.bias = self.columns.padded(bias, NO_TOKEN);
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.columns.outputs()
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.columns.inputs()
    }

    /// `logits` become those of the positions, bias included: `[n, hidden_size]` to `[n, vocab_size]`.
    pub fn forward(&self, hidden: &Matrix, logits: &mut Matrix) {
        logits.reshape(hidden.rows(), self.vocab_size());
        self.columns.multiply(Left::Rows(hidden.all()), Start::Bias(&self.bias), &mut logits.view_mut(0, 0));
    }

    /// Replaces a row of what [`TrainedVocabulary::forward`] wrote, `[rows, vocab_size]`, by the gradient of `share` · cross-entropy, which is
    /// `share` · (softmax − onehot(target)). Returns the cross-entropy −ln softmax(target), nats.
    pub fn cross_entropy(&self, logits: &mut Matrix, row: usize, target: usize, share: f32) -> f64 {
        let padded = self.bias.len();
        let logits = &mut logits.view_mut(row, 0);
        let chosen = logits.at(0, target, 1)[0];
        let logits = logits.at(0, 0, padded);
        let (highest, sum) = Arch::new().dispatch(Softmax { logits, share });
        logits[target] -= share;
        f64::from(sum).ln() - f64::from(chosen - highest)
    }

    /// `d_hidden` becomes `d_logits · weight`: `[n, vocab_size]` to `[n, hidden_size]`.
    pub fn backward(&self, d_logits: &Matrix, d_hidden: &mut Matrix) {
        d_hidden.reshape(d_logits.rows(), self.hidden_size());
        self.rows.multiply(Left::Rows(d_logits.all()), Start::Zero, &mut d_hidden.view_mut(0, 0));
    }
}

impl VocabularyGradient {
    /// Becomes that of `vocabulary`, and 0.
    pub fn clear(&mut self, vocabulary: &TrainedVocabulary) {
        self.weight.reshape(vocabulary.vocab_size(), vocabulary.hidden_size());
        self.bias.clear();
        self.bias.resize(vocabulary.vocab_size(), 0.0);
        self.has_more = false;
        self.products = vocabulary.rows.products();
    }

    /// Adds what tiles of positions contribute: their hidden states `[n, hidden_size]` and the gradients of their logits
    /// `[n, vocab_size]`.
    ///
    /// Positions of a tile are summed by themselves and then added, so that the last bits depend on the tiles, and on
    /// nothing else: not on the number of threads.
    pub fn add(&mut self, tiles: &[(Matrix, Matrix)]) {
        let first = if self.has_more { Start::Stored } else { Start::Zero };
        self.has_more |= !tiles.is_empty();
        let packed = |(hidden, _): &(Matrix, Matrix)| packed(hidden, self.products);
        let states: Vec<Weights> = tiles.par_iter().map(packed).collect();
        let weights = self.weight.par_chunks_mut(TOKENS);
        weights.zip(self.bias.par_chunks_mut(TOKENS)).enumerate().for_each(|(index, (mut weight, bias))| {
            let tokens = index * TOKENS..index * TOKENS + bias.len();
            for (index, (hidden, (_, d_logits))) in states.iter().zip(tiles).enumerate() {
                let d_logits = d_logits.view(0..d_logits.rows(), tokens.clone());
                let start = if index == 0 { first } else { Start::Stored };
                hidden.multiply(Left::Columns(d_logits), start, &mut weight);
                (0..d_logits.rows()).for_each(|row| add(bias, d_logits.row(row)));
            }
        });
    }

    /// Gradients of the weight, `[vocab_size * hidden_size]`, and of the bias, `[vocab_size]`.
    pub fn to_parts(&self) -> (Vec<f32>, Vec<f32>) {
        let weight = self.weight.to_vec_in_parallel();
        (if self.has_more { weight } else { vec![0.0; weight.len()] }, self.bias.clone())
    }
}

/// Replaces whole vectors of logits by their softmax times `share`; returns the highest and Σ e^(z − highest).
struct Softmax<'a> {
    logits: &'a mut [f32],
    share: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let vectors = S::as_mut_simd_f32s(self.logits).0;
        let mut tops = [simd.splat_f32s(f32::NEG_INFINITY); 4];
        for four in vectors.as_chunks::<4>().0 {
            tops.iter_mut().zip(four).for_each(|(top, &z)| *top = simd.max_f32s(*top, z));
        }
        for &z in vectors.as_chunks::<4>().1 {
            tops[0] = simd.max_f32s(tops[0], z);
        }
        let [a, b, c, d] = tops;
        let highest = simd.reduce_max_f32s(simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d)));
        let (top, lowest) = (simd.splat_f32s(highest), simd.splat_f32s(LOWEST));
        let mut sums = [simd.splat_f32s(0.0); 2];
        for two in vectors.as_chunks_mut::<2>().0 {
            for (z, sum) in two.iter_mut().zip(&mut sums) {
                *z = exp(simd, simd.max_f32s(simd.sub_f32s(*z, top), lowest));
                *sum = simd.add_f32s(*sum, *z);
            }
        }
        let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        let share = simd.splat_f32s(self.share / sum);
        for z in vectors {
            *z = simd.mul_f32s(*z, share);
        }
        (highest, sum)
    }
}

fn packed(hidden: &Matrix, products: Products) -> Weights {
    let mut weights = Weights::none(products);
    weights.pack_rows(hidden.width(), (0..hidden.rows()).map(|row| hidden.row(row)));
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::tests::{PRODUCTS, assert_close, draw, draw_rounded, tracked};
    use crate::matrix::tests::matrix;

    #[test]
    fn cross_entropy_is_that_of_the_plain_formula() {
        let (n, width, vocab) = (7, 5, 1003);
        let (hidden, weight, bias) = (draw(n * width, "h"), draw(vocab * width, "w"), draw(vocab, "b"));
        let vocabulary = TrainedVocabulary::new(&weight, &bias, Products::AsTensors);
        let mut logits = Matrix::default();
        vocabulary.forward(&matrix(&hidden, width), &mut logits);
        for row in 0..n {
            let (target, share) = (row * 997 % vocab, 0.3);
            let before: Vec<f64> = logits.row(row).iter().map(|&z| f64::from(z)).collect();
            let sum: f64 = before.iter().map(|z| z.exp()).sum();
            let found = vocabulary.cross_entropy(&mut logits, row, target, share);
            assert!((found - (sum.ln() - before[target])).abs() < 1e-5, "{found}");
            for (token, (found, z)) in logits.row(row).iter().zip(&before).enumerate() {
                let expected = 0.3 * (z.exp() / sum - f64::from(u8::from(token == target)));
                assert!((f64::from(*found) - expected).abs() < 1e-7, "{token}: {found} {expected}");
            }
        }
    }

    #[test]
    fn cross_entropy_of_huge_logits_is_finite_and_does_not_hide_what_is_no_number() {
        let vocabulary = TrainedVocabulary::new(&[1.0, -1.0, 0.0], &[0.0; 3], Products::AsTensors);
        let mut logits = Matrix::default();
        vocabulary.forward(&matrix(&[1e4, f32::NAN], 1), &mut logits);
        assert!((vocabulary.cross_entropy(&mut logits, 0, 1, 1.0) - 2e4).abs() < 1.0);
        assert!(logits.row(0).iter().all(|g| g.is_finite()));
        assert!(vocabulary.cross_entropy(&mut logits, 1, 1, 1.0).is_nan());
    }

    #[test]
    fn equals_automatic_differentiation_in_tiles() {
        let (mut vocabulary, mut gradient) = <(TrainedVocabulary, VocabularyGradient)>::default();
        let shapes = [(1, 1, 2), (5, 7, 19), (40, 24, 1100)];
        let cases = PRODUCTS.iter().flat_map(|&products| shapes.map(|shape| (shape, products)));
        for ((n, width, vocab), products) in cases {
            let (hidden, weight) = (draw_rounded(n * width, "h"), draw_rounded(vocab * width, "w"));
            let (bias, seed) = (draw(vocab, "b"), draw_rounded(n * vocab, "seed"));
            let (t_hidden, t_weight) = (tracked(&hidden, [n, width]), tracked(&weight, [vocab, width]));
            let t_bias = tracked(&bias, [1, vocab]);
            let output = t_hidden.clone().matmul(t_weight.clone().transpose()) + t_bias.clone();
            let backward = (output.clone() * tracked(&seed, [n, vocab])).sum().backward();

            vocabulary.read(&weight, &bias, products);
            let (mut logits, mut d_hidden) = (Matrix::default(), Matrix::default());
            vocabulary.forward(&matrix(&hidden, width), &mut logits);
            assert_close(&logits.to_vec(), output.inner());
            vocabulary.backward(&matrix(&seed, vocab), &mut d_hidden);
            assert_close(&d_hidden.to_vec(), t_hidden.grad(&backward).expect("tracked"));
            let cut = n.div_ceil(2);
            let tile = |rows: std::ops::Range<usize>| {
                let part = |values: &[f32], width: usize| {
                    matrix(&values[rows.start * width..rows.end * width], width)
                };
                (part(&hidden, width), part(&seed, vocab))
            };
            // In the memory of the case before.
            gradient.clear(&vocabulary);
            let (d_weight, d_bias) = gradient.to_parts();
            assert!(d_weight.len() == vocab * width && d_weight.iter().chain(&d_bias).all(|&g| g == 0.0));
            gradient.add(&[tile(0..cut), tile(cut..n)]);
            let (d_weight, d_bias) = gradient.to_parts();
            assert_close(&d_weight, t_weight.grad(&backward).expect("tracked"));
            assert_close(&d_bias, t_bias.grad(&backward).expect("tracked"));
        }
    }
}
