//! `entromask-ablation`: runs a grid of experiments and reports on it.

use std::process::ExitCode;

use clap::Parser;
use entromask_ablation::command::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut became = Some(args.become_program());
    entromask_cli::main(&args.common(), || became.take().unwrap_or(Ok(())).and_then(|()| args.run()))
}
