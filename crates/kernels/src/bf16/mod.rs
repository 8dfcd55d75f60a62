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
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::matrix::ViewMut;
use crate::product::{Left, Start};

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

impl Default for Pairs {
    fn default() -> Self {
        Self { panels: AVec::new(0), depth: 0, columns: 0 }
    }
}

impl Pairs {
    /// Becomes the rows given, `columns` values each, one for each value that goes in.
    pub(crate) fn pack_rows<'a>(
        &mut self,
        columns: usize,
        mut rows: impl ExactSizeIterator<Item = &'a [f32]>,
    ) {
        self.reset(rows.len(), columns);
        let (panel_size, zeros) = (self.panel_size(), vec![0.0; columns]);
        let mut place = 0;
        while let Some(first) = rows.next() {
            let second = rows.next().unwrap_or(&zeros);
            Arch::new().dispatch(RoundRows {
                rows: [first, second],
                panels: &mut self.panels[place..],
                panel_size,
            });
            place += WIDTH;
        }
    }

    /// Becomes the columns given as rows of `depth` values each, one for each value that comes out, on all threads.
    pub(crate) fn pack_matrix(&mut self, depth: usize, columns: &[f32]) {
        self.reset(depth, columns.len() / depth.max(1));
        let panel_size = self.panel_size().max(1);
        let panels = self.panels.par_chunks_mut(panel_size);
        panels.zip(columns.par_chunks((depth * WIDTH).max(1))).for_each(|(pairs, columns)| {
            Arch::new().dispatch(RoundColumns { depth, columns, pairs });
        });
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

    /// Panels that every column is written to next; what fills them up is 0.
    fn reset(&mut self, depth: usize, columns: usize) {
        if (self.depth, self.columns) != (depth, columns) {
            (self.depth, self.columns) = (depth, columns);
            self.panels.clear();
            self.panels.resize(columns.div_ceil(WIDTH) * self.panel_size(), 0);
        }
    }

    fn panel_size(&self) -> usize {
        pairs(self.depth) * WIDTH
    }
}

impl Block<'_> {
    /// Writes `input` · these columns + `start`, `[rows, columns of the panels]`, to `output`. A row's result depends on
    /// nothing but the row.
    pub(crate) fn multiply(self, input: Left<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
        assert_eq!(input.depth(), self.depth, "as many values a row as the weights have rows");
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

/// Rounds two rows of the depth to pairs: `panels` begins where that of the first column is.
struct RoundRows<'a> {
    rows: [&'a [f32]; 2],
    panels: &'a mut [Pair],
    panel_size: usize,
}

impl WithSimd for RoundRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let [first, second] = self.rows.map(|row| row.chunks(WIDTH));
        for ((first, second), pairs) in first.zip(second).zip(self.panels.chunks_mut(self.panel_size)) {
            for ((&a, &b), to) in first.iter().zip(second).zip(pairs) {
                *to = pair(a, b);
            }
        }
    }
}

/// Rounds columns of `depth` values each to a panel.
struct RoundColumns<'a> {
    depth: usize,
    columns: &'a [f32],
    pairs: &'a mut [Pair],
}

impl WithSimd for RoundColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (column, values) in self.columns.chunks_exact(self.depth).enumerate() {
            let (whole, rest) = values.as_chunks::<2>();
            let mut places = self.pairs[column..].iter_mut().step_by(WIDTH);
            whole.iter().zip(&mut places).for_each(|(&[a, b], to)| *to = pair(a, b));
            rest.iter().zip(places).for_each(|(&a, to)| *to = pair(a, 0.0));
        }
    }
}

#[inline(always)]
fn pair(first: f32, second: f32) -> Pair {
    rounded(first) | rounded(second) << 16
}

