//! The product by VDPBF16PS, with the loops of the one in f32.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_slli_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::array::from_fn;
use std::cell::RefCell;
use std::ops::Range;

use pulp::bytemuck::{cast, cast_slice};

use super::{Block, Pair, WIDTH, has_bf16_products, pairs};
use crate::matrix::{View, ViewMut};
use crate::prefetch::{Cache, portions, prefetch};
use crate::product::{Left, Start};

/// Rows that are multiplied at once. Their sums fill 16 of the 32 vector registers: this instruction takes longer than a
/// multiply-add, whose latency 12 sums hide, and with six rows it does 0.87 times as much.
const ROWS: usize = 8;

/// Pairs of a column that are multiplied at once: that much of a panel is 32 KiB.
const DEPTH: usize = 256;

/// Pairs whose instructions stand one after the other.
const STEPS: usize = 4;

/// Values that are rounded at once.
const ROUNDED: usize = 16;

/// That many pairs of each row of a group.
type Steps = [[Pair; STEPS]; ROWS];

thread_local! {
    /// The input, rounded: chunk after chunk of the depth, groups of `ROWS` rows.
    static PACKED: RefCell<Vec<Steps>> = const { RefCell::new(Vec::new()) };
}

/// As [`Block::multiply`].
///
/// # Panics
///
/// If the processor has no such instruction.
pub(super) fn multiply(input: Left<'_>, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    assert!(has_bf16_products(), "AVX512_BF16");
    #[expect(
        unsafe_code,
        reason = "functions that are compiled for a feature are entered where it is known to be there"
    )]
    // SAFETY: the assertion above.
    unsafe {
        multiply_with_vectors(input, block, start, output);
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_with_vectors(input: Left<'_>, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    let (depth, groups) = (pairs(block.depth), input.rows().div_ceil(ROWS));
    let mut packed = PACKED.take();
    packed.resize(groups * depth / STEPS, [[0; STEPS]; ROWS]);
    let chunks = || (0..depth.max(1)).step_by(DEPTH).map(|from| from..depth.min(from + DEPTH));
    for chunk in chunks() {
        let place = groups * chunk.start / STEPS..groups * chunk.end / STEPS;
        match input {
            Left::Rows(view) => pack_rows(view, chunk, &mut packed[place]),
            Left::Columns(view) => pack_columns(view, chunk, &mut packed[place]),
        }
    }
    let product = Packed { input: &packed, rows: input.rows(), block, start };
    // What is larger, the input or the output, is passed over once.
    if block.panels * WIDTH > block.depth {
        for panel in 0..block.panels {
            for chunk in chunks() {
                product.panel(panel, chunk, output);
            }
        }
    } else {
        for chunk in chunks() {
            for panel in 0..block.panels {
                product.panel(panel, chunk.clone(), output);
            }
        }
    }
    PACKED.set(packed);
}

/// Rounds a chunk of the depth; what fills up the last group is any.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pack_rows(input: View<'_>, chunk: Range<usize>, packed: &mut [Steps]) {
    let steps = chunk.len() / STEPS;
    for index in 0..input.rows() {
        let values = input.row(index);
        let values = &values[2 * chunk.start..values.len().min(2 * chunk.end)];
        let packed = packed[index / ROWS * steps..][..steps].chunks_mut(ROUNDED / 2 / STEPS);
        for (steps, values) in packed.zip(values.chunks(ROUNDED)) {
            for (step, pairs) in steps.iter_mut().zip(round(values)) {
                step[index % ROWS] = pairs;
            }
        }
    }
}

/// As [`pack_rows`], where columns of the input are multiplied, two of whose rows make up a row of pairs.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pack_columns(input: View<'_>, chunk: Range<usize>, packed: &mut [Steps]) {
    let (steps, groups) = (chunk.len() / STEPS, input.width().div_ceil(ROWS));
    let row = |k: usize| if k < input.rows() { input.row(k) } else { &[] };
    for step in 0..steps {
        let first = 2 * (chunk.start + step * STEPS);
        let rows: [[&[f32]; 2]; STEPS] = from_fn(|pair| from_fn(|half| row(first + 2 * pair + half)));
        for group in (0..groups).step_by(ROUNDED / ROWS) {
            let columns = transposed(rows.map(|rows| zipped(rows, group * ROWS)));
            for (index, columns) in columns.into_iter().enumerate().take(groups - group) {
                packed[(group + index) * steps + step] = columns;
            }
        }
    }
}

