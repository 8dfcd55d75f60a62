//! Scaled dot-product attention of all heads and rows of a batch, with its probabilities kept for the backward pass.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::norm::dot;
use super::tile::{Heads, Span, Tile};
use crate::attention::{hide_far, softmax};
use crate::matrix::{Matrix, View};
use crate::panels::{Block, NO_TOKEN, Panels, padded, panel_width};
use crate::product::{Left, Start, product};

/// Writes what the probabilities `[queries, tokens]` of a tile of a row and a head, which come first, are multiplied with: 0
/// where one is dropped.
pub type DropFactors<'a> = &'a dyn Fn(usize, usize, &Tile, &mut Matrix);

/// What the backward pass of attention needs, and memory for both passes.
#[derive(Clone, Debug, Default)]
pub struct AttentionTape {
    /// Of each row, head and tile, `[queries, tokens]`.
    probabilities: Vec<Matrix>,
    /// The same after dropout; nothing where nothing is dropped.
    dropped: Vec<Matrix>,
    left: Panels,
    right: Panels,
    scores: Matrix,
    result: Matrix,
    d_keys: Matrix,
    d_values: Matrix,
}

impl AttentionTape {
    /// `context` becomes what the queries attend to, `[queries, heads · head_size]`.
    ///
    /// `query` is `[queries, heads · head_size]`; `key_value`, `[tokens, 2 · heads · head_size]`, holds the keys and, right
    /// of them, the values. Without `factors` nothing is dropped.
    pub fn forward(
        &mut self,
        of: (&Matrix, &Matrix),
        spans: &[Span],
        heads: Heads,
        factors: Option<DropFactors<'_>>,
        context: &mut Matrix,
    ) {
        context.reshape(of.0.rows(), of.0.width());
        self.make_room(spans, heads, factors.is_some());
        let mut index = 0;
        for head in every(of, spans, heads) {
            self.left.pack_columns(head.size, rows(head.keys(&head.all())));
            for tile in head.span.tiles(heads.reach) {
                self.attend(&head, &tile, index, factors);
                head.place(&self.result, &tile, context);
                index += 1;
            }
        }
    }

    /// `d_query` and `d_key_value` become the gradients of what [`AttentionTape::forward`] was given last, `of`, and have the
    /// shapes of its parts; `d_context` `[rows, hidden_size]` is that of its output.
    pub fn backward(
        &mut self,
        of: (&Matrix, &Matrix),
        spans: &[Span],
        heads: Heads,
        d_context: &Matrix,
        (d_query, d_key_value): (&mut Matrix, &mut Matrix),
    ) {
        d_query.reshape(of.0.rows(), of.0.width());
        d_key_value.reshape(of.1.rows(), of.1.width());
        let mut index = 0;
        for head in every(of, spans, heads) {
            self.left.pack_columns(head.size, rows(head.values(&head.all())));
            for sum in [&mut self.d_keys, &mut self.d_values] {
                sum.reshape(head.span.tokens.len(), head.size);
                sum.clear();
            }
            for tile in head.span.tiles(heads.reach) {
                self.tile_backward(&head, &tile, index, d_context);
                head.place(&self.result, &tile, d_query);
                index += 1;
            }
            place(&self.d_keys, d_key_value, head.span.tokens.start, &head.columns);
            place(&self.d_values, d_key_value, head.span.tokens.start, &head.value_columns());
        }
    }

    fn make_room(&mut self, spans: &[Span], heads: Heads, drops: bool) {
        let tiles: usize = spans.iter().map(|span| span.tiles(heads.reach).count()).sum();
        let most = self.probabilities.len().max(tiles * heads.count);
        self.probabilities.resize_with(most, Matrix::default);
        self.dropped.resize_with(if drops { most } else { 0 }, Matrix::default);
    }

    /// `result` becomes the context of a tile, whose row's keys are `left`.
    fn attend(&mut self, head: &Head<'_>, tile: &Tile, index: usize, factors: Option<DropFactors<'_>>) {
        let Self { probabilities, dropped, left: keys, right: values, result, .. } = self;
        let probabilities = &mut probabilities[index];
        let tokens = tile.tokens.len();
        probabilities.reshape(tile.queries.len(), tokens.next_multiple_of(panel_width()));
        let start = padded(&vec![0.0; tokens], NO_TOKEN, panel_width());
        let (input, keys) = (Left::Rows(head.queries(tile)), of_tokens(keys, tile));
        product(input, keys, Start::Bias(&start), &mut probabilities.view_mut(0, 0));
        head.hide(probabilities, tile);
        Arch::new().dispatch(Softmax { scores: probabilities, scale: head.scale });
        let shares = match factors {
            Some(factors) => {
                let dropped = &mut dropped[index];
                dropped.reshape(tile.queries.len(), tokens);
                factors(head.row, head.index, tile, dropped);
                dropped.multiply(probabilities);
                &*dropped
            }
            None => &*probabilities,
        };
        values.pack_rows(head.size, rows(head.values(tile)));
        result.reshape(tile.queries.len(), head.size);
        let shares = Left::Rows(shares.view(0..tile.queries.len(), 0..tokens));
        product(shares, values.all(), Start::Zero, &mut result.view_mut(0, 0));
    }