#[inline(always)]
fn rounded(value: f32) -> u32 {
    u32::from(bf16::from_f32(value).to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use entromask_random::{keyed, normals};

    type Multiply = fn(Left<'_>, Block<'_>, Start<'_>, &mut ViewMut<'_>);

    fn draw(n: usize, purpose: &str) -> Vec<f32> {
        normals(n, 1.0, &mut keyed(1, purpose, 0, 0))
    }

    fn rounded(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| bf16::from_f32(value).to_f64()).collect()
    }

    fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
        let rows = values.len() / columns;
        (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
    }

    fn from_rows(columns: usize, rows: &[f32]) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.pack_rows(columns, rows.chunks_exact(columns));
        pairs
    }

    fn from_columns(depth: usize, columns: &[f32]) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.pack_matrix(depth, columns);
        pairs
    }

    /// All columns, `[rows, columns]`.
    fn product(multiply: Multiply, pairs: &Pairs, input: Left<'_>, bias: &[f32]) -> Matrix {
        let mut output = Matrix::default();
        output.reshape(input.rows(), pairs.columns());
        multiply(input, pairs.all(), Start::Bias(bias), &mut output.view_mut(0, 0));
        output
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
            let (input, weight) = (draw(rows * depth, "input"), draw(depth * columns, "weight"));
            let bias: Vec<f32> =
                (0..columns.next_multiple_of(WIDTH)).map(|column| (column % 9) as f32 / 8.0).collect();
            let (left, right) = (rounded(&input), rounded(&weight));
            let assert_near = |found: &Matrix, times: f64| {
                for (index, found) in found.to_vec().into_iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let sum: f64 =
                        (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]).sum();
                    let expected = times * sum + f64::from(bias[column]);
                    assert!((f64::from(found) - expected).abs() < 2e-4, "{row} {column}: {found} {expected}");
                }
            };
            let [plain, turned] = [(&input, depth), (&transpose(&input, depth), rows)]
                .map(|(values, width)| Matrix::from_rows(values, width));
            let layouts = [from_rows(columns, &weight), from_columns(depth, &transpose(&weight, columns))];
            for multiply in kernels() {
                for (pairs, left) in layouts.iter().flat_map(|pairs| {
                    [Left::Rows(plain.all()), Left::Columns(turned.all())].map(|left| (pairs, left))
                }) {
                    let mut found = product(multiply, pairs, left, &bias);
                    assert_near(&found, 1.0);
                    multiply(left, pairs.all(), Start::Stored, &mut found.view_mut(0, 0));
                    assert_near(&found, 2.0);
                }
            }
        }
    }

    #[test]
    fn memory_of_the_same_shape_is_written_over() {
        for (depth, columns) in [(3, 70), (8, 32), (1, 1)] {
            let (old, new) = (vec![f32::MAX; depth * columns], draw(depth * columns, "new"));
            let (mut by_rows, mut by_columns) = (from_rows(columns, &old), from_columns(depth, &old));
            by_rows.pack_rows(columns, new.chunks_exact(columns));
            by_columns.pack_matrix(depth, &transpose(&new, columns));
            let fresh = from_rows(columns, &new);
            assert_eq!(by_rows.panels, fresh.panels);
            assert_eq!(by_columns.panels, fresh.panels);
        }
    }

    #[test]
    fn other_rows_change_no_bit() {
        let (input, pairs) = (draw(20 * 1_100, "input"), from_rows(20, &draw(1_100 * 20, "weight")));
        let bias = [0.5; WIDTH];
        for multiply in kernels() {
            let all = product(multiply, &pairs, Left::Rows(Matrix::from_rows(&input, 1_100).all()), &bias);
            let turned = Matrix::from_rows(&transpose(&input, 1_100), 20);
            let turned = product(multiply, &pairs, Left::Columns(turned.all()), &bias);
            assert_eq!(all.to_vec(), turned.to_vec());
            for (index, row) in input.chunks_exact(1_100).enumerate() {
                let row = Matrix::from_rows(row, 1_100);
                assert_eq!(product(multiply, &pairs, Left::Rows(row.all()), &bias).row(0), all.row(index));
            }
        }
    }

    #[test]
    fn no_rows_and_no_depth_are_fine() {
        for multiply in kernels() {
            let mut none = Matrix::default();
            none.reshape(0, 16);
            let pairs = from_rows(20, &[1.0; 16 * 20]);
            assert!(product(multiply, &pairs, Left::Rows(none.all()), &[0.5; WIDTH]).to_vec().is_empty());
            none.reshape(3, 0);
            let mut pairs = Pairs::default();
            pairs.pack_rows(20, std::iter::empty());
            let found = product(multiply, &pairs, Left::Rows(none.all()), &[0.5; WIDTH]);
            assert_eq!(found.to_vec(), [0.5; 3 * 20]);
        }
    }
}
