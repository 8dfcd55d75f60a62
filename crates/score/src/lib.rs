//! Scoring: tokens and a model → the entropy and surprisal of each token.
//!
//! Let q(·) be the model's distribution at position i of a row when the positions S of that row are `[MASK]`, and x the
//! token that stands there. The entropy is −Σ q(v) ln q(v) over the vocabulary and the surprisal −ln q(x), in nats.
//! [`Conditioning`] says what S is: by default each row's positions are split at random into k disjoint sets, each
//! masked once, so that every token is predicted without being seen, in k passes. Special tokens are never scored and
//! never masked.
//!
//! Cost: a pass over a row of s tokens with n masked ones takes [`EncoderConfig::pass_flops`]: the last layer and the head
//! compute masked positions only. The logits of all positions are never stored: the CPU keeps those of a tile that stays in its cache, a GPU those of a block of
//! the vocabulary.
//!
//! On request ([`Measure`]) the same pass over the logits gives min-entropy, Rényi-2 entropy, margin and normalised
//! entropy as further columns.
//!
//! A model whose tokenizer is another than the corpus's reads the text of each row in its own tokens, in overlapping
//! windows where a row is too long for it, with its own mask and special tokens. Its values are carried to the corpus's
//! tokens by the bytes that they share ([`Carry`]): by default as sums, so that the information in a word stays what it
//! is (H(x, y) = H(x) + H(y | x); surprisals likewise) when both tokenizers agree where the word begins and ends.
//!
//! Several processes divide a job by [`run_shard`], and [`finalize`] writes the manifest; [`fidelity()`] measures on a
//! sample how far a conditioning agrees with masking each token alone.
//!
//! [`distill()`] writes what the model says at masked positions, for a student to learn from without it.
//!
//! A row's scores depend on the row, the model and the semantic configuration; not on threads, on the rows that are
//! computed at the same time, or on where an interrupted run resumed. That holds to the last bit on the CPU; on a GPU the
//! last bits follow the number of rows in a batch.
//!
//! [`EncoderConfig::pass_flops`]: entromask_encoder::EncoderConfig::pass_flops

mod batches;
mod carry;
mod config;
mod distill;
mod draft;
mod fidelity;
mod finite;
mod folds;
mod job;
mod logits;
mod model;
mod overlap;
mod part;
mod pass;
mod predictor;
mod queue;
mod rank;
mod retokenize;
mod sample;
mod scorer;
mod scores;
mod stage;
mod stats;
mod tokenizer;
mod vocabulary;
mod watch;

pub use config::{Carry, Conditioning, Config, Measure, Run};
pub use distill::{DistillArgs, DistillConfig, DistillReport, distill};
pub use fidelity::{Agreement, Fidelity, FidelityArgs, Level, fidelity};
pub use folds::passes;
pub use logits::{LogitsArgs, write_logits};
pub use stage::{Compute, Paths, Report, ShardReport, dry_run, finalize, run, run_shard};