    /// `result` becomes the gradient of a tile's queries, from that of their context; those of keys and values are added
    /// up. `left` are the values of the tile's row.
    fn tile_backward(&mut self, head: &Head<'_>, tile: &Tile, index: usize, d_context: &Matrix) {
        let Self { probabilities, dropped, left, right, scores, result, d_keys, d_values } = self;
        let probabilities = &probabilities[index];
        let shares = dropped.get(index).unwrap_or(probabilities);
        let shares = shares.view(0..tile.queries.len(), 0..tile.tokens.len());
        let d_context = head.of_queries(d_context, tile);

        right.pack_rows(head.size, rows(d_context));
        let mut sum = d_values.view_mut(tile.tokens.start, 0);
        product(Left::Columns(shares), right.all(), Start::Stored, &mut sum);

        scores.reshape(tile.queries.len(), tile.tokens.len());
        let values = of_tokens(left, tile);
        product(Left::Rows(d_context), values, Start::Zero, &mut scores.view_mut(0, 0));
        for row in 0..tile.queries.len() {
            Arch::new().dispatch(SoftmaxBackward {
                probabilities: probabilities.row(row),
                shares: shares.row(row),
                scores: scores.row_mut(row),
                scale: head.scale,
            });
        }

        right.pack_rows(head.size, rows(head.keys(tile)));
        result.reshape(tile.queries.len(), head.size);
        product(Left::Rows(scores.all()), right.all(), Start::Zero, &mut result.view_mut(0, 0));

        right.pack_rows(head.size, rows(head.queries(tile)));
        let mut sum = d_keys.view_mut(tile.tokens.start, 0);
        product(Left::Columns(scores.all()), right.all(), Start::Stored, &mut sum);
    }
}

/// A head of a row.
struct Head<'a> {
    query: &'a Matrix,
    key_value: &'a Matrix,
    span: &'a Span,
    reach: Option<usize>,
    row: usize,
    index: usize,
    size: usize,
    scale: f32,
    /// Where its queries and keys lie.
    columns: Range<usize>,
}

fn every<'a>(
    (query, key_value): (&'a Matrix, &'a Matrix),
    spans: &'a [Span],
    heads: Heads,
) -> impl Iterator<Item = Head<'a>> {
    let size = query.width() / heads.count;
    let scale = (size as f32).powf(-0.5);
    spans.iter().enumerate().flat_map(move |(row, span)| {
        (0..heads.count).map(move |index| {
            let columns = index * size..(index + 1) * size;
            Head { query, key_value, span, reach: span.hides(heads.reach), row, index, size, scale, columns }
        })
    })
}

impl<'a> Head<'a> {
    fn all(&self) -> Tile {
        Tile { queries: 0..self.span.queries.len(), tokens: 0..self.span.tokens.len() }
    }

    fn value_columns(&self) -> Range<usize> {
        let width = self.query.width();
        self.columns.start + width..self.columns.end + width
    }

    fn queries(&self, tile: &Tile) -> View<'a> {
        self.of_queries(self.query, tile)
    }

    /// What `of`, `[queries, heads · head_size]`, holds for the queries of a tile.
    fn of_queries<'b>(&self, of: &'b Matrix, tile: &Tile) -> View<'b> {
        of.view(behind(self.span.queries.start, &tile.queries), self.columns.clone())
    }

    fn keys(&self, tile: &Tile) -> View<'a> {
        self.key_value.view(behind(self.span.tokens.start, &tile.tokens), self.columns.clone())
    }

    fn values(&self, tile: &Tile) -> View<'a> {
        self.key_value.view(behind(self.span.tokens.start, &tile.tokens), self.value_columns())
    }

    /// Takes out what the queries of a tile are too far away from.
    fn hide(&self, scores: &mut Matrix, tile: &Tile) {
        let Some(reach) = self.reach else { return };
        for (row, &position) in self.span.positions[tile.queries.clone()].iter().enumerate() {
            let position = usize::from(position) - tile.tokens.start;
            hide_far(&mut scores.row_mut(row)[..tile.tokens.len()], position, reach);
        }
    }

    fn place(&self, from: &Matrix, tile: &Tile, to: &mut Matrix) {
        place(from, to, self.span.queries.start + tile.queries.start, &self.columns);
    }
}

fn behind(first: usize, range: &Range<usize>) -> Range<usize> {
    first + range.start..first + range.end
}

fn rows(view: View<'_>) -> impl ExactSizeIterator<Item = &[f32]> {
    (0..view.rows()).map(move |row| view.row(row))
}

/// Those columns of a row's panels that are the tokens of a tile.
fn of_tokens<'a>(panels: &'a Panels, tile: &Tile) -> Block<'a> {
    panels.block(tile.tokens.start / panel_width(), tile.tokens.len().div_ceil(panel_width()))
}

fn place(from: &Matrix, to: &mut Matrix, first: usize, columns: &Range<usize>) {
    for row in 0..from.rows() {
        to.row_mut(first + row)[columns.clone()].copy_from_slice(from.row(row));
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
mod tests;
