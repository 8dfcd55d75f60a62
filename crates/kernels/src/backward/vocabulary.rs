//! The decoder of a masked language model: logits = hidden · weightᵀ + bias.
//!
//! Its products are the largest of a small model's training step, so they are laid out for it: positions are computed in
//! tiles, each on one thread from the logits to the gradient of the hidden states, and the gradient of the weights in
//! tiles of the vocabulary, each of which adds up over all positions while it is in the caches.

use rayon::prelude::*;

use super::linear::add;
use crate::matrix::Matrix;
use crate::panels::{NO_TOKEN, Panels, padded};
use crate::product::{Start, Transposed, product};

/// A decoder laid out for both passes.
#[derive(Clone, Debug)]
pub struct TrainedVocabulary {
    columns: Panels,
    rows: Panels,
    bias: Vec<f32>,
}

/// Gradient of a decoder.
#[derive(Clone, Debug, Default)]
pub struct VocabularyGradient {
    /// `[vocab_size, hidden_size]`.
    weight: Matrix,
    /// `[vocab_size]`.
    bias: Vec<f32>,
}

/// Tokens whose weights one task adds up: with 256 hidden units that are 512 KiB.
const TOKENS: usize = 512;

impl TrainedVocabulary {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        let hidden_size = weight.len() / bias.len();
        let rows = || weight.chunks_exact(hidden_size);
        let (mut by_columns, mut by_rows) = (Panels::default(), Panels::default());
        rayon::join(
            || by_columns.pack_columns(hidden_size, rows()),
            || by_rows.pack_rows(hidden_size, rows()),
        );
        Self { columns: by_columns, rows: by_rows, bias: padded(bias, NO_TOKEN) }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.columns.columns()
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.columns.depth()
    }

    /// `logits` become those of the positions, bias included: `[n, hidden_size]` to `[n, vocab_size]`.
    pub fn forward(&self, hidden: &Matrix, logits: &mut Matrix) {
        logits.reshape(hidden.rows(), self.vocab_size());
        product(hidden.all(), self.columns.all(), Start::Bias(&self.bias), &mut logits.view_mut(0, 0));
    }

    /// `d_hidden` becomes `d_logits · weight`: `[n, vocab_size]` to `[n, hidden_size]`.
    pub fn backward(&self, d_logits: &Matrix, d_hidden: &mut Matrix) {
        d_hidden.reshape(d_logits.rows(), self.hidden_size());
        product(d_logits.all(), self.rows.all(), Start::Zero, &mut d_hidden.view_mut(0, 0));
    }

    /// A gradient of 0.
    pub fn zero_gradient(&self) -> VocabularyGradient {
        let mut weight = Matrix::default();
        weight.reshape(self.vocab_size(), self.hidden_size());
        VocabularyGradient { weight, bias: vec![0.0; self.vocab_size()] }
    }
}

impl VocabularyGradient {
    /// Adds what tiles of positions contribute: their hidden states `[n, hidden_size]` and the gradients of their logits
    /// `[n, vocab_size]`.
    ///
    /// The sums run over the positions in order, whatever the number of threads.
    pub fn add(&mut self, tiles: &[(Matrix, Matrix)]) {
        let states: Vec<Panels> = tiles.par_iter().map(|(hidden, _)| packed(hidden)).collect();
        let weights = self.weight.par_chunks_mut(TOKENS);
        weights.zip(self.bias.par_chunks_mut(TOKENS)).enumerate().for_each(|(index, (mut weight, bias))| {
            let tokens = index * TOKENS..index * TOKENS + bias.len();
            for (hidden, (_, d_logits)) in states.iter().zip(tiles) {
                let d_logits = d_logits.view(0..d_logits.rows(), tokens.clone());
                product(Transposed(d_logits), hidden.all(), Start::Stored, &mut weight);
                (0..d_logits.rows()).for_each(|row| add(bias, d_logits.row(row)));
            }
        });
    }

    /// Gradients of the weight, `[vocab_size * hidden_size]`, and of the bias, `[vocab_size]`.
    pub fn into_parts(self) -> (Vec<f32>, Vec<f32>) {
        (self.weight.to_vec_in_parallel(), self.bias)
    }
}

fn packed(hidden: &Matrix) -> Panels {
    let mut panels = Panels::default();
    panels.pack_rows(hidden.width(), (0..hidden.rows()).map(|row| hidden.row(row)));
    panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::tests::{assert_close, draw, tracked};
    use crate::matrix::tests::matrix;

    #[test]
    fn equals_automatic_differentiation_in_tiles() {
        for (n, width, vocab) in [(1, 1, 2), (5, 7, 19), (40, 24, 1100)] {
            let (hidden, weight, bias) = (draw(n * width, "h"), draw(vocab * width, "w"), draw(vocab, "b"));
            let seed = draw(n * vocab, "seed");
            let (t_hidden, t_weight) = (tracked(&hidden, [n, width]), tracked(&weight, [vocab, width]));
            let t_bias = tracked(&bias, [1, vocab]);
            let output = t_hidden.clone().matmul(t_weight.clone().transpose()) + t_bias.clone();
            let backward = (output.clone() * tracked(&seed, [n, vocab])).sum().backward();

            let vocabulary = TrainedVocabulary::new(&weight, &bias);
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
            let mut gradient = vocabulary.zero_gradient();
            gradient.add(&[tile(0..cut), tile(cut..n)]);
            let (d_weight, d_bias) = gradient.into_parts();
            assert_close(&d_weight, t_weight.grad(&backward).expect("tracked"));
            assert_close(&d_bias, t_bias.grad(&backward).expect("tracked"));
        }
    }
}
