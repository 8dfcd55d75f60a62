//! The binary `entromask-pretrain`.

mod args;

use std::process::ExitCode;

use clap::Parser;
use entromask_device::check_dtype;
use entromask_pretrain::{Compute, Config, check, recipe, run};

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
            check(&config, &paths, &args.common.device)?;
            let recipe = || recipe(&config, &paths, &args.common.dtype);
            let runs = entromask_cli::plan(&args.common, &paths.out, &paths.inputs(), recipe)?;
            return if runs { check_dtype(&args.common.device, &args.common.dtype) } else { Ok(()) };
        }
        let report =
            run(&config, &paths, Compute { device: &args.common.device, dtype: &args.common.dtype })?;
        entromask_cli::emit(&args.common, &report, &report)
    })
}
