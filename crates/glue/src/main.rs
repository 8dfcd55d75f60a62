//! `entromask-glue`: scores of a model folder on GLUE.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use entromask_cli::{CommonArgs, EXIT_CODES_HELP, long_version};
use entromask_glue::Job;

/// Fine-tune a model on GLUE tasks and print its dev scores
///
/// Inputs: a Hugging Face model folder (config.json, model.safetensors, tokenizer.json) and a folder in GLUE's
/// official layout (`data` in the config). Output: results.json and one JSON file per task and seed. Scores are
/// percentages, losses nats.
#[derive(Parser)]
#[command(version, long_version = long_version(env!("CARGO_PKG_VERSION"), &entromask_device::compiled()), after_help = format!("{EXAMPLE}\n\n{EXIT_CODES_HELP}"))]
struct Args {
    /// Model folder to fine-tune
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLE: &str = "Example: entromask-glue --config pipelines/glue/sample.toml --model data/models/mine --out data/glue/mine";

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common, || execute(&args))
}

fn execute(args: &Args) -> anyhow::Result<()> {
    let (common, out) = (&args.common, args.common.out()?);
    let job = Job {
        config: entromask_cli::load(common)?,
        model: args.model.clone(),
        device: common.device.clone(),
        dtype: common.dtype.clone(),
    };
    if common.dry_run {
        return entromask_cli::plan(common, out, &[&args.model], || entromask_glue::recipe(&job));
    }
    let summary = entromask_glue::run(&job, out)?;
    entromask_cli::emit(common, &summary, &summary)
}
