//! Mask policies: which tokens of a row to mask, given what they are scored by. Pure functions: no files, no tables, no
//! model.
//!
//! A policy looks at the units of one budget — tokens, or whole words, with their scores — and offers them in the order
//! in which it wants them; policies are pure functions in a module each and know neither files nor options. What they
//! choose from and what turns their offers down (the budget, the cap for one token, the spread) is the same for all.
//! The budget is exact: round(rate · maskable tokens), in double precision, of each row or part, at least 1, never a special token. All draws
//! are keyed by (seed, row, epoch), so the same bytes come out on any number of threads, and any epoch can be made
//! alone.
//!
//! ```
//! use entromask_policy::corruption::Vocabulary;
//! use entromask_policy::{Config, Row, Scores, Selector};
//! # fn main() -> anyhow::Result<()> {
//! let config: Config = serde_json::from_str(r#"{"policy": {"name": "high"}, "rate": 0.4}"#)?;
//! let vocabulary = Vocabulary { size: 1000, mask: 103, special: vec![101, 102, 103] };
//! let row = Row {
//!     number: 0,
//!     input_ids: &[101, 7, 8, 9, 10, 11, 102],
//!     word: &[None, Some(0), Some(1), Some(2), Some(3), Some(4), None],
//!     scores: Scores::Column(&[None, Some(0.5), Some(4.0), Some(1.0), Some(0.1), Some(2.0), None]),
//! };
//! let selector = Selector { config: &config, vocabulary: &vocabulary, excluded: &[] };
//! let choice = selector.select(&[row], 0)?;
//! assert_eq!(choice.rows, [(vec![2, 5], vec![103, 103])]);
//! # Ok(()) }
//! ```

mod class;
pub mod config;
pub mod corruption;
mod picks;
pub mod policies;
pub mod rank;
mod ranking;
mod row;
mod schedule;
mod units;

pub use class::Class;
pub use config::Config;
pub use picks::Picks;
pub use row::{Choice, Row, Scores, Selector, budget};
pub use schedule::{Schedule, Shape};
pub use units::Units;
