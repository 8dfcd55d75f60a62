//! `entromask-report`: looks at artifacts, writes pages about runs, finds garbage, examines the machine.

use std::process::ExitCode;

use clap::Parser;
use entromask_report::command::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common(), || args.run())
}
