//! Scaled dot-product attention (Vaswani et al., 2017, <https://arxiv.org/abs/1706.03762>).

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::exponential::{LOWEST, exp};
use crate::matrix::{Matrix, View};
use crate::panels::{NO_TOKEN, Panels, padded};
use crate::product::{DEPTH, Left, Start, multiply};

/// Attention with several heads, and what it needs in between.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    keys: Panels,
    values: Panels,
    scores: Matrix,
    context: Matrix,
}

/// The queries of one row of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// `[n, heads · head_size]` or more rows.
    pub query: &'a Matrix,
    /// Index of this row's first query in `query`.
    pub first: usize,
    /// Where each query lies in the row of tokens, `[n]`.
    pub positions: &'a [u16],
}

/// Queries whose scores are in memory at once.
const QUERIES: usize = 96;

impl Attention {
    /// Writes the context of each query to the same row of `output`.
    ///
    /// Rows `row` of `key_value`, `[tokens, 2 · heads · head_size]`, are the keys and, right of them, the values. A query
    /// sees only keys at most `reach` tokens away, if that is given.
    pub fn attend(
        &mut self,
        queries: Queries<'_>,
        key_value: &Matrix,
        row: Range<usize>,
        heads: usize,
        reach: Option<usize>,
        output: &mut Matrix,
    ) {
        let size = queries.query.width() / heads;
        let reach = reach.filter(|&reach| row.len() > reach + 1);
        for head in 0..heads {
            let columns = |of: usize| (of * heads + head) * size..(of * heads + head + 1) * size;
            let mut packed = 0..0;
            for (tile, positions) in queries.positions.chunks(QUERIES).enumerate() {
                let tokens = seen(positions, reach, row.len());
                if tokens != packed {
                    let view = |columns: Range<usize>| {
                        let view = key_value.view(row.start + tokens.start..row.start + tokens.end, columns);
                        (0..view.rows()).map(move |token| view.row(token))
                    };
                    self.keys.pack_columns(size, view(columns(0)));
                    self.values.pack_rows(size, view(columns(1)));
                    packed = tokens.clone();
                }
                let first = queries.first + tile * QUERIES;
                let query = queries.query.view(first..first + positions.len(), columns(0));
                let first_token = tokens.start;
                Arch::new().dispatch(Head { attention: self, query, positions, first_token, reach });
                for index in 0..positions.len() {
                    output.row_mut(first + index)[columns(0)].copy_from_slice(self.context.row(index));
                }
            }
        }
    }
}

/// The tokens of a row of `length` that any of `positions` sees, and some before them: from a multiple of [`DEPTH`] on, so that
/// sums are made of the same parts, and have the same bits, whichever queries are computed together.
fn seen(positions: &[u16], reach: Option<usize>, length: usize) -> Range<usize> {
    let (first, last) = (positions.iter().min(), positions.iter().max());
    let (Some(reach), Some(&first), Some(&last)) = (reach, first, last) else { return 0..length };
    let start = usize::from(first).saturating_sub(reach) / DEPTH * DEPTH;
    start..length.min(usize::from(last) + reach + 1)
}

/// One head of some queries, and the keys from `first_token` on.
struct Head<'a> {
    attention: &'a mut Attention,
    query: View<'a>,
    positions: &'a [u16],
    first_token: usize,
    reach: Option<usize>,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attention { keys, values, scores, context } = self.attention;
        let (tokens, size) = (keys.columns(), keys.depth());
        scores.reshape(self.query.rows(), tokens.next_multiple_of(2 * S::F32_LANES));
        multiply(
            simd,
            Left::Rows(self.query),
            keys.all(),
            Start::Bias(&padded(&vec![0.0; tokens], NO_TOKEN, 2 * S::F32_LANES)),
            &mut scores.view_mut(0, 0),
        );
        for (row, &position) in self.positions.iter().enumerate() {
            let scores = scores.row_mut(row);
            if let Some(reach) = self.reach {
                hide_far(&mut scores[..tokens], usize::from(position) - self.first_token, reach);
            }
            softmax(simd, scores, (size as f32).powf(-0.5));
        }
        context.reshape(self.query.rows(), size);
        let probabilities = Left::Rows(scores.view(0..self.query.rows(), 0..tokens));
        multiply(simd, probabilities, values.all(), Start::Zero, &mut context.view_mut(0, 0));
    }
}

/// Takes out what is more than `reach` tokens away from `position`.
pub(crate) fn hide_far(scores: &mut [f32], position: usize, reach: usize) {
    let end = (position + reach + 1).min(scores.len());
    scores[end..].fill(NO_TOKEN);
    scores[..position.saturating_sub(reach)].fill(NO_TOKEN);
}

