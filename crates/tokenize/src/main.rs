//! `entromask-tokenize`: text files to the tokens artifact.

use std::process::ExitCode;

use clap::Parser;
use entromask_cli::CommonArgs;
use entromask_tokenize::{Config, Options, recipe, run};

/// Tokenize a corpus into rows of fixed length
///
/// Input: text, JSON lines or Parquet files (plain, gzip or zstd) and a Hugging Face tokenizer, both named in the
/// config. Output: a folder with part-*.parquet (training rows), valid-*.parquet (held-out rows), tokenizer.json and
/// manifest.json. Lengths are in tokens (`seq_len`) or characters (`min_chars`, `max_chars`).
///
/// Example: entromask-tokenize --config pipelines/corpus/sample.toml --out data/tokens/sample
#[derive(Parser)]
#[command(version, after_help = entromask_cli::EXIT_CODES_HELP)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Stop before less than this is free on the output's disk
    #[arg(long, value_name = "GIB", default_value_t = 1.0)]
    min_free_disk: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common, || tokenize(&args))
}

fn tokenize(args: &Args) -> anyhow::Result<()> {
    let config: Config = entromask_cli::load(&args.common)?;
    let out = args.common.out()?;
    if args.common.dry_run {
        return entromask_cli::plan(&args.common, out, &[], || recipe(&config));
    }
    let gib = f64::from(1 << 30);
    let options = Options { out: out.into(), min_free_bytes: (args.min_free_disk * gib) as u64 };
    let report = run(&config, &options)?;
    entromask_cli::emit(&args.common, &report, &report)
}
