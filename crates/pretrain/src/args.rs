//! The flags of `entromask-pretrain`.

use std::path::PathBuf;

use entromask_cli::{CommonArgs, EXIT_CODES_HELP, long_version};
use entromask_pretrain::{Paths, Start};

/// Trains a masked language model on tokens and masks, with or without a teacher.
///
/// Inputs: a tokens artifact, a masks artifact made from it, and the student's shape (TOML with the field names of a
/// Hugging Face config.json). Output: a Hugging Face folder with metrics.jsonl (losses in nats, one line a step).
/// A killed or interrupted run resumes when it is started again.
///
/// Example: entromask-pretrain --config pipelines/train/mlm.toml --student pipelines/student/tiny.toml
/// --tokens data/tokens/sample --masks data/masks/sample/random --out data/models/sample/random
#[derive(clap::Parser)]
#[command(version, long_version = long_version(env!("CARGO_PKG_VERSION"), &entromask_device::compiled()), after_help = EXIT_CODES_HELP)]
pub(crate) struct Args {
    /// Shape of the model (TOML); vocabulary and padding come from the tokens
    #[arg(long, value_name = "FILE")]
    student: PathBuf,
    /// Tokens artifact
    #[arg(long, value_name = "DIR")]
    tokens: PathBuf,
    /// Masks artifact; its epochs are trained
    #[arg(long, value_name = "DIR")]
    masks: PathBuf,
    /// Model that guides the student, for objective.kd or objective.cos; same tokenizer
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
    /// Model to take the initial weights from
    #[arg(long, value_name = "DIR", conflicts_with = "continue_from")]
    init: Option<PathBuf>,
    /// Model of the round before: go on with its weights, optimizer and counters
    #[arg(long, value_name = "DIR")]
    continue_from: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Args {
    /// What they name.
    pub(crate) fn paths(&self) -> anyhow::Result<Paths> {
        let start = match (&self.init, &self.continue_from) {
            (Some(model), _) => Start::Init(model.clone()),
            (_, Some(model)) => Start::Continue(model.clone()),
            _ => Start::Random,
        };
        Ok(Paths {
            student: self.student.clone(),
            tokens: self.tokens.clone(),
            masks: self.masks.clone(),
            teacher: self.teacher.clone(),
            start,
            out: self.common.out()?.into(),
        })
    }
}
