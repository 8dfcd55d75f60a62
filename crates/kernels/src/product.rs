//! The matrix product: a few rows times a panel, held in registers.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::matrix::{View, ViewMut};
use crate::panels::Block;
use crate::prefetch::{Cache, portions, prefetch};

/// Rows that are multiplied at once. With two vectors of columns their sums fill 12 of the 16 vector registers of AVX2,
/// enough to hide the latency of the multiply-add. AVX-512 has 32 registers, but twice the rows are no faster there.
pub(crate) const ROWS: usize = 6;

/// Depth that is multiplied at once: with AVX2 that much of a panel is 16 KiB, with AVX-512 32 KiB, and stays in the
/// first-level cache while all rows pass by, and 256 rows of the input are 256 KiB and stay in the second-level one while
/// all panels do. Where the first-level cache has 48 KiB, half the depth is a twentieth slower.
pub(crate) const DEPTH: usize = 256;

/// Steps of the depth whose instructions stand one after the other. Counting each would be 4 of 24 instructions a step, more
/// than a core can always decode beside its multiply-adds.
const STEPS: usize = 4;

/// That many values of each row of a group.
type Steps = [[f32; STEPS]; ROWS];

thread_local! {
    /// The input, so that it is read in one stream: chunk after chunk of the depth, groups of `ROWS` rows.
    static PACKED: RefCell<Vec<Steps>> = const { RefCell::new(Vec::new()) };
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
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left<'a> {
    Rows(View<'a>),
    /// The transpose of a view: its columns are the rows.
    Columns(View<'a>),
}

/// [`multiply`] on the widest vectors of this machine.
pub(crate) fn product(input: Left<'_>, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    Arch::new().dispatch(Product { input, block, start, output });
}

/// Writes `input · block + start`, `[rows, columns of the block]`, to `output`.
///
/// Each sum runs over the depth in order, chunk by chunk, so a row's result depends on nothing but the row.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    input: Left<'_>,
    block: Block<'_>,
    start: Start<'_>,
    output: &mut ViewMut<'_>,
) {
    assert_eq!(input.depth(), block.depth, "as many values a row as the weights have rows");
    let mut packed = PACKED.take();
    let groups = input.rows().div_ceil(ROWS);
    packed.resize(groups * block.depth.div_ceil(STEPS), [[0.0; STEPS]; ROWS]);
    let chunks = || (0..block.depth.max(1)).step_by(DEPTH).map(|from| from..block.depth.min(from + DEPTH));
    for chunk in chunks() {
        let place = groups * chunk.start / STEPS..groups * chunk.end.div_ceil(STEPS);
        input.pack(chunk, &mut packed[place]);
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

struct Product<'a, 'b> {
    input: Left<'a>,
    block: Block<'a>,
    start: Start<'a>,
    output: &'a mut ViewMut<'b>,
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        multiply(simd, self.input, self.block, self.start, self.output);
    }
}

/// A product whose input is packed.
struct Packed<'a> {
    input: &'a [Steps],
    rows: usize,
    block: Block<'a>,
    start: Start<'a>,
}

impl Packed<'_> {
    /// Adds a chunk of the depth to the columns of a panel; the first chunk sets them.
    ///
    /// What comes next is fetched while a group is multiplied: its output, and, a bit with each group, the weights that
    /// follow.
    #[inline(always)]
    fn panel<S: Simd>(&self, simd: S, index: usize, chunk: Range<usize>, output: &mut ViewMut<'_>) {
        let (width, groups) = (2 * S::F32_LANES, self.rows.div_ceil(ROWS));
        let panel = &self.block.weights[index * self.block.depth * width..];
        let (panel, later) = panel[chunk.start * width..].split_at(chunk.len() * width);
        let mut later = portions(later, panel.len(), groups);
        let panel = S::as_simd_f32s(panel).0;
        let start = if chunk.start == 0 { self.start } else { Start::Stored };
        let zero = simd.splat_f32s(0.0);
        let first_sum = match start {
            Start::Bias(bias) => {
                let bias = S::as_simd_f32s(&bias[index * width..][..width]).0;
                [bias[0], bias[1]]
            }
            Start::Zero | Start::Stored => [zero, zero],
        };
        let steps = chunk.len().div_ceil(STEPS);
        let input = &self.input[groups * chunk.start / STEPS..];
        for group in 0..groups {
            let places = group * ROWS..self.rows.min(group * ROWS + ROWS);
            for row in places.clone() {
                prefetch(output.at(row, index * width, width), Cache::First);
            }
            prefetch(later.next().unwrap_or_default(), Cache::Second);
            let rows = &input[group * steps..][..steps];
            let sums = accumulate(simd, rows, panel, [first_sum; ROWS]);
            for (row, sums) in places.zip(sums) {
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
    rows: &[Steps],
    panel: &[S::f32s],
    mut sums: [[S::f32s; 2]; ROWS],
) -> [[S::f32s; 2]; ROWS] {
    let (whole, rest) = panel.as_chunks::<{ 2 * STEPS }>();
    for (rows, weights) in rows.iter().zip(whole) {
        for step in 0..STEPS {
            add_step(simd, rows, step, [weights[2 * step], weights[2 * step + 1]], &mut sums);
        }
    }
    if let Some(rows) = rows.get(whole.len()) {
        for (step, weights) in rest.as_chunks::<2>().0.iter().enumerate() {
            add_step(simd, rows, step, *weights, &mut sums);
        }
    }
    sums
}

#[inline(always)]
fn add_step<S: Simd>(
    simd: S,
    rows: &Steps,
    step: usize,
    weights: [S::f32s; 2],
    sums: &mut [[S::f32s; 2]; ROWS],
) {
    for (sums, values) in sums.iter_mut().zip(rows) {
        let value = simd.splat_f32s(values[step]);
        sums[0] = simd.mul_add_f32s(value, weights[0], sums[0]);
        sums[1] = simd.mul_add_f32s(value, weights[1], sums[1]);
    }
}

impl Left<'_> {
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Rows(view) => view.rows(),
            Self::Columns(view) => view.width(),
        }
    }

    /// Values that are multiplied for each result.
    pub(crate) fn depth(self) -> usize {
        match self {
            Self::Rows(view) => view.width(),
            Self::Columns(view) => view.rows(),
        }
    }

    /// `packed` becomes that part of the depth; what fills up the last group and the last steps is any.
    #[inline(always)]
    fn pack(self, depth: Range<usize>, packed: &mut [Steps]) {
        match self {
            Self::Rows(view) => pack_rows(view, depth, packed),
            Self::Columns(view) => pack_columns(view, depth, packed),
        }
    }
}

