//! `entromask-tokenize`: text files to the tokens artifact, and to a vocabulary.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use entromask_cli::{CommonArgs, hide_refused};
use entromask_fault::Fault;
use entromask_tokenize::{Config, Options, dry_run, learn, run};

/// Tokenize a corpus into rows of fixed length
///
/// Input: text, JSON lines or Parquet files (plain, gzip or zstd) and a Hugging Face tokenizer, both named in the
/// config. Output: a folder with part-*.parquet (training rows), valid-*.parquet (held-out rows), tokenizer.json and
/// manifest.json. Lengths are in tokens (`seq_len`) or characters (`min_chars`, `max_chars`).
///
/// Example: entromask-tokenize --config pipelines/corpus/sample.toml --out data/tokens/sample
#[derive(Parser)]
#[command(version, mut_args(|arg| hide_refused(arg, UNUSED)), args_conflicts_with_subcommands = true, after_help = entromask_cli::EXIT_CODES_HELP)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: CommonArgs,
    /// Stop before less than this is free on the output's disk
    #[arg(long, value_name = "GIB", default_value_t = 1.0)]
    min_free_disk: f64,
}

/// Flags that tokenizing has no use for.
const UNUSED: &[&str] = &["--device"];

/// Flags that learning a vocabulary has no use for.
const UNUSED_BY_VOCABULARY: &[&str] = &["--dry-run", "--device"];

#[derive(Subcommand)]
enum Command {
    /// Learn a vocabulary from a corpus, in the manner of another tokenizer
    ///
    /// Reads the training documents that the config names, whose `tokenizer` need not be there yet, and writes
    /// tokenizer.json with its configuration. A small vocabulary suits small models: most of the parameters and of the
    /// work of a tiny one are its vocabulary's.
    ///
    /// Example: entromask-tokenize vocabulary --config pipelines/corpus/sample.toml --size 8192 --out data/tokenizers/mine
    #[command(mut_args(|arg| hide_refused(arg, UNUSED_BY_VOCABULARY)))]
    Vocabulary(VocabularyArgs),
}

#[derive(clap::Args)]
struct VocabularyArgs {
    /// Tokens, special ones included
    #[arg(long, value_name = "N")]
    size: usize,
    /// WordPiece or BPE tokenizer whose manner is kept: normalisation, words and special tokens; for languages with accents
    /// take data/tokenizers/cased-pattern
    #[arg(long, value_name = "DIR", default_value = "data/tokenizers/bert-base-uncased")]
    like: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

impl Args {
    fn min_free_bytes(&self) -> anyhow::Result<u64> {
        let gib = self.min_free_disk;
        if !gib.is_finite() || gib < 0.0 {
            return Err(Fault::usage(format!("--min-free-disk {gib}"))
                .remedy("give a number of GiB, 0 for none")
                .into());
        }
        Ok((gib * f64::from(1 << 30)) as u64)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.command {
        Some(Command::Vocabulary(args)) => entromask_cli::main(&args.common, || vocabulary(args)),
        None => entromask_cli::main(&args.common, || tokenize(&args)),
    }
}

fn vocabulary(args: &VocabularyArgs) -> anyhow::Result<()> {
    args.common.refuse("vocabulary", UNUSED_BY_VOCABULARY)?;
    let config: Config = entromask_cli::load(&args.common)?;
    if args.common.print_config {
        return entromask_cli::print_config(&args.common, &config);
    }
    entromask_cli::stop_at_once("run the same command again, which begins anew");
    let learned = learn(&config, &args.like, args.size, args.common.out()?)?;
    entromask_cli::emit(&args.common, &learned, &learned)
}

fn tokenize(args: &Args) -> anyhow::Result<()> {
    args.common.refuse("tokenizing", UNUSED)?;
    let config: Config = entromask_cli::load(&args.common)?;
    if args.common.print_config {
        return entromask_cli::print_config(&args.common, &config);
    }
    let options = Options { out: args.common.out()?.into(), min_free_bytes: args.min_free_bytes()? };
    if args.common.dry_run {
        return dry_run(&args.common, &config);
    }
    let report = run(&config, &options)?;
    entromask_cli::emit(&args.common, &report, &report)
}
