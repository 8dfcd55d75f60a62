//! `entromask-score`: tokens and a model → entropy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use entromask_artifact::Shard;
use entromask_cli::{CommonArgs, EXIT_CODES_HELP, hide_refused, long_version};
use entromask_score::{
    Config, DistillArgs, FidelityArgs, LogitsArgs, Paths, distill, dry_run, fidelity, finalize, run,
    run_shard, write_logits,
};

/// Scores each token of a corpus: entropy of a masked language model's prediction, and surprisal, in nats.
///
/// Reads a tokens artifact and a model (an artifact, or a Hugging Face folder with config.json and model.safetensors);
/// writes an entropy artifact: one table part for each part of the tokens.
#[derive(Parser)]
#[command(version, long_version = long_version(env!("CARGO_PKG_VERSION"), &entromask_device::compiled()), subcommand_negates_reqs = true, args_conflicts_with_subcommands = true, after_help = after_help())]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The tokens artifact
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    tokens: Option<PathBuf>,
    /// A model artifact or a Hugging Face folder
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    model: Option<PathBuf>,
    /// Score only rows whose number is below this; short for --set rows=N
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Score a random sample of this share of the rows; short for --set fraction=F
    #[arg(long, value_name = "F")]
    fraction: Option<f64>,
    /// Score every N-th part only, from the I-th on, beside other processes that have the other shards
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Write the manifest after all shards are done
    #[arg(long, conflicts_with = "shard")]
    finalize: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the raw logits of the first rows to a safetensors file, to compare a model with other implementations
    #[command(mut_args(|arg| hide_refused(arg, LogitsArgs::UNUSED)), after_help = EXIT_CODES_HELP)]
    Logits(Box<LogitsArgs>),
    /// Writes a teacher's most probable tokens at masked positions, to train a student without it (pretrain --targets)
    #[command(after_help = EXIT_CODES_HELP)]
    Distill(Box<DistillArgs>),
    /// Compares kfold and unmasked scores of a sample with exact ones, and says whether the configured ones can be trusted
    #[command(mut_args(|arg| hide_refused(arg, FidelityArgs::UNUSED)), after_help = EXIT_CODES_HELP)]
    Fidelity(Box<FidelityArgs>),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(Command::Logits(args)) => entromask_cli::main(&args.common, || write_logits(&args)),
        Some(Command::Distill(args)) => entromask_cli::main(&args.common, || distill(&args)),
        Some(Command::Fidelity(args)) => entromask_cli::main(&args.common, || {
            let found = fidelity(&args)?;
            entromask_cli::emit(&args.common, &found, &found)
        }),
        None => entromask_cli::main(&args.common, || score(&args)),
    }
}

fn after_help() -> String {
    let example = "entromask-score --tokens data/tokens/sample --model data/models/sample/modernbert-tiny-mlm/self-r3x1/round-0 \
                   --out data/entropy/x";
    format!("Example: {example}\n\n{EXIT_CODES_HELP}")
}

impl Args {
    /// The common flags, with what is short for `--set` spelled out.
    fn with_shorthands(&self) -> CommonArgs {
        let mut common = self.common.clone();
        common.set.extend(self.rows.map(|rows| format!("rows={rows}")));
        common.set.extend(self.fraction.map(|fraction| format!("fraction={fraction:?}")));
        common
    }
}

fn score(args: &Args) -> anyhow::Result<()> {
    let common = &args.with_shorthands();
    let config: Config = entromask_cli::load(common)?;
    if common.print_config {
        return entromask_cli::print_config(common, &config);
    }
    let given = |path: &Option<PathBuf>| path.clone().expect("clap requires it to score");
    let paths = Paths { tokens: given(&args.tokens), model: given(&args.model), out: common.out()?.into() };
    let compute = common.into();
    if common.dry_run {
        return dry_run(common, &config, &paths, &compute);
    }
    if let Some(shard) = args.shard {
        let report = run_shard(&config, &paths, &compute, shard)?;
        return entromask_cli::emit(common, &report, &report);
    }
    let make = if args.finalize { finalize } else { run };
    let report = make(&config, &paths, &compute)?;
    entromask_cli::emit(common, &report, &report)
}
