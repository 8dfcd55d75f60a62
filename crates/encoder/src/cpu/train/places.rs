//! Where the rows of a lane lie, and where the last layer is computed.

use std::borrow::Cow;
use std::ops::Range;

use entromask_kernels::{Matrix, Span};

use super::Wanted;
use crate::cpu::rotation::{Direction, Rotation};

/// Rows that lie one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) spans: Vec<Span>,
    /// Index of each computed position among all tokens; `None` if all are computed.
    chosen: Option<Vec<usize>>,
}

impl Places {
    pub(super) fn everywhere(rows: &[Wanted<'_>]) -> Self {
        let spans = ends(rows.iter().map(|row| row.input_ids.len()));
        let span = |tokens: Range<usize>| Span {
            positions: (0..tokens.len() as u16).collect(),
            queries: tokens.clone(),
            tokens,
        };
        Self { spans: spans.map(span).collect(), chosen: None }
    }

    pub(super) fn wanted(rows: &[Wanted<'_>]) -> Self {
        let tokens: Vec<_> = ends(rows.iter().map(|row| row.input_ids.len())).collect();
        let flat = rows.iter().zip(&tokens);
        let flat = flat.flat_map(|(row, span)| row.positions.iter().map(|&p| span.start + usize::from(p)));
        let queries = ends(rows.iter().map(|row| row.positions.len()));
        let ranges = tokens.iter().cloned().zip(queries).zip(rows);
        let spans = ranges.map(|((tokens, queries), row)| Span {
            tokens,
            queries,
            positions: row.positions.to_vec(),
        });
        Self { spans: spans.collect(), chosen: Some(flat.collect()) }
    }

    /// Where the computed positions of each row lie among all that are computed.
    pub(super) fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        self.spans.iter().map(|span| span.queries.clone())
    }

    /// Rows of `from` at the computed positions, which are written to `to` if they are not all of them.
    pub(super) fn of<'a>(&self, from: &'a Matrix, to: &'a mut Matrix) -> &'a Matrix {
        let Some(chosen) = &self.chosen else { return from };
        to.gather(from, chosen.iter().copied());
        to
    }

    /// Turns queries at the computed positions, and the keys that are the left half of `key_value`.
    pub(super) fn turn(
        &self,
        rotation: &Rotation,
        direction: Direction,
        query: &mut Matrix,
        key_value: &mut Matrix,
    ) {
        let width = query.width();
        for Span { tokens, queries, positions } in &self.spans {
            let positions = positions.iter().map(|&p| usize::from(p));
            rotation.turn(direction, query, queries.start, positions, width);
            rotation.turn(direction, key_value, tokens.start, 0..tokens.len(), width);
        }
    }

    /// Adds the rows of `from` to those rows of `to` that are computed.
    pub(super) fn add(&self, from: &Matrix, to: &mut Matrix) {
        let everywhere = || Cow::Owned((0..from.rows()).collect());
        let chosen: Cow<'_, [usize]> = self.chosen.as_ref().map_or_else(everywhere, Cow::from);
        for (index, &row) in chosen.iter().enumerate() {
            to.row_mut(row).iter_mut().zip(from.row(index)).for_each(|(to, from)| *to += from);
        }
    }
}

/// Ranges of these lengths, one after the other.
fn ends(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    lengths.scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    })
}