/// e^(scale · (z − max z)) / Σ e^(scale · (z − max z)) of whole vectors.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(simd: S, scores: &mut [f32], scale: f32) {
    let vectors = S::as_mut_simd_f32s(scores).0;
    let mut top = simd.splat_f32s(f32::NEG_INFINITY);
    for &z in &*vectors {
        top = simd.max_f32s(top, z);
    }
    let (top, scale) = (simd.splat_f32s(simd.reduce_max_f32s(top)), simd.splat_f32s(scale));
    let mut sum = simd.splat_f32s(0.0);
    for z in vectors.iter_mut() {
        let below = simd.mul_f32s(simd.sub_f32s(*z, top), scale);
        // In this order, by which x86 keeps what is no number.
        *z = exp(simd, simd.max_f32s(simd.splat_f32s(LOWEST), below));
        sum = simd.add_f32s(sum, *z);
    }
    let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
    for z in vectors {
        *z = simd.mul_f32s(*z, share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::matrix;
    use entromask_random::{keyed, normals};

    struct Case {
        tokens: usize,
        heads: usize,
        size: usize,
        reach: Option<usize>,
        query: Vec<f32>,
        key_value: Vec<f32>,
    }

    fn case(tokens: usize, heads: usize, size: usize, reach: Option<usize>) -> Case {
        let draw = |n, purpose| normals(n, 1.0, &mut keyed(1, purpose, 0, 0));
        let width = heads * size;
        let (query, key_value) = (draw(tokens * width, "query"), draw(tokens * 2 * width, "keys"));
        Case { tokens, heads, size, reach, query, key_value }
    }

    impl Case {
        fn fused(&self, positions: &[u16]) -> Matrix {
            let width = self.heads * self.size;
            let (mut query, mut output) = (Matrix::default(), Matrix::default());
            query.gather(&matrix(&self.query, width), positions.iter().map(|&p| usize::from(p)));
            output.reshape(positions.len(), width);
            let queries = Queries { query: &query, first: 0, positions };
            let keys = matrix(&self.key_value, 2 * width);
            Attention::default().attend(queries, &keys, 0..self.tokens, self.heads, self.reach, &mut output);
            output
        }

        /// One value of the context in f64, by the formula.
        fn plain(&self, position: usize, head: usize, column: usize) -> f64 {
            let width = self.heads * self.size;
            let at = |values: &[f32], index: usize| f64::from(values[index]);
            let seen =
                (0..self.tokens).filter(|t| self.reach.is_none_or(|reach| t.abs_diff(position) <= reach));
            let score = |token: usize| {
                let k = |d: usize| {
                    at(&self.query, position * width + head * self.size + d)
                        * at(&self.key_value, token * 2 * width + head * self.size + d)
                };
                ((0..self.size).map(k).sum::<f64>() / (self.size as f64).sqrt()).exp()
            };
            let shares: Vec<(usize, f64)> = seen.map(|token| (token, score(token))).collect();
            let value =
                |token: usize| at(&self.key_value, token * 2 * width + width + head * self.size + column);
            shares.iter().map(|&(token, share)| share * value(token)).sum::<f64>()
                / shares.iter().map(|(_, share)| share).sum::<f64>()
        }
    }

    #[test]
    fn equals_the_formula() {
        for case in [
            case(1, 1, 1, None),
            case(20, 3, 5, None),
            case(130, 2, 64, None),
            case(40, 2, 20, Some(4)),
            case(600, 1, 8, Some(4)),
        ] {
            let positions: Vec<u16> = (0..case.tokens as u16).rev().collect();
            let found = case.fused(&positions);
            for (row, &position) in positions.iter().enumerate() {
                for (index, &found) in found.row(row).iter().enumerate() {
                    let expected = case.plain(usize::from(position), index / case.size, index % case.size);
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-5,
                        "{position} {index}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_query_alone_gives_the_same_bits() {
        for (tokens, reach) in [(50, Some(7)), (700, Some(20)), (700, Some(300)), (300, None)] {
            let case = case(tokens, 2, 12, reach);
            let together = case.fused(&(0..tokens as u16).collect::<Vec<_>>());
            for position in [0, 13, 49, tokens - 1].map(|position| position as u16) {
                assert_eq!(case.fused(&[position]).row(0), together.row(usize::from(position)));
            }
            let both_ends = [0, tokens as u16 - 1];
            assert_eq!(case.fused(&both_ends).row(1), together.row(tokens - 1), "{tokens} {reach:?}");
        }
    }

    #[test]
    fn far_tokens_are_not_read() {
        let (mut case, position) = (case(1_000, 1, 8, Some(5)), 600);
        let before = case.fused(&[position]);
        for token in (0..512).chain(606..1_000) {
            case.key_value[token * 16..(token + 1) * 16].fill(f32::NAN);
        }
        assert_eq!(case.fused(&[position]).row(0), before.row(0));
    }
}
