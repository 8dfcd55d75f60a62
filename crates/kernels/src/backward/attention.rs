//! Scaled dot-product attention of all heads and rows of a batch, with its probabilities kept for the backward pass.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::norm::dot;
use crate::attention::{hide_far, softmax};
use crate::matrix::Matrix;
use crate::panels::{NO_TOKEN, Panels, padded, panel_width};
use crate::product::{Left, Start, product};

/// A row of tokens in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where its keys and values lie.
    pub tokens: Range<usize>,
    /// Where its queries lie among all queries.
    pub queries: Range<usize>,
    /// Where each query lies in the row, `[queries]`.
    pub positions: Vec<u16>,
}

/// How attention is divided and what it is kept from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads, whose columns lie side by side.
    pub count: usize,
    /// How far a query sees to each side, tokens; without it, the whole row.
    pub reach: Option<usize>,
}

/// Writes what the probabilities `[queries, tokens]` of a row and a head, which come first, are multiplied with: 0 where
/// one is dropped.
pub type DropFactors<'a> = &'a dyn Fn(usize, usize, &mut Matrix);

/// What the backward pass of attention needs, and memory for both passes.
#[derive(Clone, Debug, Default)]
pub struct AttentionTape {
    /// Of each row and head, `[queries, tokens]`.
    probabilities: Vec<Matrix>,
    /// The same after dropout; nothing where nothing is dropped.
    dropped: Vec<Matrix>,
    left: Panels,
    right: Panels,
    scores: Matrix,
    result: Matrix,
}

impl AttentionTape {
    /// `context` becomes what the queries attend to, `[queries, heads · head_size]`.
    ///
    /// `query` is `[queries, heads · head_size]`; `key_value`, `[tokens, 2 · heads · head_size]`, holds the keys and, right
    /// of them, the values. Without `factors` nothing is dropped.
    pub fn forward(
        &mut self,
        (query, key_value): (&Matrix, &Matrix),
        spans: &[Span],
        heads: Heads,
        factors: Option<DropFactors<'_>>,
        context: &mut Matrix,
    ) {
        context.reshape(query.rows(), query.width());
        self.make_room(spans.len() * heads.count, factors.is_some());
        let Self { probabilities, dropped, left: keys, right: values, result, .. } = self;
        for (index, (span, head)) in every(spans, heads.count).enumerate() {
            let columns = Columns::of(query, heads.count, head);
            let (token, queries) = (span.tokens.clone(), span.queries.clone());
            keys.pack_columns(columns.size, rows(key_value, &token, &columns.keys));
            values.pack_rows(columns.size, rows(key_value, &token, &columns.values));
            let probabilities = &mut probabilities[index];
            probabilities.reshape(queries.len(), token.len().next_multiple_of(panel_width()));
            let start = padded(&vec![0.0; token.len()], NO_TOKEN, panel_width());
            let input = query.view(queries.clone(), columns.query.clone());
            product(Left::Rows(input), keys.all(), Start::Bias(&start), &mut probabilities.view_mut(0, 0));
            hide(probabilities, span, heads.reach);
            Arch::new().dispatch(Softmax { scores: probabilities, scale: columns.scale });
            let shares = match factors {
                Some(factors) => {
                    let dropped = &mut dropped[index];
                    dropped.reshape(queries.len(), token.len());
                    factors(index / heads.count, head, dropped);
                    dropped.multiply(probabilities);
                    &*dropped
                }
                None => &*probabilities,
            };
            result.reshape(queries.len(), columns.size);
            let shares = shares.view(0..queries.len(), 0..token.len());
            product(Left::Rows(shares), values.all(), Start::Zero, &mut result.view_mut(0, 0));
            place(result, context, queries.start, &columns.query);
        }
    }

