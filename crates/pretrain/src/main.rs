//! The binary `entromask-pretrain`.

mod args;

use std::process::ExitCode;

use clap::Parser;
use entromask_pretrain::{Compute, Config, dry_run, run};

use args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    entromask_cli::main(&args.common, || {
        let config: Config = entromask_cli::load(&args.common)?;
        config.check()?;
        if args.common.print_config {
            return entromask_cli::print_config(&args.common, &config);
        }
        let paths = args.paths()?;
        if args.common.dry_run {
            return dry_run(&args.common, &config, &paths);
        }
        let report =
            run(&config, &paths, Compute { device: &args.common.device, dtype: &args.common.dtype })?;
        entromask_cli::emit(&args.common, &report, &report)
    })
}
