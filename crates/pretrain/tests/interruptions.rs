//! Runs that are killed, interrupted, or lose whoever watched them.

#[expect(dead_code, reason = "the unit tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use session::{Session, assert_same_content, json, rows, signal};

#[test]
fn a_killed_run_ends_with_the_same_bits() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let whole = session.train(&masks, "whole", &[])?;
    for stop in [3, 40] {
        let mut child = session.started(&masks, "killed", stop, &[])?;
        child.kill()?;
        assert!(!child.wait()?.success());
    }
    assert!(!session.fixture.path("killed/manifest.json").exists());
    let resumed = session.train(&masks, "killed", &[])?;
    assert_same_content(&whole, &resumed)?;
    assert_eq!(rows(&whole)?.iter().filter(|row| row.get("loss").is_some()).count(), 96);
    Ok(())
}

#[test]
fn the_time_before_a_kill_is_part_of_the_cost() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let mut child = session.started(&masks, "model", 1, &[])?;
    // However fast the machine, the run is more than a second old when it goes on.
    signal(&child, "STOP")?;
    std::thread::sleep(Duration::from_millis(1200));
    signal(&child, "CONT")?;
    let notes = || -> Vec<String> {
        let entries = std::fs::read_dir(session.fixture.path("model")).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".elapsed-"));
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    };
    while notes().is_empty() {
        ensure!(child.try_wait()?.is_none(), "ended without a note of its time");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    let note: serde_json::Value = serde_json::from_str(&notes()[0])?;
    let before = note["seconds"].as_f64().context("seconds")?;
    let began = std::time::Instant::now();
    let model = session.train(&masks, "model", &[])?;
    let (seconds, second_run) =
        (json(&model.join("manifest.json"))?["cost"]["seconds"].clone(), began.elapsed().as_secs_f64());
    let seconds = seconds.as_f64().context("a number")?;
    assert!(
        before >= 1.0 && (before..before + second_run).contains(&seconds),
        "{before} {second_run} {seconds}"
    );
    assert!(notes().is_empty());
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_last_step() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let mut child = session.started(&masks, "model", 5, &[])?;
    signal(&child, "INT")?;
    assert_eq!(child.wait()?.code(), Some(130));
    let state =
        std::fs::read_dir(session.fixture.path("model/state"))?.next().context("a state folder")??.path();
    let checkpoints = std::fs::read_dir(&state)?.flatten().map(|entry| entry.file_name().into_string());
    let newest = checkpoints.filter_map(Result::ok).filter(|name| name.starts_with("step-")).max();
    let step: usize = newest.context("a checkpoint")?["step-".len()..].parse()?;
    let log = std::fs::read_to_string(state.join("metrics.jsonl"))?;
    let losses = log.lines().filter(|line| line.contains("\"loss\"")).count();
    assert_eq!(step, losses, "no step is lost");
    let planned = session.command(&masks, "model").arg("--dry-run").output()?;
    let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.contains(&format!("interrupted with a checkpoint at step {step}")), "{planned}");
    Ok(())
}

/// A validation may take minutes.
#[cfg(unix)]
#[test]
fn who_stops_a_run_while_it_validates_loses_no_validation() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let often = ["--set", "validation.every=1"];
    let whole = session.train(&masks, "whole", &often)?;
    for stop in (5..90).step_by(12) {
        let mut child = session.started(&masks, "stopped", stop, &often)?;
        signal(&child, "INT")?;
        assert_eq!(child.wait()?.code(), Some(130));
    }
    assert_same_content(&whole, &session.train(&masks, "stopped", &often)?)
}

/// Bars and logs are drawn on what may be gone from one moment to the next: a dropped connection, the reader of a pipe.
#[test]
fn a_run_goes_on_without_its_terminal() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let whole = session.train(&masks, "whole", &[])?;
    let (reader, pipe) = std::io::pipe()?;
    let terminal = terminal()?;
    let watched = [
        ("piped", File::from(OwnedFd::from(pipe)), OwnedFd::from(reader)),
        ("drawn", File::from(terminal.slave), terminal.master),
    ];
    for (out, stderr, watcher) in watched {
        // Without a kind of terminal there are no bars.
        let mut command = session.command(&masks, out);
        let mut child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(stderr).spawn()?;
        drop(command);
        session.wait_for(&mut child, out, 2)?;
        drop(watcher);
        let status = child.wait()?;
        assert!(status.success(), "{out}: {status}");
        assert_same_content(&whole, &session.fixture.path(out))?;
    }
    Ok(())
}

/// Of which the run has but what it writes to.
fn terminal() -> Result<OpenptyResult> {
    let terminal = openpty(None, None)?;
    for end in [&terminal.master, &terminal.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(terminal)
}
