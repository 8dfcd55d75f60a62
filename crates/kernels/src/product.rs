//! The matrix product: a few rows times a panel, held in registers.

use pulp::Simd;

use crate::matrix::{View, ViewMut};
use crate::panels::Block;

/// Rows that are multiplied at once. With two vectors of columns their sums fill 12 of the 16 vector registers of AVX2,
/// enough to hide the latency of the multiply-add.
pub(crate) const ROWS: usize = 6;

/// Depth that is multiplied before the next panel: with AVX2 that much of a panel is 16 KiB and stays in the first-level
/// cache while all rows pass by.
const DEPTH: usize = 256;

/// Writes `input · block + bias`, `[rows, columns of the block]`, to `output`; `bias` has a value a column.
///
/// Each sum runs over the depth in order, so a row's result depends on nothing but the row.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    input: View<'_>,
    block: Block<'_>,
    bias: &[f32],
    output: &mut ViewMut<'_>,
) {
    let width = 2 * S::F32_LANES;
    assert_eq!(input.width(), block.depth, "as many values a row as the weights have rows");
    for start in (0..block.depth.max(1)).step_by(DEPTH) {
        let chunk = start..block.depth.min(start + DEPTH);
        for (index, bias) in bias.chunks_exact(width).enumerate() {
            let panel = &block.weights[index * block.depth * width..][..block.depth * width];
            let panel = S::as_simd_f32s(&panel[chunk.start * width..chunk.end * width]).0;
            let mut step =
                Step { input, output, start, panel, bias: S::as_simd_f32s(bias).0, column: index * width };
            let whole = input.rows() / ROWS * ROWS;
            for row in (0..whole).step_by(ROWS) {
                step.rows::<ROWS>(simd, row);
            }
            match input.rows() - whole {
                1 => step.rows::<1>(simd, whole),
                2 => step.rows::<2>(simd, whole),
                3 => step.rows::<3>(simd, whole),
                4 => step.rows::<4>(simd, whole),
                5 => step.rows::<5>(simd, whole),
                _ => {}
            }
        }
    }
}

/// Part of the depth of one panel.
struct Step<'a, 'b, S: Simd> {
    input: View<'a>,
    output: &'a mut ViewMut<'b>,
    /// First of the depth.
    start: usize,
    panel: &'a [S::f32s],
    bias: &'a [S::f32s],
    /// First column of the panel in `output`.
    column: usize,
}

impl<S: Simd> Step<'_, '_, S> {
    #[inline(always)]
    fn rows<const R: usize>(&mut self, simd: S, first: usize) {
        let depth = self.panel.len() / 2;
        let rows: [&[f32]; R] =
            std::array::from_fn(|row| &self.input.row(first + row)[self.start..self.start + depth]);
        let mut sums: [[S::f32s; 2]; R] = [[self.bias[0], self.bias[1]]; R];
        if self.start > 0 {
            for (row, sums) in sums.iter_mut().enumerate() {
                let stored = self.output.at(first + row, self.column, 2 * S::F32_LANES);
                sums.copy_from_slice(S::as_simd_f32s(stored).0);
            }
        }
        for (k, weights) in self.panel.as_chunks::<2>().0.iter().enumerate() {
            for (sums, row) in sums.iter_mut().zip(rows) {
                let value = simd.splat_f32s(row[k]);
                sums[0] = simd.mul_add_f32s(value, weights[0], sums[0]);
                sums[1] = simd.mul_add_f32s(value, weights[1], sums[1]);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let stored = self.output.at(first + row, self.column, 2 * S::F32_LANES);
            S::as_mut_simd_f32s(stored).0.copy_from_slice(sums);
        }
    }
}
