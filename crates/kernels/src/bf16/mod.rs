//! Matrix products in bf16 on the CPU: factors are rounded to bf16, their products are summed in f32.
//!
//! Values are multiplied two at a time: the instruction VDPBF16PS adds two products to each of sixteen sums, twice as many as
//! a multiply-add of f32. Processors with `AVX512_BF16` have it: AMD's from Zen 4, Intel's from Sapphire Rapids on.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected;

use aligned_vec::AVec;
use burn::tensor::bf16;
use rayon::prelude::*;

use crate::matrix::{View, ViewMut};
use crate::product::Start;

/// Whether this processor multiplies in bf16, and so faster than in f32. The results of others take longer, and are the same but
/// for the order in which sums are rounded and for numbers below 2^-126, which the instruction takes for 0.
pub fn has_bf16_products() -> bool {
    // With those that the compiler takes to come with it.
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Two bf16 values that are multiplied with two others: the first in the low half.
type Pair = u32;

/// Columns of a panel, two vectors.
pub(crate) const WIDTH: usize = 32;

/// Depth is filled up with zeros to a multiple of this many values.
const FILLED: usize = 8;

/// Weights `[depth, columns]` as panels of pairs: `[columns / WIDTH, depth / 2, WIDTH]`, filled up with zeros.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    panels: AVec<Pair>,
    depth: usize,
    columns: usize,
}

/// Some consecutive panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    weights: &'a [Pair],
    depth: usize,
    panels: usize,
}

impl Pairs {
    /// From rows of `columns` values each, one for each value that goes in.
    pub(crate) fn from_rows(columns: usize, rows: &[f32]) -> Self {
        let mut pairs = Self::zeros(rows.len() / columns.max(1), columns);
        let panel_size = pairs.panel_size();
        pairs.panels.par_chunks_mut(panel_size.max(1)).enumerate().for_each(|(panel, pairs)| {
            for (k, row) in rows.chunks_exact(columns).enumerate() {
                let values = &row[panel * WIDTH..columns.min(panel * WIDTH + WIDTH)];
                values.iter().enumerate().for_each(|(column, &value)| put(pairs, k, column, value));
            }
        });
        pairs
    }

    /// From columns of `depth` values each, one for each value that comes out.
    pub(crate) fn from_columns(depth: usize, columns: &[f32]) -> Self {
        let mut pairs = Self::zeros(depth, columns.len() / depth.max(1));
        let panel_size = pairs.panel_size().max(1);
        let panels = pairs.panels.par_chunks_mut(panel_size);
        panels.zip(columns.par_chunks((depth * WIDTH).max(1))).for_each(|(pairs, columns)| {
            for (column, values) in columns.chunks_exact(depth).enumerate() {
                values.iter().enumerate().for_each(|(k, &value)| put(pairs, k, column, value));
            }
        });
        pairs
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn all(&self) -> Block<'_> {
        self.block(0, self.columns.div_ceil(WIDTH))
    }

    /// `panels` panels from `first` on, or as many as there are.
    pub(crate) fn block(&self, first: usize, panels: usize) -> Block<'_> {
        let (size, panels) = (self.panel_size(), panels.min(self.columns.div_ceil(WIDTH) - first));
        Block { weights: &self.panels[first * size..][..panels * size], depth: self.depth, panels }
    }

    fn zeros(depth: usize, columns: usize) -> Self {
        let mut pairs = Self { panels: AVec::new(0), depth, columns };
        pairs.panels.resize(columns.div_ceil(WIDTH) * pairs.panel_size(), 0);
        pairs
    }

    fn panel_size(&self) -> usize {
        pairs(self.depth) * WIDTH
    }
}

impl Block<'_> {
    /// Writes `input` · these columns + `start`, `[rows, columns of the panels]`, to `output`. A row's result depends on
    /// nothing but the row.
    pub(crate) fn multiply(self, input: View<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
        assert_eq!(input.width(), self.depth, "as many values a row as the weights have rows");
        #[cfg(target_arch = "x86_64")]
        if has_bf16_products() {
            return avx512::multiply(input, self, start, output);
        }
        portable::multiply(input, self, start, output);
    }

    /// A panel from its pair `first` on, and what comes after it, one row of pairs after the other.
    fn rows_from(&self, index: usize, first: usize) -> &[[Pair; WIDTH]] {
        &self.weights.as_chunks().0[index * pairs(self.depth) + first..]
    }
}

