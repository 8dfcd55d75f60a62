//! Fine-tunes a model folder on GLUE and measures it: one result per task and seed.
//!
//! `model + GLUE -> scores`. The model is one of ours or any Hugging Face folder of a supported family, the data a folder
//! in GLUE's official layout. Each (task, seed) is one run; a seed decides the head's initial weights, the order of
//! the rows and the dropout, so that models are compared in pairs. Scores are those of the last epoch. Where something is
//! chosen, an epoch or a recipe of a grid, the dev rows are halved: nothing is chosen on rows that are reported.
//!
//! The artifact holds one `<task>-seed<n>-<key>.json` per run ([`RunResult`]), `results.json` ([`Summary`]) and
//! `results.parquet` ([`Scores`](entromask_tables::Scores)). A run's name carries the digest of everything that decides it, so an interrupted stage goes on where it
//! was, and adding a task or a seed repeats nothing.
//!
//! Invariants:
//! 1. Every score stands beside its floor: the most that a classifier gets which gives all rows one answer.
//! 2. Undefined metrics are 0, never NaN.
//! 3. No row is dropped or cut without being counted in the result.

mod answers;
mod batches;
pub mod command;
mod config;
mod data;
mod features;
mod finetune;
mod freezing;
mod halves;
mod host;
mod kept;
mod labels;
#[expect(clippy::float_cmp, reason = "classes are whole numbers, and ties and constants are meant exactly")]
mod metric;
mod model;
mod plan;
mod predict;
mod results;
mod rows;
mod sample;
mod seconds;
mod stage;
mod stop;
mod submission;
mod task;
mod train;
mod workers;

pub use answers::Answers;
pub use batches::{eval_batches, train_batches};
pub use config::{Config, FineTuning, Freeze, Head, Resolved, RunConfig, Seeds};
pub use data::{Example, Found, Split, Survey, read, read_test};
pub use metric::{Metric, best_constant};
pub use results::{
    Estimate, Parameters, RunResult, Score, SplitFacts, Summary, TaskSummary, TrainFacts, Tried,
};
pub use stage::{Job, Share, recipe, run, run_shard};
pub use submission::{Report, Submission, validate};
pub use task::{Column, DevSplit, Task, TestSplit, glue};
pub use workers::{Hire, Worker};
