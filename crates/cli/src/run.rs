//! The frame of a binary: logs, threads, signals, and the exit code at the end.

use std::io::Write;
use std::process::ExitCode;

use entromask_fault::{Fault, class_of};
use tracing_subscriber::EnvFilter;

use crate::{CommonArgs, interrupt, progress};

/// Runs a stage and turns its outcome into the process's exit code; errors are logged on stderr.
pub fn main(common: &CommonArgs, run: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    start_logging(common);
    match prepare(common).and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(class_of(error.as_ref()).exit_code())
        }
    }
}

/// An error is seen whatever `RUST_LOG` asks for.
fn report(error: &anyhow::Error) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error:#}");
    } else {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(std::io::stderr(), "ERROR {error:#}");
    }
}

fn prepare(common: &CommonArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    if let Some(threads) = common.threads {
        if threads == 0 {
            return Err(Fault::usage("--threads 0").remedy("give at least one thread").into());
        }
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}

fn start_logging(common: &CommonArgs) {
    let level = match (common.output.quiet, common.output.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    if common.output.quiet {
        progress::hide();
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter(level)));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| progress::AboveBars);
    let logs = logs.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second start, as in tests of several stages in one process, keeps the first.
    let _ = logs.without_time().compact().try_init();
}

/// Our crates at `level`, libraries only when something is wrong (or everything is asked for).
fn filter(level: &str) -> String {
    if level == "trace" {
        return level.into();
    }
    let ours = [
        "tokenize", "score", "select", "pretrain", "glue", "report", "ablation", "training", "encoder",
        "cli", "artifact",
    ];
    ours.iter().fold("warn".into(), |filter, name| format!("{filter},entromask_{name}={level}"))
}
