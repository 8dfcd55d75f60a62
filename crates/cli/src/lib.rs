//! What all stage binaries have in common on the command line: flags, configuration, logs, bars, exit codes.
//!
//! stdout is for results, stderr for logs and bars; bars appear only on a terminal. A binary reads as
//!
//! ```no_run
//! use std::process::ExitCode;
//! use clap::Parser;
//! use entromask_cli::CommonArgs;
//!
//! #[derive(clap::Parser)]
//! #[command(after_help = entromask_cli::EXIT_CODES_HELP)]
//! struct Args {
//!     #[command(flatten)]
//!     common: CommonArgs,
//! }
//!
//! fn main() -> ExitCode {
//!     let args = Args::parse();
//!     entromask_cli::main(&args.common, || {
//!         let config: std::collections::BTreeMap<String, u32> = entromask_cli::load(&args.common)?;
//!         entromask_cli::emit(&args.common, format!("{config:?}"), &config)
//!     })
//! }
//! ```

mod apart;
mod args;
mod config;
mod interrupt;
mod misfit;
mod output;
mod parent;
mod plan;
mod print_config;
mod progress;
mod run;
mod shell;
mod terminal;

pub use apart::refuse_inputs;
pub use args::{CommonArgs, EXIT_CODES_HELP, OutputArgs, hide_refused, long_version};
pub use config::{load, load_file};
pub use interrupt::{StopsWithUs, ask_to_stop, check_interrupt, interrupted, stop_at_once};
pub use misfit::misfit;
pub use output::{OutputFile, emit};
pub use parent::stop_with_parent;
pub use plan::plan;
pub use print_config::print_config;
pub use progress::Progress;
pub use run::main;
pub use shell::quoted;
