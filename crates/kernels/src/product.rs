//! The matrix product: a few rows times a panel, held in registers.

use std::cell::RefCell;
use std::ops::Range;

use pulp::Simd;

use crate::matrix::{View, ViewMut};
use crate::panels::Block;

/// Rows that are multiplied at once. With two vectors of columns their sums fill 12 of the 16 vector registers of AVX2,
/// enough to hide the latency of the multiply-add.
pub(crate) const ROWS: usize = 6;

/// Depth that is multiplied before the next panel: with AVX2 that much of a panel is 16 KiB and stays in the first-level
/// cache while all rows pass by.
const DEPTH: usize = 256;

thread_local! {
    /// Part of the input, so that it is read in one stream: groups of `ROWS` rows, side by side in the depth.
    static PACKED: RefCell<Vec<[f32; ROWS]>> = const { RefCell::new(Vec::new()) };
}

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
    assert_eq!(input.width(), block.depth, "as many values a row as the weights have rows");
    let mut packed = PACKED.take();
    for start in (0..block.depth.max(1)).step_by(DEPTH) {
        let chunk = start..block.depth.min(start + DEPTH);
        pack(input, chunk.clone(), &mut packed);
        multiply_chunk(simd, &packed, (input.rows(), chunk), block, bias, output);
    }
    PACKED.set(packed);
}

#[inline(always)]
fn multiply_chunk<S: Simd>(
    simd: S,
    packed: &[[f32; ROWS]],
    (rows, chunk): (usize, Range<usize>),
    block: Block<'_>,
    bias: &[f32],
    output: &mut ViewMut<'_>,
) {
    let width = 2 * S::F32_LANES;
    for (index, bias) in bias.chunks_exact(width).enumerate() {
        let panel = &block.weights[index * block.depth * width..][..block.depth * width];
        let panel = S::as_simd_f32s(&panel[chunk.start * width..chunk.end * width]).0;
        let bias = S::as_simd_f32s(bias).0;
        for (group, packed) in packed.chunks_exact(chunk.len()).enumerate() {
            let first = group * ROWS;
            let count = ROWS.min(rows - first);
            let mut sums = [[bias[0], bias[1]]; ROWS];
            if chunk.start > 0 {
                for (row, sums) in sums[..count].iter_mut().enumerate() {
                    let stored = output.at(first + row, index * width, width);
                    sums.copy_from_slice(S::as_simd_f32s(stored).0);
                }
            }
            let sums = accumulate(simd, packed, panel, sums);
            for (row, sums) in sums[..count].iter().enumerate() {
                let stored = output.at(first + row, index * width, width);
                S::as_mut_simd_f32s(stored).0.copy_from_slice(sums);
            }
        }
    }
}

/// Adds the products of a group of rows and a panel.
#[inline(always)]
fn accumulate<S: Simd>(
    simd: S,
    rows: &[[f32; ROWS]],
    panel: &[S::f32s],
    mut sums: [[S::f32s; 2]; ROWS],
) -> [[S::f32s; 2]; ROWS] {
    for (values, weights) in rows.iter().zip(panel.as_chunks::<2>().0) {
        for (sums, &value) in sums.iter_mut().zip(values) {
            let value = simd.splat_f32s(value);
            sums[0] = simd.mul_add_f32s(value, weights[0], sums[0]);
            sums[1] = simd.mul_add_f32s(value, weights[1], sums[1]);
        }
    }
    sums
}

/// `packed` becomes some columns of `input`; rows that fill up the last group are any.
fn pack(input: View<'_>, columns: Range<usize>, packed: &mut Vec<[f32; ROWS]>) {
    let depth = columns.len();
    packed.resize(input.rows().div_ceil(ROWS) * depth, [0.0; ROWS]);
    for (group, packed) in packed.chunks_exact_mut(depth).enumerate() {
        let count = ROWS.min(input.rows() - group * ROWS);
        if count == ROWS {
            let rows: [&[f32]; ROWS] =
                std::array::from_fn(|row| &input.row(group * ROWS + row)[columns.clone()]);
            for (k, to) in packed.iter_mut().enumerate() {
                *to = std::array::from_fn(|row| rows[row][k]);
            }
        } else {
            for row in 0..count {
                let values = &input.row(group * ROWS + row)[columns.clone()];
                packed.iter_mut().zip(values).for_each(|(to, value)| to[row] = *value);
            }
        }
    }
}