/// Pairs that `depth` values make up.
fn pairs(depth: usize) -> usize {
    depth.next_multiple_of(FILLED) / 2
}

/// Rounds a value into its place in a panel that is 0 there.
fn put(panel: &mut [Pair], k: usize, column: usize, value: f32) {
    panel[k / 2 * WIDTH + column] |= Pair::from(bf16::from_f32(value).to_bits()) << (k % 2 * 16);
}

/// What the sums of a panel start with.
fn first_sums(start: Start<'_>, panel: usize) -> [f32; WIDTH] {
    match start {
        Start::Bias(bias) => bias.as_chunks().0[panel],
        Start::Zero => [0.0; WIDTH],
        Start::Stored => unreachable!("no product in bf16 is added to another"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use entromask_random::{keyed, normals};

    type Multiply = fn(View<'_>, Block<'_>, Start<'_>, &mut ViewMut<'_>);

    fn rounded(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| bf16::from_f32(value).to_f64()).collect()
    }

    /// All columns, `[rows, columns]`.
    fn product(multiply: Multiply, pairs: &Pairs, input: &Matrix, bias: &[f32]) -> Vec<f32> {
        let mut output = Matrix::default();
        output.reshape(input.rows(), pairs.columns());
        multiply(input.all(), pairs.all(), Start::Bias(bias), &mut output.view_mut(0, 0));
        output.to_vec()
    }

    fn kernels() -> Vec<Multiply> {
        let mut kernels: Vec<Multiply> = vec![portable::multiply];
        #[cfg(target_arch = "x86_64")]
        if has_bf16_products() {
            kernels.push(avx512::multiply);
        }
        kernels
    }

    #[test]
    fn equals_sums_in_f64_of_rounded_factors() {
        for (rows, depth, columns) in
            [(1, 1, 1), (5, 3, 17), (6, 300, 32), (13, 1100, 40), (70, 256, 33), (9, 604, 1301)]
        {
            let draw = |n, purpose| normals(n, 1.0, &mut keyed(1, purpose, 0, 0));
            let (input, weight) = (draw(rows * depth, "input"), draw(depth * columns, "weight"));
            let bias: Vec<f32> =
                (0..columns.next_multiple_of(WIDTH)).map(|column| (column % 9) as f32 / 8.0).collect();
            let turned: Vec<f32> = (0..columns)
                .flat_map(|c| (0..depth).map(move |k| (k, c)))
                .map(|(k, c)| weight[k * columns + c])
                .collect();
            let layouts = [Pairs::from_rows(columns, &weight), Pairs::from_columns(depth, &turned)];
            let (left, right) = (rounded(&input), rounded(&weight));
            for (multiply, pairs) in
                kernels().into_iter().flat_map(|kernel| layouts.iter().map(move |p| (kernel, p)))
            {
                let found = product(multiply, pairs, &Matrix::from_rows(&input, depth), &bias);
                for (index, found) in found.into_iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let sum: f64 =
                        (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]).sum();
                    let expected = sum + f64::from(bias[column]);
                    assert!((f64::from(found) - expected).abs() < 1e-4, "{row} {column}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn other_rows_change_no_bit() {
        let draw = |n, purpose| normals(n, 1.0, &mut keyed(2, purpose, 0, 0));
        let (input, pairs) = (draw(20 * 1_100, "input"), Pairs::from_rows(20, &draw(1_100 * 20, "weight")));
        let bias = [0.5; WIDTH];
        for multiply in kernels() {
            let all = product(multiply, &pairs, &Matrix::from_rows(&input, 1_100), &bias);
            for (row, together) in input.chunks_exact(1_100).zip(all.chunks_exact(20)) {
                assert_eq!(product(multiply, &pairs, &Matrix::from_rows(row, 1_100), &bias), together);
            }
        }
    }

    #[test]
    fn no_rows_and_no_depth_are_fine() {
        for multiply in kernels() {
            let mut none = Matrix::default();
            none.reshape(0, 16);
            assert!(
                product(multiply, &Pairs::from_rows(20, &[1.0; 16 * 20]), &none, &[0.5; WIDTH]).is_empty()
            );
            none.reshape(3, 0);
            assert_eq!(product(multiply, &Pairs::zeros(0, 20), &none, &[0.5; WIDTH]), [0.5; 3 * 20]);
        }
    }
}
