//! Stages end with the grid that started them, also where that is killed and cannot ask them to.
//!
//! Linux stops a process whose parent is gone if it has asked for that, and what it has asked for stays when it becomes another
//! program. So a stage begins as this program, asks, and becomes the stage's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use entromask_cli::stop_with_parent;
use entromask_fault::Fault;

/// How this program is called to become a stage's.
pub(crate) const BECOME: &str = "become";

/// This program, as it runs, even if its file was replaced meanwhile; only Linux tells of parents.
pub(crate) fn launcher() -> Option<PathBuf> {
    cfg!(target_os = "linux").then(|| "/proc/self/exe".into())
}

/// A call of `program`, by the `launcher` if there is one.
pub(super) fn command(launcher: Option<&Path>, program: &Path) -> Command {
    let Some(launcher) = launcher else { return Command::new(program) };
    let mut command = Command::new(launcher);
    command.arg(BECOME).arg(std::process::id().to_string()).arg("--").arg(program);
    command
}

/// Becomes the program that `words` call, which is asked to stop when `parent` is gone. Returns only if that fails.
pub(crate) fn become_program(parent: u32, words: &[OsString]) -> anyhow::Error {
    if let Err(error) = stop_with_parent(parent) {
        return error;
    }
    let Some((program, args)) = words.split_first() else {
        return Fault::usage(format!("{BECOME}: no program")).into();
    };
    cannot_be_started(Path::new(program), &Command::new(program).args(args).exec()).into()
}

/// What to say of a program that is not there, or is none.
pub(super) fn cannot_be_started(program: &Path, error: &std::io::Error) -> Fault {
    Fault::input(format!("{}: cannot be started: {error}", program.display()))
        .remedy("build the stages with `make build`, or name their folder with --bin")
}
