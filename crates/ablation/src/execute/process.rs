//! One stage program at work.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use entromask_cli::{StopsWithUs, interrupted};
use entromask_fault::Class;
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch;
use super::log::Log;
use super::words::last_words;
use crate::plan::{Place, Stage};

/// How often a program is looked after.
const NAP: Duration = Duration::from_millis(50);

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The artifact is there.
    Done,
    /// The user asked to stop.
    Interrupted,
    /// What went wrong, in its own words.
    Failed(String),
}

/// Calls a stage and waits for it. If another process makes the same artifact, perhaps for another grid, the stage waits for that.
pub(super) fn call(stage: &Stage, place: &Place, log: &Log) -> anyhow::Result<Exit> {
    let status = run(stage, place, &log.own)?;
    let code = status.code();
    let said = fs::read_to_string(&log.own).unwrap_or_default();
    let stopped = code == Some(i32::from(Class::Interrupted.exit_code()));
    Ok(match code {
        Some(0) => Exit::Done,
        _ if interrupted() => Exit::Interrupted,
        _ if stopped => Exit::Failed("it was stopped from outside".into()),
        None => Exit::Failed(killed(status, &said)),
        _ => Exit::Failed(last_words(&said).unwrap_or_else(|| format!("it said nothing ({status})"))),
    })
}

fn run(stage: &Stage, place: &Place, log: &Path) -> anyhow::Result<ExitStatus> {
    let (program, args) = stage.command(place);
    let file = fs::File::create(log)?.into_parts().0;
    let mut command = launch::command(place.launcher.as_deref(), &program);
    command.args(args).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // A group of its own: Ctrl-C reaches this process only, which passes it on once. A second signal would end a stage at
    // once.
    let child =
        command.process_group(0).spawn().map_err(|error| launch::cannot_be_started(&program, &error))?;
    wait(child)
}

fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    let (mut asked, _stops) = (false, StopsWithUs::new(child.id()));
    loop {
        if let Some(status) = child.try_wait().context("a stage cannot be waited for")? {
            return Ok(status);
        }
        if interrupted() && !asked {
            asked = true;
            kill(Pid::from_raw(child.id().try_into()?), Signal::SIGTERM)?;
        }
        std::thread::sleep(NAP);
    }
}

/// What a stage that was killed says of itself is what it was doing, and not why it ended.
fn killed(status: ExitStatus, said: &str) -> String {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    let by = signal.map_or_else(|| "it was killed".into(), |signal| format!("it was killed by {signal}"));
    let why = if signal == Some(Signal::SIGKILL) { ", perhaps because memory ran out" } else { "" };
    let last = last_words(said).map(|last| format!("; the last that it said: {last}")).unwrap_or_default();
    by + why + &last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another process writes it. What a test beside this one starts just then has the files that are open here until it
    /// becomes another program, and one that is open for writing cannot be started.
    fn write_program(path: &Path, text: &str) -> anyhow::Result<()> {
        let write = ["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""];
        let status = std::process::Command::new("sh").args(write).arg(path).arg(text).status()?;
        anyhow::ensure!(status.success(), "{}: {status}", path.display());
        Ok(())
    }

    /// A stage program that is this script.
    fn call_script(script: &str) -> anyhow::Result<(Exit, String)> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("entromask-select");
        write_program(&program, &format!("#!/bin/sh\n{script}\n"))?;
        let stage = Stage {
            program: crate::plan::Program::Select,
            out: folder.path().join("masks"),
            inputs: vec![],
            args: vec![],
            class: String::new(),
        };
        let place = Place { bin: folder.path().into(), device: "cpu".into(), threads: None, launcher: None };
        let log = Log::new(folder.path(), "masks/a");
        fs::write(log.path(), "what was said before")?;
        let exit = call(&stage, &place, &log)?;
        log.keep()?;
        Ok((exit, fs::read_to_string(folder.path().join("masks-a.log"))?))
    }

    #[test]
    fn what_failed_has_its_last_word_and_is_told_to_wait_for_others() -> anyhow::Result<()> {
        let (exit, log) =
            call_script("echo INFO it is called with \"$@\"; echo ERROR no space left; exit 1")?;
        assert_eq!(exit, Exit::Failed("no space left".into()));
        assert!(log.starts_with("INFO it is called with --wait") && log.ends_with("left\n"), "{log}");
        Ok(())
    }

    #[test]
    fn what_was_killed_says_so() -> anyhow::Result<()> {
        let (exit, _) = call_script("echo INFO step 200 of 1,200; kill -9 $$")?;
        let said = "it was killed by SIGKILL, perhaps because memory ran out; the last that it said: INFO step 200 of 1,200";
        assert_eq!(exit, Exit::Failed(said.into()));
        assert_eq!(call_script("exit 7")?.0, Exit::Failed("it said nothing (exit status: 7)".into()));
        Ok(())
    }
}
