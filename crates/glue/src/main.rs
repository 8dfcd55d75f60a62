//! `entromask-glue`: scores of a model folder on GLUE.

use std::process::ExitCode;

use clap::Parser;
use entromask_glue::command::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(args.common(), || args.run())
}
