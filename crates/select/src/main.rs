//! `entromask-select`: tokens (and entropy) → masks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use entromask_cli::{CommonArgs, hide_refused};
use entromask_select::{Config, Paths, dry_run, run};

/// Chooses which tokens to mask, by a policy over their entropies or at random.
///
/// Reads a tokens artifact and, for policies that need scores, an entropy artifact (nats); writes a masks artifact:
/// one table part for each part of the tokens and epoch.
#[derive(Parser)]
#[command(version, mut_args(|arg| hide_refused(arg, UNUSED)), after_help = format!("{EXAMPLE}\n\n{}", entromask_cli::EXIT_CODES_HELP))]
struct Args {
    /// The tokens artifact
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    tokens: Option<PathBuf>,
    /// The entropy artifact of these tokens
    #[arg(long, value_name = "DIR")]
    entropy: Option<PathBuf>,
    /// The entropy artifact of these tokens by a reference model, for the policy `reducible`
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Flags that choosing masks has no use for.
const UNUSED: &[&str] = &["--device"];

const EXAMPLE: &str = "Example: entromask-select --config pipelines/mask/sample.toml --tokens data/tokens/sample \
                       --entropy data/entropy/sample/modernbert-tiny-mlm-self-r3x1-kfold/round-1 --set epochs=4 \
                       --out data/masks/sample/mine";

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common, || select(&args))
}

fn select(args: &Args) -> anyhow::Result<()> {
    args.common.refuse("selection", UNUSED)?;
    let config: Config = entromask_cli::load(&args.common)?;
    if args.common.print_config {
        return entromask_cli::print_config(&args.common, &config);
    }
    let (entropy, reference) = (args.entropy.clone(), args.reference.clone());
    let tokens = args.tokens.clone().expect("clap requires it to select");
    let paths = Paths { tokens, entropy, reference, out: args.common.out()?.into() };
    if args.common.dry_run {
        return dry_run(&args.common, &config, &paths);
    }
    let report = run(&config, &paths)?;
    entromask_cli::emit(&args.common, &report, &report)
}
