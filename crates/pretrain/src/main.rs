//! The binary `entromask-pretrain`.

mod args;

use std::process::ExitCode;

use clap::Parser;
use entromask_pretrain::{Compute, Config, dry_run, run};

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(args.common(), || match &args.command {
        Some(Command::Validate(validate)) => validate.run(),
        None => train(&args),
    })
}

fn train(args: &Args) -> anyhow::Result<()> {
    let common = args.common();
    let config: Config = entromask_cli::load(common)?;
    config.check()?;
    if common.print_config {
        return entromask_cli::print_config(common, &config);
    }
    let paths = args.paths()?;
    if common.dry_run {
        return dry_run(common, &config, &paths);
    }
    let report = run(&config, &paths, Compute { device: &common.device, dtype: &common.dtype })?;
    entromask_cli::emit(common, &report, &report)
}