#[inline(always)]
fn pack_rows(input: View<'_>, columns: Range<usize>, packed: &mut [Steps]) {
    let steps = columns.len().div_ceil(STEPS);
    for index in 0..input.rows() {
        let packed = &mut packed[index / ROWS * steps..][..steps];
        let (whole, rest) = input.row(index)[columns.clone()].as_chunks::<STEPS>();
        packed.iter_mut().zip(whole).for_each(|(to, values)| to[index % ROWS] = *values);
        if !rest.is_empty() {
            packed[steps - 1][index % ROWS][..rest.len()].copy_from_slice(rest);
        }
    }
}

#[inline(always)]
fn pack_columns(input: View<'_>, rows: Range<usize>, packed: &mut [Steps]) {
    let steps = rows.len().div_ceil(STEPS);
    for step in 0..steps {
        // Behind the last row it is taken again: that part of the steps is any.
        let rows: [&[f32]; STEPS] =
            std::array::from_fn(|k| input.row((rows.start + step * STEPS + k).min(rows.end - 1)));
        let groups = rows[0].len() / ROWS;
        for group in 0..groups {
            let values = rows.map(|row| &row[group * ROWS..][..ROWS]);
            packed[group * steps + step] = std::array::from_fn(|row| std::array::from_fn(|k| values[k][row]));
        }
        for (row, column) in (groups * ROWS..rows[0].len()).enumerate() {
            packed[groups * steps + step][row] = std::array::from_fn(|k| rows[k][column]);
        }
    }
}
