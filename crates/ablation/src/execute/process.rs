//! One stage program at work.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use entromask_cli::interrupted;
use entromask_fault::{Class, Fault};
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::plan::{Place, Stage};

/// How often a program is looked after.
const NAP: Duration = Duration::from_millis(50);
/// How long to wait for another process that makes the same artifact before the next try.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a stage says whose artifact another process is making.
const BUSY: &str = "another process is working on";

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The artifact is there.
    Done,
    /// The user asked to stop.
    Interrupted,
    /// The last line that it said.
    Failed(String),
}

/// Calls a stage and waits for it. What it says goes to `log`. If another process makes the same artifact, perhaps for
/// another grid, it is waited for.
pub(super) fn call(stage: &Stage, place: &Place, log: &Path) -> anyhow::Result<Exit> {
    loop {
        let code = run(stage, place, log)?;
        let said = fs::read_to_string(log).unwrap_or_default();
        let stopped = code == Some(i32::from(Class::Interrupted.exit_code()));
        return Ok(match code {
            Some(0) => Exit::Done,
            _ if interrupted() => Exit::Interrupted,
            Some(1) if said.contains(BUSY) => {
                tracing::info!("{}: waits for another process", stage.out.display());
                if !nap(PATIENCE) {
                    return Ok(Exit::Interrupted);
                }
                continue;
            }
            _ if stopped => Exit::Failed("it was stopped from outside".into()),
            _ => Exit::Failed(last_line(&said).unwrap_or_else(|| "it was killed".into())),
        });
    }
}

/// The exit code, if it was not killed.
fn run(stage: &Stage, place: &Place, log: &Path) -> anyhow::Result<Option<i32>> {
    let (program, args) = stage.command(place);
    let file = fs::File::create(log)?.into_parts().0;
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // A group of its own: Ctrl-C reaches this process only, which passes it on once. A second signal would end a stage at
    // once.
    let child = command.process_group(0).spawn().map_err(|error| {
        Fault::input(format!("{}: cannot be started: {error}", program.display()))
            .remedy("build the stages with `make build`, or name their folder with --bin")
    })?;
    wait(child)
}

fn wait(mut child: Child) -> anyhow::Result<Option<i32>> {
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait().context("a stage cannot be waited for")? {
            return Ok(status.code());
        }
        if interrupted() && !asked {
            asked = true;
            kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
        }
        std::thread::sleep(NAP);
    }
}

/// Sleeps; false if the user asked to stop meanwhile.
fn nap(time: Duration) -> bool {
    let naps = time.as_millis() / NAP.as_millis();
    (0..naps).all(|_| {
        std::thread::sleep(NAP);
        !interrupted()
    })
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.strip_prefix("ERROR ").unwrap_or(line).into())
}
