//! The selection report: what the masks are like, and how that differs from masks drawn at random.
//!
//! What random masks of the same budgets would be like is not drawn but computed: of n maskable tokens of a row, k are
//! masked, each set of k with the same probability.

mod facts;
mod overlap;
mod summary;
mod tally;

pub(crate) use facts::PartFacts;
pub(crate) use overlap::Overlap;
pub(crate) use tally::Tally;