    /// `d_query` and `d_key_value` become the gradients of what [`AttentionTape::forward`] was given last.
    pub fn backward(
        &mut self,
        (query, key_value): (&Matrix, &Matrix),
        spans: &[Span],
        heads: Heads,
        d_context: &Matrix,
        (d_query, d_key_value): (&mut Matrix, &mut Matrix),
    ) {
        d_query.reshape(query.rows(), query.width());
        d_key_value.reshape(key_value.rows(), key_value.width());
        let Self { probabilities, dropped, left, right, scores, result } = self;
        for (index, (span, head)) in every(spans, heads.count).enumerate() {
            let columns = Columns::of(query, heads.count, head);
            let (token, queries) = (span.tokens.clone(), span.queries.clone());
            let probabilities = &probabilities[index];
            let shares = dropped.get(index).unwrap_or(probabilities);
            let seen = shares.view(0..queries.len(), 0..token.len());

            right.pack_rows(columns.size, rows(d_context, &queries, &columns.query));
            result.reshape(token.len(), columns.size);
            product(Left::Columns(seen), right.all(), Start::Zero, &mut result.view_mut(0, 0));
            place(result, d_key_value, token.start, &columns.values);

            left.pack_columns(columns.size, rows(key_value, &token, &columns.values));
            scores.reshape(queries.len(), token.len());
            let input = d_context.view(queries.clone(), columns.query.clone());
            product(Left::Rows(input), left.all(), Start::Zero, &mut scores.view_mut(0, 0));
            for row in 0..queries.len() {
                Arch::new().dispatch(SoftmaxBackward {
                    probabilities: probabilities.row(row),
                    shares: seen.row(row),
                    scores: scores.row_mut(row),
                    scale: columns.scale,
                });
            }

            right.pack_rows(columns.size, rows(key_value, &token, &columns.keys));
            result.reshape(queries.len(), columns.size);
            product(Left::Rows(scores.all()), right.all(), Start::Zero, &mut result.view_mut(0, 0));
            place(result, d_query, queries.start, &columns.query);

            right.pack_rows(columns.size, rows(query, &queries, &columns.query));
            result.reshape(token.len(), columns.size);
            product(Left::Columns(scores.all()), right.all(), Start::Zero, &mut result.view_mut(0, 0));
            place(result, d_key_value, token.start, &columns.keys);
        }
    }

    fn make_room(&mut self, matrices: usize, drops: bool) {
        let most = self.probabilities.len().max(matrices);
        self.probabilities.resize_with(most, Matrix::default);
        self.dropped.resize_with(if drops { most } else { 0 }, Matrix::default);
    }
}

/// Where a head lies.
struct Columns {
    size: usize,
    scale: f32,
    query: Range<usize>,
    keys: Range<usize>,
    values: Range<usize>,
}

impl Columns {
    fn of(query: &Matrix, heads: usize, head: usize) -> Self {
        let size = query.width() / heads;
        let at = |head: usize| head * size..(head + 1) * size;
        let scale = (size as f32).powf(-0.5);
        Self { size, scale, query: at(head), keys: at(head), values: at(heads + head) }
    }
}

fn every(spans: &[Span], heads: usize) -> impl Iterator<Item = (&Span, usize)> {
    spans.iter().flat_map(move |span| (0..heads).map(move |head| (span, head)))
}

fn rows<'a>(
    of: &'a Matrix,
    rows: &Range<usize>,
    columns: &Range<usize>,
) -> impl ExactSizeIterator<Item = &'a [f32]> {
    let view = of.view(rows.clone(), columns.clone());
    (0..view.rows()).map(move |row| view.row(row))
}

fn place(from: &Matrix, to: &mut Matrix, first: usize, columns: &Range<usize>) {
    for row in 0..from.rows() {
        to.row_mut(first + row)[columns.clone()].copy_from_slice(from.row(row));
    }
}

/// Takes out what the queries of a row are too far away from.
fn hide(scores: &mut Matrix, span: &Span, reach: Option<usize>) {
    let Some(reach) = reach.filter(|&reach| span.tokens.len() > reach + 1) else { return };
    for (row, &position) in span.positions.iter().enumerate() {
        hide_far(&mut scores.row_mut(row)[..span.tokens.len()], usize::from(position), reach);
    }
}

struct Softmax<'a> {
    scores: &'a mut Matrix,
    scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in 0..self.scores.rows() {
            softmax(simd, self.scores.row_mut(row), self.scale);
        }
    }
}

