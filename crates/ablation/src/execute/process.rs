//! One stage program at work.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use entromask_cli::{StopsWithUs, interrupted};
use entromask_fault::Class;
use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch;
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
    /// What went wrong, in its own words.
    Failed(String),
}

/// What a stage says. While it runs that is in a file of this process alone: whoever waits for the stage of another process
/// calls it again and again, and each answer would take the place of what the stage itself has said.
#[derive(Clone, Debug)]
pub(super) struct Log {
    kept: PathBuf,
    own: PathBuf,
}

impl Log {
    /// `name` is the stage's.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let name = name.replace('/', "-");
        let own = folder.join(format!("{name}.{}.log", std::process::id()));
        Self { kept: folder.join(format!("{name}.log")), own }
    }

    /// Where it will be when it is kept.
    pub(super) fn path(&self) -> &Path {
        &self.kept
    }

    /// Takes the place of what the stage said before.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        Ok(fs::rename(&self.own, &self.kept)?)
    }

    /// What it said before stays.
    pub(super) fn discard(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.own)?)
    }
}

/// Calls a stage and waits for it. If another process makes the same artifact, perhaps for another grid, it is waited for.
pub(super) fn call(stage: &Stage, place: &Place, log: &Log) -> anyhow::Result<Exit> {
    loop {
        let status = run(stage, place, &log.own)?;
        let code = status.code();
        let said = fs::read_to_string(&log.own).unwrap_or_default();
        let stopped = code == Some(i32::from(Class::Interrupted.exit_code()));
        return Ok(match code {
            Some(0) => Exit::Done,
            _ if interrupted() => Exit::Interrupted,
            Some(1) if last_words(&said).is_some_and(|words| words.contains(BUSY)) => {
                tracing::info!("{}: waits for another process", stage.out.display());
                if !nap(PATIENCE) {
                    return Ok(Exit::Interrupted);
                }
                continue;
            }
            _ if stopped => Exit::Failed("it was stopped from outside".into()),
            None => Exit::Failed(killed(status, &said)),
            _ => Exit::Failed(last_words(&said).unwrap_or_else(|| format!("it said nothing ({status})"))),
        });
    }
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

/// Sleeps; false if the user asked to stop meanwhile.
fn nap(time: Duration) -> bool {
    let naps = time.as_millis() / NAP.as_millis();
    (0..naps).all(|_| {
        std::thread::sleep(NAP);
        !interrupted()
    })
}

/// What a stage that was killed says of itself is what it was doing, and not why it ended.
fn killed(status: ExitStatus, said: &str) -> String {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    let by = signal.map_or_else(|| "it was killed".into(), |signal| format!("it was killed by {signal}"));
    let why = if signal == Some(Signal::SIGKILL) { ", perhaps because memory ran out" } else { "" };
    let last = last_words(said).map(|last| format!("; the last that it said: {last}")).unwrap_or_default();
    by + why + &last
}

/// The error that it ended with; the message of its first panic, which others may follow from; or its last line.
pub(super) fn last_words(said: &str) -> Option<String> {
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    error_in(said).or_else(|| panic_in(said)).or_else(|| Some(last.into()))
}

/// An error that nothing else follows, of one line or several.
fn error_in(said: &str) -> Option<String> {
    const OTHERS: [&str; 6] = ["INFO ", "WARN ", "DEBUG ", "TRACE ", "note: ", "stack backtrace:"];
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begin = lines.iter().rposition(|line| line.starts_with("ERROR "))?;
    let lines = &lines[begin..];
    let end = lines.iter().position(|line| OTHERS[4..].iter().any(|other| line.starts_with(other)));
    let lines = &lines[..end.unwrap_or(lines.len())];
    let goes_on = lines.iter().any(|line| OTHERS.iter().any(|other| line.starts_with(other)));
    (!goes_on).then(|| lines.join(" ")["ERROR ".len()..].to_owned())
}

/// `thread 'main' panicked at src/main.rs:1:2:` and the line after it. What follows is advice on backtraces.
fn panic_in(said: &str) -> Option<String> {
    let mut lines = said.lines().map(str::trim);
    let place = lines.find(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
    Some(format!("{place} {}", lines.next().unwrap_or_default()).trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "INFO reads the tokens\n\nthread 'main' (4711) panicked at crates/score/src/run.rs:12:5:\n\
        index out of bounds: the len is 3 but the index is 3\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\
        note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n";
    const MESSAGE: &str = "thread 'main' (4711) panicked at crates/score/src/run.rs:12:5: index out of bounds: \
        the len is 3 but the index is 3";

    #[test]
    fn a_panic_is_told_by_its_message() {
        assert_eq!(last_words(PANIC).as_deref(), Some(MESSAGE));
        let second = format!("{PANIC}\nthread 'main' panicked at a.rs:1:1:\na scoped thread panicked\n");
        assert_eq!(last_words(&second).as_deref(), Some(MESSAGE), "the first is the cause");
        let cut = "thread 'main' panicked at a.rs:1:1:";
        assert_eq!(last_words(cut).as_deref(), Some(cut));
    }

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
    fn only_a_last_word_that_another_process_is_at_work_is_waited_for() -> anyhow::Result<()> {
        let failing =
            "echo INFO another process is working on something else; echo ERROR no space left; exit 1";
        let (exit, log) = call_script(failing)?;
        assert_eq!(exit, Exit::Failed("no space left".into()));
        assert!(log.starts_with("INFO another") && log.ends_with("left\n"), "{log}");
        // Busy once.
        let busy = "d=$(dirname \"$0\"); test -e \"$d/busy\" && exit 0; touch \"$d/busy\"; \
            echo ERROR masks: another process is working on this artifact; exit 1";
        assert_eq!(call_script(busy)?.0, Exit::Done);
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

    #[test]
    fn an_error_is_told_without_its_level() {
        let long = "INFO a\nERROR first line\n  second line with detail\n";
        assert_eq!(last_words(long).as_deref(), Some("first line second line with detail"));
        let within = "INFO a\nERROR f: the server said ERROR 404\nnote: run with more\n";
        assert_eq!(last_words(within).as_deref(), Some("f: the server said ERROR 404"));
        let caught = "ERROR a\nINFO goes on";
        assert_eq!(last_words(caught).as_deref(), Some("INFO goes on"));
        assert_eq!(
            last_words("INFO a\nERROR a.toml: no such file\n\n").as_deref(),
            Some("a.toml: no such file")
        );
        let both = format!("{PANIC}ERROR a thread panicked\n");
        assert_eq!(last_words(&both).as_deref(), Some("a thread panicked"), "it was caught");
        assert_eq!(last_words("says nothing of errors\n").as_deref(), Some("says nothing of errors"));
        assert_eq!(last_words(" \n"), None);
    }
}
