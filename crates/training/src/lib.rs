//! What every training stage needs and no model decides: learning-rate schedules, optimizers with clipping by the
//! global gradient norm, the losses, checkpoints that survive being killed, and the metrics log.
//!
//! Invariants:
//! 1. On the CPU every result is the same bits on any number of threads: sums over many numbers are made in chunks of
//!    fixed size, one after the other.
//! 2. Everything that decides the next step is in a checkpoint: weights, moments and counters. A schedule is a pure
//!    function of the step.
//! 3. A checkpoint is complete or not there: it is written beside, synced and renamed, and its digests are checked
//!    before it is used.

mod adamw;
mod change;
mod checkpoint;
mod diverged;
mod evaluation;
mod gradients;
mod head;
mod host;
mod lamb;
mod logits;
mod loss;
mod metrics;
mod moments;
mod muon;
mod optimizer;
mod rows;
mod scalars;
mod schedule;
mod soft;

pub use checkpoint::{Checkpoint, Checkpoints};
pub use diverged::{diverged, is_divergence};
pub use evaluation::{Evaluation, evaluate};
pub use gradients::Gradients;
pub use head::{Decoder, Guide, HeadLoss, Objective, head_loss};
pub use loss::{cosine, cross_entropy, distillation, squared_distance};
pub use metrics::{Kept, MetricsLog};
pub use optimizer::{AdamWConfig, MOMENTUM, Optimizer, OptimizerConfig, Rule};
pub use scalars::read as read_scalars;
pub use schedule::{COOLDOWN, Decay, Schedule};
pub use soft::SoftTargets;
