//! Mask selection: tokens (and entropy) → masks.
//!
//! A policy looks at one row's maskable tokens and their scores and chooses which to mask; policies are pure functions
//! in a module each and know neither files nor epochs. The budget of a row is exact: round(rate · maskable tokens), at
//! least 1, never a special token. All draws are keyed by (seed, row, epoch), so the same bytes come out on any number
//! of threads, and any epoch can be made alone.

pub mod config;
pub mod corruption;
pub mod policies;
mod row;
mod stage;
mod stats;

pub use config::Config;
pub use row::{Row, budget, select_row};
pub use stage::{FORMAT, Paths, Report, dry_run, run};
