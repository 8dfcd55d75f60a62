//! Ending with the process that has started this one, also where that is killed and cannot ask for it.

use std::os::unix::process::parent_id;

use entromask_fault::Fault;

use crate::interrupt::is_asked_twice;

/// Lets the system ask this process to stop (SIGTERM) when `parent`, which has started it, is gone. Only Linux tells of that.
///
/// # Errors
/// If the system refuses; a [`Fault`] of class interrupted if `parent` is gone already.
pub fn stop_with_parent(parent: u32) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    is_asked_twice();
    // It may have been gone before it could be asked for.
    if parent_id() == parent { Ok(()) } else { Err(Fault::interrupted().into()) }
}