/// Turns the gradient g of the shares s into that of the scores before scaling, (s·g − p·Σ s·g)·scale: of the
/// probabilities p the shares are what dropout leaves.
struct SoftmaxBackward<'a> {
    probabilities: &'a [f32],
    shares: &'a [f32],
    scores: &'a mut [f32],
    scale: f32,
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mean = dot(simd, self.shares, self.scores);
        let pairs = self.scores.iter_mut().zip(self.shares.iter().zip(self.probabilities));
        pairs.for_each(|(g, (s, p))| *g = (s * *g - p * mean) * self.scale);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::softmax;
    use burn::tensor::{Int, Tensor};

    use super::*;
    use crate::backward::tests::{assert_close, draw, tracked};
    use crate::matrix::tests::matrix;

    /// Lengths of the rows, and which of their tokens ask.
    const ROWS: [(usize, &[usize]); 3] = [(5, &[0, 1, 2, 3, 4]), (1, &[0]), (37, &[3, 30])];

    fn spans() -> Vec<Span> {
        let (mut tokens, mut queries) = (0, 0);
        let mut next = |(length, asked): (usize, &[usize])| {
            (tokens, queries) = (tokens + length, queries + asked.len());
            Span {
                tokens: tokens - length..tokens,
                queries: queries - asked.len()..queries,
                positions: asked.iter().map(|&position| position as u16).collect(),
            }
        };
        ROWS.map(&mut next).to_vec()
    }

    /// 0 where a query of the row sees, and −10⁹ elsewhere: `[queries, tokens]`.
    fn shade(span: &Span, reach: Option<usize>) -> Tensor<2> {
        let seen =
            |query: u16, token: usize| reach.is_none_or(|reach| usize::from(query).abs_diff(token) <= reach);
        let cell = |(query, token)| if seen(query, token) { 0.0 } else { -1e9 };
        let cells =
            span.positions.iter().flat_map(|&query| (0..span.tokens.len()).map(move |token| (query, token)));
        tracked(&cells.map(cell).collect::<Vec<_>>(), [span.positions.len(), span.tokens.len()])
    }

    /// Drops a quarter of the probabilities.
    fn factors(span: usize, head: usize, to: &mut Matrix) {
        let dropped = |row: usize, column: usize| (7 * span + 5 * head + 3 * row + column).is_multiple_of(4);
        for row in 0..to.rows() {
            let values = to.row_mut(row).iter_mut().enumerate();
            values.for_each(|(column, value)| *value = if dropped(row, column) { 0.0 } else { 4.0 / 3.0 });
        }
    }

    fn plain(
        query: &Tensor<2>,
        key_value: &Tensor<2>,
        heads: Heads,
        size: usize,
        drops: Option<DropFactors<'_>>,
    ) -> Tensor<2> {
        let of_head = |index: usize, span: &Span, head: usize| {
            let part = |of: &Tensor<2>, rows: &Range<usize>, column: usize| {
                of.clone().narrow(0, rows.start, rows.len()).narrow(1, column * size, size)
            };
            let keys = part(key_value, &span.tokens, head);
            let scores = part(query, &span.queries, head).matmul(keys.transpose());
            let scores = scores / (size as f64).sqrt() + shade(span, heads.reach);
            let mut shares = softmax(scores, 1);
            if let Some(factors) = drops {
                let shape = shares.dims();
                let mut mask = Matrix::default();
                mask.reshape(shape[0], shape[1]);
                factors(index, head, &mut mask);
                shares = shares * Tensor::from_inner(tracked(&mask.to_vec(), shape).inner());
            }
            shares.matmul(part(key_value, &span.tokens, heads.count + head))
        };
        let row = |(index, span): (usize, &Span)| {
            Tensor::cat((0..heads.count).map(|head| of_head(index, span, head)).collect(), 1)
        };
        Tensor::cat(spans().iter().enumerate().map(row).collect(), 0)
    }

    #[test]
    fn equals_automatic_differentiation() {
        let shapes = [(1, 3, None), (3, 20, None), (2, 64, None), (3, 20, Some(2)), (1, 8, Some(0))];
        // In the memory of the pass before, which may have dropped something.
        let mut tape = AttentionTape::default();
        for (count, size, reach) in shapes {
            for drops in [Some(&factors as DropFactors<'_>), None] {
                check(&mut tape, size, Heads { count, reach }, drops);
            }
        }
    }

    fn check(tape: &mut AttentionTape, size: usize, heads: Heads, drops: Option<DropFactors<'_>>) {
        let width = heads.count * size;
        let asked: Vec<i32> = vec![0, 1, 2, 3, 4, 5, 9, 36];
        let x = draw(43 * width, "x");
        let all = tracked(&x, [43, width]);
        let index = Tensor::<1, Int>::from_ints(asked.as_slice(), &all.device());
        let query = Tensor::from_inner(all.clone().inner().select(0, index)).require_grad();
        let key_value = tracked(&draw(43 * 2 * width, "kv"), [43, 2 * width]);
        let seed = draw(8 * width, "seed");
        let output = plain(&query, &key_value, heads, size, drops);
        let backward = (output.clone() * tracked(&seed, [8, width])).sum().backward();

        let read = |tensor: &Tensor<2>| {
            let [_, width] = tensor.dims();
            matrix(&tensor.clone().inner().try_into_vec_as::<f32>().expect("f32"), width)
        };
        let (q, kv) = (read(&query), read(&key_value));
        let (mut context, mut d_query, mut d_key_value) = <(Matrix, Matrix, Matrix)>::default();
        tape.forward((&q, &kv), &spans(), heads, drops, &mut context);
        let d_context = matrix(&seed, width);
        tape.backward((&q, &kv), &spans(), heads, &d_context, (&mut d_query, &mut d_key_value));
        assert_close(&context.to_vec(), output.inner());
        assert_close(&d_query.to_vec(), query.grad(&backward).expect("tracked"));
        assert_close(&d_key_value.to_vec(), key_value.grad(&backward).expect("tracked"));
    }
}
