//! The flags of `entromask-pretrain`.

use std::path::PathBuf;

use entromask_cli::{CommonArgs, EXIT_CODES_HELP, emit, hide_refused, long_version};
use entromask_pretrain::{Compute, Paths, Start, Validation, validate};

/// Trains a masked language model on tokens and masks, with or without a teacher.
///
/// Inputs: a tokens artifact, a masks artifact made from it, and the student's shape (TOML with the field names of a
/// Hugging Face config.json, without dropout unless it says otherwise; or a model). Output: a Hugging Face folder with metrics.jsonl (losses in nats, one line a step).
/// A killed or interrupted run resumes when it is started again.
///
/// Keys of the configuration that flags bring along: with --init `init.layers` ([0, 2], a layer of that model for each of
/// the student's) and `init.fresh_head` (true draws the head anew); with --init-masks `mask_transfer.mode` (after-init, anneal)
/// and `mask_transfer.init_fraction` (of the horizon) or `init_tokens`; with a teacher the weights `objective.ce`, `kd`, `cos`
/// and `hidden`, `objective.temperature`, `objective.positions` (masked, all), `objective.hidden_layers` ([[1, 2]], pairs of a
/// student's and a teacher's layer), `transfer.mode` (complete, after-init, anneal) and `transfer.init_fraction` or `init_tokens`.
///
/// With --device cuda:0,1 (or vulkan:0,1) each device computes a shard of every batch; gradients are added up on the first.
/// With --dtype bf16 (GPUs, and CPUs with `AVX512_BF16`) matrix products are bf16 and everything else is f32.
///
/// Example: entromask-pretrain --config pipelines/train/mlm.toml --student pipelines/student/tiny.toml
/// --tokens data/tokens/sample --masks data/masks/sample/random/epochs-0-1 --set epochs=1 --out data/models/sample/mine
#[derive(clap::Parser)]
#[command(version, long_version = long_version(env!("CARGO_PKG_VERSION"), &entromask_device::compiled()), after_help = EXIT_CODES_HELP,
    subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Shape of the model: a TOML file, or a model's folder; by default the model of --init or --continue-from.
    /// Vocabulary and padding come from the tokens
    #[arg(long, value_name = "PATH", required_unless_present_any = ["print_config", "init", "continue_from"])]
    student: Option<PathBuf>,
    /// Tokens artifact
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    tokens: Option<PathBuf>,
    /// Masks artifact; its epochs are trained
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    masks: Option<PathBuf>,
    /// Masks artifact to begin with; `mask_transfer` in the configuration says until when
    #[arg(long, value_name = "DIR")]
    init_masks: Option<PathBuf>,
    /// Model that guides the student, for objective.kd, objective.cos or objective.hidden; same tokenizer
    #[arg(long, value_name = "DIR", conflicts_with = "targets")]
    teacher: Option<PathBuf>,
    /// Soft targets artifact (`entromask-score distill`) that guides in place of a teacher, for objective.kd
    #[arg(long, value_name = "DIR")]
    targets: Option<PathBuf>,
    /// Model to take the initial weights from, or those of `init.layers`
    #[arg(long, value_name = "DIR", conflicts_with = "continue_from")]
    init: Option<PathBuf>,
    /// Model of the round before: go on with its weights, optimizer and counters
    #[arg(long, value_name = "DIR")]
    continue_from: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Say how well a model predicts the held-out rows of a corpus, by the random 15 % mask that every run validates with
    ///
    /// The model is one of the pipeline or any Hugging Face folder of a supported family with the tokenizer of the corpus. Losses are nats a
    /// masked token. Example: entromask-pretrain validate --model data/models/sample/modernbert-mini-mlm/random-e2 --tokens data/tokens/sample
    #[command(mut_args(|arg| hide_refused(arg, UNUSED)))]
    Validate(Box<ValidateArgs>),
}

/// Common flags that validation has no use for.
const UNUSED: &[&str] = &["--config", "--print-config", "--set", "--dry-run", "--out", "--wait"];

#[derive(clap::Args)]
pub(crate) struct ValidateArgs {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Tokens artifact
    #[arg(long, value_name = "DIR")]
    tokens: PathBuf,
    /// Held-out rows to take, from the first; by default as many as runs take
    #[arg(long, value_name = "N", default_value_t = Validation::default().rows as u64, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Rows at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    #[command(flatten)]
    common: CommonArgs,
}

impl ValidateArgs {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let common = &self.common;
        common.refuse("validate", UNUSED)?;
        let compute = Compute { device: &common.device, dtype: &common.dtype };
        let sizes = [self.rows as usize, usize::from(self.batch_size)];
        let found = validate(&self.model, &self.tokens, sizes, compute)?;
        emit(common, &found, &found)
    }
}

impl Args {
    /// The flags that it has in common with other stages.
    pub(crate) fn common(&self) -> &CommonArgs {
        match &self.command {
            Some(Command::Validate(args)) => &args.common,
            None => &self.common,
        }
    }

    /// What they name.
    pub(crate) fn paths(&self) -> anyhow::Result<Paths> {
        let start = match (&self.init, &self.continue_from) {
            (Some(model), _) => Start::Init(model.clone()),
            (_, Some(model)) => Start::Continue(model.clone()),
            _ => Start::Random,
        };
        let given = |path: &Option<PathBuf>| path.clone().expect("clap requires it to train");
        Ok(Paths {
            student: given(&self.student.clone().or(self.init.clone()).or(self.continue_from.clone())),
            tokens: given(&self.tokens),
            masks: given(&self.masks),
            first_masks: self.init_masks.clone(),
            teacher: self.teacher.clone(),
            targets: self.targets.clone(),
            start,
            out: self.common.out()?.into(),
        })
    }
}
