//! The frame of a binary: logs, threads, signals, and the exit code at the end.

use std::io::Write;
use std::process::ExitCode;

use entromask_fault::{Fault, class_of};
use tracing_subscriber::EnvFilter;

use crate::{CommonArgs, interrupt, progress};

/// No machine has more cores, and so many threads take minutes to start.
const MAX_THREADS: usize = 1024;

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
        check_threads(threads)?;
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    Ok(())
}

fn check_threads(threads: usize) -> Result<(), Fault> {
    if (1..=MAX_THREADS).contains(&threads) {
        return Ok(());
    }
    Err(Fault::usage(format!("--threads {threads}")).remedy(format!("give 1 to {MAX_THREADS} threads")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_threads_that_no_machine_has_are_refused() {
        for threads in [0, MAX_THREADS + 1, 100_000, usize::MAX] {
            let fault = check_threads(threads).unwrap_err();
            assert_eq!(fault.class().exit_code(), 2);
            assert_eq!(fault.to_string(), format!("--threads {threads}; give 1 to 1024 threads"));
        }
        assert!([1, MAX_THREADS].into_iter().all(|threads| check_threads(threads).is_ok()));
    }
}
