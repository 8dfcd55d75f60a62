//! `entromask-ablation`: runs a grid of experiments and reports on it.

use std::process::ExitCode;

use clap::Parser;
use entromask_ablation::command::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common(), || args.run())
}
