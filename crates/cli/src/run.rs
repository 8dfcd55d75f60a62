//! The frame of a binary: logs, threads, signals, and the exit code at the end.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use entromask_fault::{Class, Fault, class_of};
use tracing_subscriber::EnvFilter;

use crate::{CommonArgs, interrupt, progress};

/// No machine has more cores, and so many threads take minutes to start.
const MAX_THREADS: usize = 1024;

/// How long to wait for another process before the next try, and how soon a signal is noticed meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
const NAP: Duration = Duration::from_millis(50);

/// What libraries say of a full disk that keep no error of input and output.
const NO_SPACE: &str = "No space left on device";

/// Runs a stage and turns its outcome into the process's exit code; errors are logged on stderr.
pub fn main(common: &CommonArgs, run: impl FnMut() -> anyhow::Result<()>) -> ExitCode {
    start_logging(common);
    match prepare(common).and_then(|()| in_turn(common, run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let class = class_of(error.as_ref());
            let text = remedied(&error);
            let place = blamed(common, &text).filter(|_| class == Class::Usage);
            report(&place.map_or_else(|| text.clone(), |file| format!("{}: {text}", file.display())));
            ExitCode::from(class.exit_code())
        }
    }
}

/// With `--wait`, tries again until no other process is at work on the same. What that one has made is up to date then.
fn in_turn(common: &CommonArgs, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut is_told = false;
    loop {
        match run() {
            Err(error) if common.wait && class_of(error.as_ref()) == Class::Busy => {
                if !is_told {
                    tracing::info!("waiting: {}", error.to_string().split(';').next().unwrap_or_default());
                    is_told = true;
                }
                nap()?;
            }
            outcome => return outcome,
        }
    }
}

/// Sleeps until it is time for another try.
fn nap() -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        interrupt::check_interrupt()?;
        std::thread::sleep(NAP);
    }
    Ok(())
}

/// Stages write in many places, and what a full disk asks for is the same in all of them.
fn remedied(error: &anyhow::Error) -> String {
    let is_full = |link: &(dyn std::error::Error + 'static)| {
        link.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::StorageFull)
            || link.to_string().contains(NO_SPACE)
    };
    let remedy = if error.chain().any(is_full) {
        "; free some space and run the same command again: what is finished is kept"
    } else {
        ""
    };
    format!("{error:#}{remedy}")
}

/// An error is seen whatever `RUST_LOG` asks for.
fn report(error: &str) {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
    } else {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(std::io::stderr(), "ERROR {error}");
    }
}

/// The configuration file that sets the key which an error such as `rate = 15; …` or `` `epochs` is 0; … `` begins with, if
/// `--set` does not.
fn blamed<'a>(common: &'a CommonArgs, error: &str) -> Option<&'a Path> {
    let quoted = || error.strip_prefix('`')?.split_once('`');
    let (key, _) = quoted().or_else(|| error.split_once(" = "))?;
    let file = common.config.as_deref().filter(|_| !key.contains(char::is_whitespace))?;
    let name = key.rsplit('.').next().unwrap_or(key);
    let sets = |text: &str| {
        let mut behind = text.match_indices(name).map(|(at, _)| text[at + name.len()..].trim_start());
        behind.any(|rest| rest.starts_with('='))
    };
    let by_flag = common.set.iter().any(|set| sets(set));
    (!by_flag && fs_err::read_to_string(file).is_ok_and(|text| sets(&text))).then_some(file)
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
    // It holds for all names that begin so.
    format!("warn,entromask={level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_key_names_the_file_that_sets_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("mask.toml");
        fs_err::write(&file, "rate = 15\npolicy = { name = \"mixed\", share = 3 }\n")?;
        let common = CommonArgs { config: Some(file.clone()), ..CommonArgs::default() };
        for error in ["rate = 15; give less", "policy.share = 3; give less", "`rate` is 15; give less"] {
            assert_eq!(blamed(&common, error), Some(file.as_path()), "{error}");
        }
        for error in ["epochs = 0; give more", "--threads 0", "no such = thing"] {
            assert_eq!(blamed(&common, error), None, "{error}");
        }
        let set = CommonArgs { set: vec!["rate=15".into()], ..common };
        assert_eq!(blamed(&set, "rate = 15; give less"), None);
        Ok(())
    }

    #[test]
    fn who_is_told_to_wait_tries_again_until_nobody_else_is_at_work() {
        let attempts = |wait, fault: Fault| {
            let (common, mut attempts) = (CommonArgs { wait, ..CommonArgs::default() }, 0);
            let outcome = in_turn(&common, || {
                attempts += 1;
                if attempts == 1 { Err(fault.clone().into()) } else { Ok(()) }
            });
            (attempts, outcome.is_ok())
        };
        assert_eq!(attempts(true, Fault::busy("masks: another process is at work")), (2, true));
        assert_eq!(attempts(false, Fault::busy("masks: another process is at work")), (1, false));
        assert_eq!(attempts(true, Fault::failed("broke off")), (1, false));
    }

    #[test]
    fn a_full_disk_has_a_remedy_wherever_it_is_met() {
        let io =
            anyhow::Error::from(std::io::Error::from(ErrorKind::StorageFull)).context("model.safetensors");
        let library = anyhow::anyhow!("External: {NO_SPACE} (os error 28)");
        for error in [io, library] {
            assert!(
                remedied(&error).contains("; free some space and run the same command again"),
                "{error:#}"
            );
        }
        assert_eq!(remedied(&anyhow::anyhow!("broke off")), "broke off");
    }

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
