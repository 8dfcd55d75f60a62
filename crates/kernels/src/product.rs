//! The matrix product: a few rows times a panel, held in registers.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

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

/// Where the sums of a product start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    Zero,
    /// A value a column, filled up to whole panels.
    Bias(&'a [f32]),
    /// What the output holds.
    Stored,
}

/// What is multiplied from the left.
pub(crate) trait Left: Copy {
    fn rows(&self) -> usize;

    /// Values that are multiplied for each result.
    fn depth(&self) -> usize;

    /// `packed` becomes that part of the depth; rows that fill up the last group are any.
    fn pack(&self, depth: Range<usize>, packed: &mut Vec<[f32; ROWS]>);
}

/// The transpose of a view: its columns are the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transposed<'a>(pub(crate) View<'a>);

/// [`multiply`] on the widest vectors of this machine.
pub(crate) fn product<L: Left>(input: L, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    Arch::new().dispatch(Product { input, block, start, output });
}

/// Writes `input · block + start`, `[rows, columns of the block]`, to `output`.
///
/// Each sum runs over the depth in order, so a row's result depends on nothing but the row.
#[inline(always)]
pub(crate) fn multiply<S: Simd, L: Left>(
    simd: S,
    input: L,
    block: Block<'_>,
    start: Start<'_>,
    output: &mut ViewMut<'_>,
) {
    assert_eq!(input.depth(), block.depth, "as many values a row as the weights have rows");
    let mut packed = PACKED.take();
    for from in (0..block.depth.max(1)).step_by(DEPTH) {
        let chunk = from..block.depth.min(from + DEPTH);
        input.pack(chunk.clone(), &mut packed);
        let start = if from == 0 { start } else { Start::Stored };
        multiply_chunk(simd, &packed, (input.rows(), chunk), block, start, output);
    }
    PACKED.set(packed);
}

struct Product<'a, 'b, L> {
    input: L,
    block: Block<'a>,
    start: Start<'a>,
    output: &'a mut ViewMut<'b>,
}

impl<L: Left> WithSimd for Product<'_, '_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        multiply(simd, self.input, self.block, self.start, self.output);
    }
}

#[inline(always)]
fn multiply_chunk<S: Simd>(
    simd: S,
    packed: &[[f32; ROWS]],
    (rows, chunk): (usize, Range<usize>),
    block: Block<'_>,
    start: Start<'_>,
    output: &mut ViewMut<'_>,
) {
    let width = 2 * S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    for index in 0..block.panels {
        let panel = &block.weights[index * block.depth * width..][..block.depth * width];
        let panel = S::as_simd_f32s(&panel[chunk.start * width..chunk.end * width]).0;
        let first_sum = match start {
            Start::Bias(bias) => {
                let bias = S::as_simd_f32s(&bias[index * width..][..width]).0;
                [bias[0], bias[1]]
            }
            Start::Zero | Start::Stored => [zero, zero],
        };
        for group in 0..rows.div_ceil(ROWS) {
            let packed = &packed[group * chunk.len()..][..chunk.len()];
            let first = group * ROWS;
            let count = ROWS.min(rows - first);
            let mut sums = [first_sum; ROWS];
            if matches!(start, Start::Stored) {
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

impl Left for View<'_> {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn depth(&self) -> usize {
        self.width()
    }

    fn pack(&self, columns: Range<usize>, packed: &mut Vec<[f32; ROWS]>) {
        let depth = columns.len();
        packed.resize(self.rows().div_ceil(ROWS) * depth, [0.0; ROWS]);
        for group in 0..self.rows().div_ceil(ROWS) {
            let packed = &mut packed[group * depth..][..depth];
            let count = ROWS.min(self.rows() - group * ROWS);
            if count == ROWS {
                let rows: [&[f32]; ROWS] =
                    std::array::from_fn(|row| &self.row(group * ROWS + row)[columns.clone()]);
                for (k, to) in packed.iter_mut().enumerate() {
                    *to = std::array::from_fn(|row| rows[row][k]);
                }
            } else {
                for row in 0..count {
                    let values = &self.row(group * ROWS + row)[columns.clone()];
                    packed.iter_mut().zip(values).for_each(|(to, value)| to[row] = *value);
                }
            }
        }
    }
}

impl Left for Transposed<'_> {
    fn rows(&self) -> usize {
        self.0.width()
    }

    fn depth(&self) -> usize {
        self.0.rows()
    }

    fn pack(&self, rows: Range<usize>, packed: &mut Vec<[f32; ROWS]>) {
        let depth = rows.len();
        packed.resize(self.rows().div_ceil(ROWS) * depth, [0.0; ROWS]);
        for (k, row) in rows.enumerate() {
            let (groups, rest) = self.0.row(row).as_chunks::<ROWS>();
            for (group, values) in groups.iter().enumerate() {
                packed[group * depth + k] = *values;
            }
            if !rest.is_empty() {
                packed[groups.len() * depth + k][..rest.len()].copy_from_slice(rest);
            }
        }
    }
}
