//! Where the rows of a lane lie, and where the last layer is computed.

use std::borrow::Cow;

use entromask_kernels::{Matrix, Span};

use super::Wanted;

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
        let span = |tokens: std::ops::Range<usize>| Span { queries: tokens.clone(), tokens };
        Self { spans: spans.map(span).collect(), chosen: None }
    }

    pub(super) fn wanted(rows: &[Wanted<'_>]) -> Self {
        let tokens: Vec<_> = ends(rows.iter().map(|row| row.input_ids.len())).collect();
        let flat = rows.iter().zip(&tokens);
        let flat = flat.flat_map(|(row, span)| row.positions.iter().map(|&p| span.start + usize::from(p)));
        let queries = ends(rows.iter().map(|row| row.positions.len()));
        let spans = tokens.iter().cloned().zip(queries).map(|(tokens, queries)| Span { tokens, queries });
        Self { spans: spans.collect(), chosen: Some(flat.collect()) }
    }

    /// Rows of `from` at the computed positions, which are written to `to` if they are not all of them.
    pub(super) fn of<'a>(&self, from: &'a Matrix, to: &'a mut Matrix) -> &'a Matrix {
        let Some(chosen) = &self.chosen else { return from };
        to.gather(from, chosen.iter().copied());
        to
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
fn ends(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = std::ops::Range<usize>> {
    lengths.scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    })
}
