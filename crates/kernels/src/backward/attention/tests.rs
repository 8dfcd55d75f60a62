use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::*;
use crate::backward::tests::{assert_close, draw, tracked};
use crate::matrix::tests::matrix;

/// Rows by their length and which of their tokens ask.
fn spans(rows: &[(usize, Vec<u16>)]) -> Vec<Span> {
    let (mut tokens, mut queries) = (0, 0);
    let next = |(length, positions): &(usize, Vec<u16>)| {
        (tokens, queries) = (tokens + length, queries + positions.len());
        Span {
            tokens: tokens - length..tokens,
            queries: queries - positions.len()..queries,
            positions: positions.clone(),
        }
    };
    rows.iter().map(next).collect()
}

fn short() -> Vec<Span> {
    spans(&[(5, (0..5).collect()), (1, vec![0]), (37, vec![3, 30])])
}

/// Some longer than a tile, asked by all, by some in any order, and by none.
fn long() -> Vec<Span> {
    spans(&[
        (301, (0..301).collect()),
        (3, (0..3).collect()),
        (140, (0..140).collect()),
        (257, vec![256, 2, 130, 131, 7]),
        (150, vec![]),
    ])
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

/// Drops a quarter of the probabilities, the same ones in whatever tiles.
fn factors(span: usize, head: usize, tile: &Tile, to: &mut Matrix) {
    let (first, start) = (tile.queries.start, tile.tokens.start);
    let dropped = |row: usize, column: usize| (7 * span + 5 * head + 3 * row + column).is_multiple_of(4);
    for row in 0..to.rows() {
        let values = to.row_mut(row).iter_mut().enumerate();
        values.for_each(|(column, value)| {
            *value = if dropped(first + row, start + column) { 0.0 } else { 4.0 / 3.0 };
        });
    }
}

struct Case {
    spans: Vec<Span>,
    heads: Heads,
    size: usize,
    drops: Option<DropFactors<'static>>,
}

/// Context, and the gradients of queries, keys and values.
type Found = [Matrix; 3];

impl Case {
    fn new(spans: Vec<Span>, (count, size, reach): (usize, usize, Option<usize>)) -> Self {
        Self { spans, heads: Heads { count, reach }, size, drops: None }
    }

    fn width(&self) -> usize {
        self.heads.count * self.size
    }

    /// Queries, keys with values, and the gradient of the context.
    fn drawn(&self) -> [Matrix; 3] {
        let (width, last) = (self.width(), self.spans.last().expect("rows"));
        let draw = |rows: usize, width: usize, of: &str| matrix(&draw(rows * width, of), width);
        let (tokens, queries) = (last.tokens.end, last.queries.end);
        [draw(queries, width, "q"), draw(tokens, 2 * width, "kv"), draw(queries, width, "seed")]
    }

    fn pass(&self, tape: &mut AttentionTape, [query, key_value, d_context]: &[Matrix; 3]) -> Found {
        let (mut context, mut d_query, mut d_key_value) = <(Matrix, Matrix, Matrix)>::default();
        let of = (query, key_value);
        tape.forward(of, &self.spans, self.heads, self.drops, &mut context);
        tape.backward(of, &self.spans, self.heads, d_context, (&mut d_query, &mut d_key_value));
        [context, d_query, d_key_value]
    }

    fn plain(&self, query: &Tensor<2>, key_value: &Tensor<2>) -> Tensor<2> {
        let row = |(index, span): (usize, &Span)| {
            let heads =
                (0..self.heads.count).map(|head| self.plain_head(query, key_value, (index, span), head));
            Tensor::cat(heads.collect(), 1)
        };
        let asked = self.spans.iter().enumerate().filter(|(_, span)| !span.positions.is_empty());
        Tensor::cat(asked.map(row).collect(), 0)
    }

    fn plain_head(
        &self,
        query: &Tensor<2>,
        key_value: &Tensor<2>,
        (index, span): (usize, &Span),
        head: usize,
    ) -> Tensor<2> {
        let part = |of: &Tensor<2>, rows: &Range<usize>, column: usize| {
            of.clone().narrow(0, rows.start, rows.len()).narrow(1, column * self.size, self.size)
        };
        let keys = part(key_value, &span.tokens, head);
        let scores = part(query, &span.queries, head).matmul(keys.transpose());
        let scores = scores / (self.size as f64).sqrt() + shade(span, self.heads.reach);
        let mut shares = softmax(scores, 1);
        if let Some(factors) = self.drops {
            let shape = shares.dims();
            let mut mask = Matrix::default();
            mask.reshape(shape[0], shape[1]);
            factors(index, head, &Tile { queries: 0..shape[0], tokens: 0..shape[1] }, &mut mask);
            shares = shares * Tensor::from_inner(tracked(&mask.to_vec(), shape).inner());
        }
        shares.matmul(part(key_value, &span.tokens, self.heads.count + head))
    }

    fn check(&self, tape: &mut AttentionTape) {
        let drawn = self.drawn();
        let tensor = |of: &Matrix| tracked(&of.to_vec(), [of.rows(), of.width()]);
        let [query, key_value, seed] = drawn.each_ref().map(tensor);
        let output = self.plain(&query, &key_value);
        let backward = (output.clone() * seed).sum().backward();
        let [context, d_query, d_key_value] = self.pass(tape, &drawn);
        assert_close(&context.to_vec(), output.inner());
        assert_close(&d_query.to_vec(), query.grad(&backward).expect("tracked"));
        assert_close(&d_key_value.to_vec(), key_value.grad(&backward).expect("tracked"));
    }
}

#[test]
fn equals_automatic_differentiation() {
    let whole = [(1, 3, None), (3, 20, None), (2, 64, None)].map(|shape| (short(), shape));
    let near = [(3, 20, Some(2)), (1, 8, Some(0))].map(|shape| (short(), shape));
    let reaches = [None, Some(0), Some(1), Some(2), Some(64), Some(139), Some(256), Some(300)];
    let far = reaches.map(|reach| (long(), (2, 20, reach)));
    // In the memory of the pass before, which may have dropped something.
    let mut tape = AttentionTape::default();
    for (spans, shape) in whole.into_iter().chain(near).chain(far) {
        let mut case = Case::new(spans, shape);
        for drops in [Some(&factors as DropFactors<'_>), None] {
            case.drops = drops;
            case.check(&mut tape);
        }
    }
}

#[test]
fn a_window_over_the_whole_row_changes_no_bit() {
    let found = |reach| {
        let case = Case::new(long(), (2, 12, reach));
        case.pass(&mut AttentionTape::default(), &case.drawn()).map(|of| of.to_vec())
    };
    assert!(found(Some(300)) == found(None));
}

#[test]
fn a_query_alone_gives_the_same_bits() {
    let row = |positions: Vec<u16>| Case::new(spans(&[(301, positions)]), (1, 12, Some(20)));
    let context =
        |case: &Case, drawn: &[Matrix; 3]| case.pass(&mut AttentionTape::default(), drawn)[0].to_vec();
    let all = row((0..301).collect());
    let [query, key_value, d_context] = all.drawn();
    let together = context(&all, &[query.clone(), key_value.clone(), d_context.clone()]);
    for position in [0, 127, 128, 300] {
        let [query, d_context] = [&query, &d_context].map(|of| matrix(of.row(position), 12));
        let alone = context(&row(vec![position as u16]), &[query, key_value.clone(), d_context]);
        assert_eq!(alone, together[position * 12..][..12], "{position}");
    }
}

#[test]
fn far_tokens_are_neither_read_nor_kept() {
    let mut tape = AttentionTape::default();
    let case = Case::new(spans(&[(1_000, (0..1_000).collect())]), (1, 8, Some(5)));
    let mut drawn = case.drawn();
    let before = case.pass(&mut tape, &drawn);
    let kept: usize = tape.probabilities.iter().map(|kept| kept.rows() * kept.width()).sum();
    assert!(kept <= 1_000 * (128 + 2 * 32), "{kept}");
    (0..96).chain(288..1_000).for_each(|token| drawn[1].row_mut(token).fill(f32::NAN));
    let after = case.pass(&mut tape, &drawn);
    for position in 128..256 {
        assert_eq!(after[0].row(position), before[0].row(position));
        assert_eq!(after[1].row(position), before[1].row(position));
    }
}
