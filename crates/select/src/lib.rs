//! Mask selection: tokens (and entropy) → masks.
//!
//! Which tokens of a row are masked is what [`entromask_policy`] decides; this stage gives it the scores of each row and
//! writes what comes out. All draws are keyed by (seed, row, epoch), so the same bytes come out on any number of threads,
//! and any epoch can be made alone.

pub mod classes;
mod part;
mod rarity;
mod report;
mod sources;
mod stage;

pub use entromask_policy::Config;
pub use stage::{Paths, Report, dry_run, run};
