//! The matrix product: a few rows times a panel, held in registers.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::matrix::{View, ViewMut};
use crate::panels::Block;

/// Rows that are multiplied at once. With two vectors of columns their sums fill 12 of the 16 vector registers of AVX2,
/// enough to hide the latency of the multiply-add.
pub(crate) const ROWS: usize = 6;

/// Depth that is multiplied at once: with AVX2 that much of a panel is 16 KiB and stays in the first-level cache while all
/// rows pass by, and 256 rows of the input are 256 KiB and stay in the second-level one while all panels do.
const DEPTH: usize = 256;

thread_local! {
    /// The input, so that it is read in one stream: chunk after chunk of the depth, groups of `ROWS` rows, side by side in
    /// the depth.
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
    fn pack(&self, depth: Range<usize>, packed: &mut [[f32; ROWS]]);
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
/// Each sum runs over the depth in order, chunk by chunk, so a row's result depends on nothing but the row.
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
    let groups = input.rows().div_ceil(ROWS);
    packed.resize(groups * block.depth, [0.0; ROWS]);
    let chunks = || (0..block.depth.max(1)).step_by(DEPTH).map(|from| from..block.depth.min(from + DEPTH));
    for chunk in chunks() {
        input.pack(chunk.clone(), &mut packed[groups * chunk.start..groups * chunk.end]);
    }
    let product = Packed { input: &packed, rows: input.rows(), block, start };
    // What is larger, the input or the output, is passed over once. Loops, because what a closure calls is not compiled
    // for the vector unit.
    if block.panels * 2 * S::F32_LANES > block.depth {
        for panel in 0..block.panels {
            for chunk in chunks() {
                product.panel(simd, panel, chunk, output);
            }
        }
    } else {
        for chunk in chunks() {
            for panel in 0..block.panels {
                product.panel(simd, panel, chunk.clone(), output);
            }
        }
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

/// A product whose input is packed.
struct Packed<'a> {
    input: &'a [[f32; ROWS]],
    rows: usize,
    block: Block<'a>,
    start: Start<'a>,
}

impl Packed<'_> {
    /// Adds a chunk of the depth to the columns of a panel; the first chunk sets them.
    #[inline(always)]
    fn panel<S: Simd>(&self, simd: S, index: usize, chunk: Range<usize>, output: &mut ViewMut<'_>) {
        let (width, groups) = (2 * S::F32_LANES, self.rows.div_ceil(ROWS));
        let panel = &self.block.weights[index * self.block.depth * width..];
        let panel = S::as_simd_f32s(&panel[chunk.start * width..chunk.end * width]).0;
        let start = if chunk.start == 0 { self.start } else { Start::Stored };
        let zero = simd.splat_f32s(0.0);
        let first_sum = match start {
            Start::Bias(bias) => {
                let bias = S::as_simd_f32s(&bias[index * width..][..width]).0;
                [bias[0], bias[1]]
            }
            Start::Zero | Start::Stored => [zero, zero],
        };
        let input = &self.input[groups * chunk.start..];
        for group in 0..groups {
            let rows = &input[group * chunk.len()..][..chunk.len()];
            let sums = accumulate(simd, rows, panel, [first_sum; ROWS]);
            for (row, sums) in (group * ROWS..self.rows).zip(sums) {
                let stored = S::as_mut_simd_f32s(output.at(row, index * width, width)).0;
                // Added last: until then what is stored may come from a far cache.
                let more = matches!(start, Start::Stored);
                for (stored, sum) in stored.iter_mut().zip(sums) {
                    *stored = if more { simd.add_f32s(*stored, sum) } else { sum };
                }
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

    fn pack(&self, columns: Range<usize>, packed: &mut [[f32; ROWS]]) {
        let depth = columns.len();
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

    fn pack(&self, rows: Range<usize>, packed: &mut [[f32; ROWS]]) {
        let depth = rows.len();
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