/// Rounds up to 16 values of two rows each, from a column on.
#[target_feature(enable = "avx512f,avx512bf16")]
fn zipped(rows: [&[f32]; 2], column: usize) -> __m512i {
    let [first, second] = rows.map(|row| {
        let values = &row[column.min(row.len())..row.len().min(column + ROUNDED)];
        _mm512_cvtepu16_epi32(cast(round(values)))
    });
    _mm512_or_si512(first, _mm512_slli_epi32::<16>(second))
}

/// The pairs of 16 columns, column by column.
#[target_feature(enable = "avx512f,avx512bf16")]
fn transposed(rows: [__m512i; STEPS]) -> [[[Pair; STEPS]; ROWS]; ROUNDED / ROWS] {
    let [a, b, c, d] = rows;
    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low_end, high_end) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    // Column 4q + r is quarter q of the r-th vector.
    let quarters: [[[Pair; STEPS]; 4]; 4] = cast([
        _mm512_unpacklo_epi64(low, low_end),
        _mm512_unpackhi_epi64(low, low_end),
        _mm512_unpacklo_epi64(high, high_end),
        _mm512_unpackhi_epi64(high, high_end),
    ]);
    from_fn(|group| from_fn(|index| quarters[index % 4][(group * ROWS + index) / 4]))
}

/// Up to 16 values, filled up with zeros.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(values: &[f32]) -> [[Pair; STEPS]; ROUNDED / 2 / STEPS] {
    let whole = <[f32; ROUNDED]>::try_from(values).unwrap_or_else(|_| {
        let mut filled = [0.0; ROUNDED];
        filled[..values.len()].copy_from_slice(values);
        filled
    });
    cast(_mm512_cvtneps_pbh(cast(whole)))
}

/// A product whose input is packed.
struct Packed<'a> {
    input: &'a [Steps],
    rows: usize,
    block: Block<'a>,
    start: Start<'a>,
}

impl Packed<'_> {
    /// Adds a chunk of the depth to the columns of a panel; the first chunk sets them. What comes next is fetched meanwhile.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn panel(&self, index: usize, chunk: Range<usize>, output: &mut ViewMut<'_>) {
        let (groups, steps) = (self.rows.div_ceil(ROWS), chunk.len() / STEPS);
        let (panel, later) = self.block.rows_from(index, chunk.start).split_at(chunk.len());
        let mut later = portions(cast_slice(later), panel.len() * WIDTH, groups);
        let start = if chunk.start == 0 { self.start } else { Start::Stored };
        let first_sum: [__m512; 2] = cast(match start {
            Start::Bias(bias) => bias.as_chunks().0[index],
            Start::Zero | Start::Stored => [0.0; WIDTH],
        });
        let input = &self.input[groups * chunk.start / STEPS..];
        for group in 0..groups {
            let places = group * ROWS..self.rows.min(group * ROWS + ROWS);
            for row in places.clone() {
                prefetch(output.at(row, index * WIDTH, WIDTH), Cache::First);
            }
            prefetch(later.next().unwrap_or_default(), Cache::Second);
            let sums = accumulate(&input[group * steps..][..steps], panel, [first_sum; ROWS]);
            for (row, sums) in places.zip(sums) {
                store(sums, matches!(start, Start::Stored), output.at(row, index * WIDTH, WIDTH));
            }
        }
    }
}

/// Adds the products of a group of rows and a panel.
#[target_feature(enable = "avx512f,avx512bf16")]
fn accumulate(rows: &[Steps], panel: &[[Pair; WIDTH]], mut sums: [[__m512; 2]; ROWS]) -> [[__m512; 2]; ROWS] {
    for (rows, weights) in rows.iter().zip(panel.as_chunks::<STEPS>().0) {
        for (step, weights) in weights.iter().enumerate() {
            let weights: [__m512bh; 2] = cast(*weights);
            for (sums, values) in sums.iter_mut().zip(rows) {
                let pair: __m512bh = cast(_mm512_set1_epi32(values[step] as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], pair, weights[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], pair, weights[1]);
            }
        }
    }
    sums
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn store(sums: [__m512; 2], add: bool, to: &mut [f32]) {
    for (to, sum) in to.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
        *to = cast(if add { _mm512_add_ps(cast(*to), sum) } else { sum });
    }
}
