//! `entromask-ablation`: runs a grid of experiments and reports on it.

use std::process::ExitCode;

use clap::Parser;
use entromask_ablation::command::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let became = args.become_program();
    entromask_cli::main(&args.common(), || became.and_then(|()| args.run()))
}
