//! Ctrl-C and SIGTERM: finish the current piece of work, keep it, stop.

use std::sync::atomic::{AtomicBool, Ordering};

use entromask_fault::Fault;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// True once the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error once the user asked to stop; for the places between two pieces of work.
pub fn check_interrupt() -> anyhow::Result<()> {
    if interrupted() { Err(Fault::interrupted().into()) } else { Ok(()) }
}

/// The first signal asks to stop, the second one stops at once.
pub(crate) fn install() -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tracing::warn!("asked to stop: ending cleanly; ask again to stop at once");
    })?)
}
