//! The matrix product: a few positions times a block of the vocabulary, held in registers.

use pulp::{Arch, Simd, WithSimd};

/// Positions that are multiplied at once. With two vectors of columns their sums fill 12 of the 16 vector registers of
/// AVX2, enough to hide the latency of the multiply-add.
pub(crate) const ROWS: usize = 6;

/// Panels of a block: with 128 dimensions and AVX2 its weights are 128 KiB and stay in the second-level cache.
const BLOCK_PANELS: usize = 16;

/// Logit of the columns that fill up the last panel: its softmax is exactly 0, yet it is finite.
const NO_TOKEN: f32 = -1e30;

/// A decoder as panels: two vectors of tokens wide, the tokens of one dimension side by side.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    /// `[vocab_size / width, hidden_size, width]`, filled up with zeros.
    weights: Vec<f32>,
    /// `[vocab_size]`, filled up with `NO_TOKEN` to a multiple of `width`.
    bias: Vec<f32>,
    /// Tokens of a panel.
    width: usize,
    /// Tokens of a block.
    pub(crate) block: usize,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
}

/// Some consecutive panels.
pub(crate) struct Block<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
    width: usize,
    stride: usize,
}

impl Panels {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub(crate) fn new(weight: &[f32], bias: &[f32]) -> Self {
        let (vocab_size, hidden_size) = (bias.len(), weight.len() / bias.len());
        assert_eq!(weight.len(), vocab_size * hidden_size, "one row of weights a token");
        let width = Arch::new().dispatch(PanelWidth);
        let mut padded_bias = bias.to_vec();
        padded_bias.resize(vocab_size.next_multiple_of(width), NO_TOKEN);
        let weights = pack_weights(weight, hidden_size, width);
        Self { weights, bias: padded_bias, width, block: width * BLOCK_PANELS, vocab_size, hidden_size }
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let weights = self.weights.chunks(self.block * self.hidden_size);
        let (width, stride) = (self.width, self.block);
        weights.zip(self.bias.chunks(self.block)).map(move |(weights, bias)| Block {
            weights,
            bias,
            width,
            stride,
        })
    }
}

impl Block<'_> {
    /// Tokens of this block; the last one has fewer.
    pub(crate) fn columns(&self) -> usize {
        self.bias.len()
    }
}

/// Groups of `ROWS` positions, dimension by dimension: `[groups, hidden_size, ROWS]`, filled up with zeros.
pub(crate) fn pack_hidden(hidden: &[f32], hidden_size: usize) -> Vec<[f32; ROWS]> {
    let mut packed = Vec::with_capacity(hidden.len().div_ceil(ROWS));
    for group in hidden.chunks(ROWS * hidden_size) {
        let at = |row: usize, k: usize| group.get(row * hidden_size + k).copied().unwrap_or(0.0);
        packed.extend((0..hidden_size).map(|k| std::array::from_fn(|row| at(row, k))));
    }
    packed
}

/// Writes the logits of all packed positions for one block, a row of the block's full width a position.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(simd: S, hidden: &[[f32; ROWS]], block: &Block<'_>, logits: &mut [f32]) {
    let hidden_size = block.weights.len() / block.bias.len();
    let panels =
        block.weights.chunks_exact(hidden_size * block.width).zip(block.bias.chunks_exact(block.width));
    for (panel, (weights, bias)) in panels.enumerate() {
        let groups = hidden.chunks_exact(hidden_size).zip(logits.chunks_exact_mut(ROWS * block.stride));
        for (hidden, logits) in groups {
            let sums = products(simd, hidden, S::as_simd_f32s(weights).0, S::as_simd_f32s(bias).0);
            for (row, sums) in logits.chunks_exact_mut(block.stride).zip(sums) {
                let columns = &mut row[panel * block.width..(panel + 1) * block.width];
                S::as_mut_simd_f32s(columns).0.copy_from_slice(&sums);
            }
        }
    }
}

/// `ROWS` positions times one panel. Each sum runs over the dimensions in order, whatever the shapes.
#[inline(always)]
fn products<S: Simd>(
    simd: S,
    hidden: &[[f32; ROWS]],
    panel: &[S::f32s],
    bias: &[S::f32s],
) -> [[S::f32s; 2]; ROWS] {
    let mut sums = [[bias[0], bias[1]]; ROWS];
    for (hidden, weights) in hidden.iter().zip(panel.as_chunks::<2>().0) {
        for (sums, &hidden) in sums.iter_mut().zip(hidden) {
            let hidden = simd.splat_f32s(hidden);
            sums[0] = simd.mul_add_f32s(hidden, weights[0], sums[0]);
            sums[1] = simd.mul_add_f32s(hidden, weights[1], sums[1]);
        }
    }
    sums
}

struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        2 * S::F32_LANES
    }
}

fn pack_weights(weight: &[f32], hidden_size: usize, width: usize) -> Vec<f32> {
    let panels = weight.len().div_ceil(hidden_size * width);
    let mut packed = vec![0.0; panels * hidden_size * width];
    for (token, row) in weight.chunks_exact(hidden_size).enumerate() {
        let panel = &mut packed[token / width * hidden_size * width..];
        for (k, &value) in row.iter().enumerate() {
            panel[k * width + token % width] = value;
        }
    }
    packed
}
