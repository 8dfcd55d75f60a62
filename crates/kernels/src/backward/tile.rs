//! Which probabilities of attention are computed, and which of them together.

use std::ops::Range;

use crate::matrix::WIDEST_PANEL;

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

/// Some queries of a row, and tokens among which are all that any of them sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Which queries of the row.
    pub queries: Range<usize>,
    /// Which tokens of the row.
    pub tokens: Range<usize>,
}

/// Queries of so many tokens of a row are computed together where they do not see all of it. A row of no more tokens is one
/// tile; of a longer one the queries see as many tokens in vain.
const STRETCH: usize = 128;

impl Span {
    /// All queries, in order. Where a tile lies depends on the length of the row only, not on what else is asked or on the
    /// machine.
    pub(super) fn tiles(&self, reach: Option<usize>) -> impl Iterator<Item = Tile> {
        let (length, reach) = (self.tokens.len(), self.hides(reach));
        let stretch = move |position: u16| reach.map_or(0, |_| usize::from(position) / STRETCH);
        let mut next = 0;
        self.positions.chunk_by(move |&a, &b| stretch(a) == stretch(b)).map(move |asked| {
            let queries = next..next + asked.len();
            next = queries.end;
            let tokens = reach.map_or(0..length, |reach| seen(stretch(asked[0]), reach, length));
            Tile { queries, tokens }
        })
    }

    /// The reach, if it is too short for a query to see the whole row.
    pub(super) fn hides(&self, reach: Option<usize>) -> Option<usize> {
        reach.filter(|&reach| self.tokens.len() > reach + 1)
    }
}

/// What a stretch of a row sees, in whole panels.
fn seen(stretch: usize, reach: usize, length: usize) -> Range<usize> {
    let first = (stretch * STRETCH).saturating_sub(reach);
    let end = (stretch + 1) * STRETCH + reach;
    first / WIDEST_PANEL * WIDEST_PANEL..length.min(end.next_multiple_of(WIDEST_PANEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(
        length: usize,
        positions: impl Iterator<Item = u16>,
        reach: Option<usize>,
    ) -> Vec<[Range<usize>; 2]> {
        let positions: Vec<u16> = positions.collect();
        let span = Span { tokens: 7..7 + length, queries: 3..3 + positions.len(), positions };
        span.tiles(reach).map(|tile| [tile.queries, tile.tokens]).collect()
    }

    #[test]
    fn a_tile_holds_what_its_queries_see() {
        assert_eq!(
            tiles(300, 0..300, Some(64)),
            [[0..128, 0..192], [128..256, 64..300], [256..300, 192..300]]
        );
        assert_eq!(
            tiles(1_000, [5, 130, 131, 999].into_iter(), Some(1)),
            [[0..1, 0..160], [1..3, 96..288], [3..4, 864..1_000]]
        );
    }

    #[test]
    fn a_row_that_is_seen_whole_is_one_tile() {
        for (length, reach) in [(1_000, None), (1_000, Some(999)), (128, Some(3)), (1, Some(0))] {
            assert_eq!(
                tiles(length, 0..length as u16, reach),
                [[0..length, 0..length]],
                "{length} {reach:?}"
            );
        }
        assert!(tiles(1_000, 0..0, Some(1)).is_empty());
    }
}
