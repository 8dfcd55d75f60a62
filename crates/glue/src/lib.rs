//! Fine-tunes a model folder on GLUE and measures it: one result per task and seed.
//!
//! `model + GLUE -> scores`. The model is one of ours or any Hugging Face folder of a supported family, the data a folder
//! in GLUE's official layout. Each (task, seed) is one run; a seed decides the head's initial weights, the order of
//! the rows and the dropout, so that models are compared in pairs. Scores are those of the last epoch: nothing is selected
//! on the split that is reported.
//!
//! The artifact holds one `<task>-seed<n>-<key>.json` per run ([`RunResult`]), and `results.json` ([`Summary`]). A
//! run's name carries the digest of everything that decides it, so an interrupted stage goes on where it
//! was, and adding a task or a seed repeats nothing.
//!
//! Invariants:
//! 1. Every score stands beside its floor: what a classifier gets that always says the most frequent class.
//! 2. Undefined metrics are 0, never NaN.
//! 3. No row is dropped or cut without being counted in the result.

mod batches;
mod config;
mod data;
mod finetune;
#[expect(clippy::float_cmp, reason = "classes are whole numbers, and ties and constants are meant exactly")]
mod metric;
mod model;
mod results;
mod rows;
mod stage;
mod task;

pub use batches::{eval_batches, train_batches};
pub use config::{Config, FineTuning, RunConfig, Seeds};
pub use data::{Example, Split};
pub use metric::{Metric, majority};
pub use results::{Estimate, RunResult, Score, SplitFacts, Summary, TaskSummary, TrainFacts};
pub use stage::{Job, recipe, run};
pub use task::{Column, DevSplit, Task, glue};
