//! Scoring: tokens and a model → the entropy and surprisal of each token.
//!
//! Let q_i(·|S) be the model's distribution at position i when the positions S of the row are `[MASK]`. The entropy is
//! −Σ_v q_i(v) ln q_i(v) and the surprisal −ln q_i(x_i), in nats. [`Conditioning`] says what S is: by default each row's
//! positions are split at random into k disjoint sets, each masked once, so that every token is predicted without being
//! seen, in k passes. Special tokens are never scored and never masked.
//!
//! Cost: a pass over a row of s tokens with n masked ones takes [`EncoderConfig::forward_at_flops`], since the last layer
//! computes masked positions only, and each masked position takes [`EncoderConfig::head_flops_per_position`]. The head is
//! fused on the CPU: the logits are never stored.
//!
//! A row's scores depend on the row, the model and the semantic configuration; not on threads, on the rows that are
//! computed at the same time, or on where an interrupted run resumed.
//!
//! [`EncoderConfig::forward_at_flops`]: entromask_encoder::EncoderConfig::forward_at_flops
//! [`EncoderConfig::head_flops_per_position`]: entromask_encoder::EncoderConfig::head_flops_per_position

mod config;
mod folds;
mod logits;
mod model;
mod scorer;
mod stage;
mod stats;

pub use config::{Conditioning, Config, Run};
pub use folds::passes;
pub use logits::{LogitsPaths, write_logits};
pub use stage::{Compute, FORMAT, Paths, Report, dry_run, run};
