//! Ctrl-C, SIGTERM and the hang-up of a terminal: finish the current piece of work, keep it, stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use entromask_fault::Fault;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What is said where the first signal stops the work.
static AT_ONCE: OnceLock<&str> = OnceLock::new();

/// Whether a second signal soon after the first is no other one, and what is soon.
static ASKED_TWICE: AtomicBool = AtomicBool::new(false);
const SOON: Duration = Duration::from_secs(1);

/// When the first signal came.
static FIRST: OnceLock<Instant> = OnceLock::new();

/// So that two signals do not become one.
const PAUSE: Duration = Duration::from_millis(100);

/// Groups of processes that end with this one.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A group of processes that this one has started and waits for: it is ended too when the user asks to stop at once.
#[derive(Debug)]
pub struct StopsWithUs(u32);

impl StopsWithUs {
    /// `leader` is the process whose number the group has.
    pub fn new(leader: u32) -> Self {
        groups().push(leader);
        Self(leader)
    }
}

impl Drop for StopsWithUs {
    fn drop(&mut self) {
        groups().retain(|leader| *leader != self.0);
    }
}

fn groups() -> std::sync::MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a process to end cleanly, as the user has asked this one.
pub fn ask_to_stop(process: u32) {
    // Who is gone needs no signal.
    let _ = i32::try_from(process).map(|process| kill(Pid::from_raw(process), Signal::SIGTERM));
}

/// For a process that another one has started and asks to stop: whoever signals both, as a terminal and a service manager do, asks it twice
/// in a moment, and means one.
pub(crate) fn is_asked_twice() {
    ASKED_TWICE.store(true, Ordering::Relaxed);
}

/// True once the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error once the user asked to stop; for the places between two pieces of work.
pub fn check_interrupt() -> anyhow::Result<()> {
    if interrupted() { Err(Fault::interrupted().into()) } else { Ok(()) }
}

/// For work of which nothing can be kept: the first signal stops it, with `remedy`.
pub fn stop_at_once(remedy: &'static str) {
    let _ = AT_ONCE.set(remedy);
}

/// The first signal asks to stop, the second one stops at once.
///
/// A hang-up that the parent had this process ignore stays ignored: that is how `nohup` keeps a run alive when its
/// terminal goes.
pub(crate) fn install() -> anyhow::Result<()> {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let hang_up = Some(SIGHUP).filter(|&signal| !ignores(&status, signal));
    entromask_artifact::ask_while_hashing(check_interrupt);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|_| ask()))?;
    Ok(())
}

fn ask() {
    let asked_before = INTERRUPTED.swap(true, Ordering::Relaxed);
    let soon = FIRST.get_or_init(Instant::now).elapsed() < SOON;
    if asked_before && soon && ASKED_TWICE.load(Ordering::Relaxed) {
        return;
    }
    if let Some(remedy) = AT_ONCE.get() {
        tracing::error!("interrupted; {remedy}");
    }
    if asked_before || AT_ONCE.get().is_some() {
        // Perhaps they were not asked yet: the second of two signals stops them at once, a third does no harm.
        for pause in [PAUSE, Duration::ZERO] {
            groups().iter().for_each(|&leader| end(leader));
            std::thread::sleep(pause);
        }
        output::remove_unfinished();
        std::process::exit(130);
    }
    tracing::warn!("asked to stop: ending cleanly; ask again to stop at once");
}

/// Who is gone needs no signal.
fn end(leader: u32) {
    let _ = i32::try_from(leader).map(|leader| killpg(Pid::from_raw(leader), Signal::SIGTERM));
}

/// Whether a process with this `/proc/PID/status` ignores `signal`; no where there is no such file.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tx\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000000001\n";
        assert!(ignores(status, SIGHUP) && !ignores(status, SIGINT) && !ignores(status, SIGTERM));
        assert!(!ignores("", SIGHUP));
    }
}
