//! `entromask-score`: tokens and a model → entropy.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use entromask_cli::CommonArgs;
use entromask_score::{Compute, Config, LogitsPaths, Paths, Report, dry_run, run, write_logits};

/// Scores each token of a corpus: entropy of a masked language model's prediction, and surprisal, in nats.
///
/// Reads a tokens artifact and a model (an artifact, or a Hugging Face folder with config.json and model.safetensors);
/// writes an entropy artifact: one table part for each part of the tokens.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true, after_help = concat!(
    "Example: entromask-score --config pipelines/score/kfold.toml --tokens data/tokens/sample ",
    "--model data/models/sample/tiny --out data/entropy/sample/tiny"
), after_long_help = entromask_cli::EXIT_CODES_HELP)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The tokens artifact
    #[arg(long, value_name = "DIR", required = true)]
    tokens: Option<PathBuf>,
    /// A model artifact or a Hugging Face folder
    #[arg(long, value_name = "DIR", required = true)]
    model: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the raw logits of the first rows to a safetensors file, to compare a model with other implementations
    Logits {
        /// The tokens artifact
        #[arg(long, value_name = "DIR")]
        tokens: PathBuf,
        /// A model artifact or a Hugging Face folder
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// How many rows
        #[arg(long, value_name = "N", default_value_t = 4)]
        rows: usize,
        #[command(flatten)]
        common: Box<CommonArgs>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(Command::Logits { tokens, model, rows, common }) => entromask_cli::main(&common, || {
            let paths = LogitsPaths { tokens, model, out: common.out()?.into() };
            write_logits(&paths, rows, &compute(&common))
        }),
        None => entromask_cli::main(&args.common, || score(&args)),
    }
}

fn score(args: &Args) -> anyhow::Result<()> {
    let config: Config = entromask_cli::load(&args.common)?;
    let given = |path: &Option<PathBuf>| path.clone().expect("clap requires it without a subcommand");
    let paths = Paths { tokens: given(&args.tokens), model: given(&args.model), out: args.common.out()?.into() };
    if args.common.dry_run {
        return dry_run(&args.common, &config, &paths, &compute(&args.common));
    }
    let report = run(&config, &paths, &compute(&args.common))?;
    entromask_cli::emit(&args.common, describe(&report), &report)
}

fn compute(common: &CommonArgs) -> Compute {
    Compute { device: common.device.clone(), dtype: common.dtype.clone() }
}

fn describe(report: &Report) -> String {
    let out = report.out.display();
    if report.up_to_date {
        return format!("{out}: up to date");
    }
    let number = |key: &str| report.stats[key].as_f64().unwrap_or(f64::NAN);
    let means = format!("mean entropy {:.3}, mean surprisal {:.3} nats", number("mean_entropy"), number("mean_surprisal"));
    format!("{out}: {} tokens scored, {means}", number("scored"))
}
