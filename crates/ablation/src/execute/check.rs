//! What is up to date, and why the rest is not.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use entromask_cli::check_interrupt;
use serde::Deserialize;

use super::launch;
use crate::plan::{Place, Plan, Stage};

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its artifact is what it would make.
    UpToDate,
    /// It would run, for these reasons.
    Pending(Vec<String>),
    /// It would fail, with these words.
    Broken(String),
}

#[derive(Deserialize)]
struct Answer {
    up_to_date: bool,
    reasons: Vec<String>,
}

/// Asks each stage of `plan` whether there is work; nothing is made.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) of class input if a program cannot be started, and of class interrupted if the user asked to stop: whoever
/// goes on from half of the answers would take what is there for missing.
pub fn check(plan: &Plan, place: &Place, data: &Path) -> anyhow::Result<Vec<Standing>> {
    let mut standings = Vec::with_capacity(plan.stages.len());
    for (index, stage) in plan.stages.iter().enumerate() {
        check_interrupt()?;
        let first = plan.needs(index).find(|&needed| standings[needed] != Standing::UpToDate);
        standings.push(match first {
            Some(needed) => {
                Standing::Pending(vec![format!("{} will be made first", plan.stages[needed].name(data))])
            }
            None => ask(stage, place)?,
        });
    }
    Ok(standings)
}

fn ask(stage: &Stage, place: &Place) -> anyhow::Result<Standing> {
    let (program, args) = stage.command(place);
    let mut command = Command::new(&program);
    command.args(args).args(["--dry-run", "--json", "-q"]);
    // A group of its own: Ctrl-C must not end it, since that would look like a stage that cannot run.
    let output =
        command.process_group(0).output().map_err(|error| launch::cannot_be_started(&program, &error))?;
    if !output.status.success() {
        return Ok(Standing::Broken(String::from_utf8_lossy(&output.stderr).trim().into()));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    Ok(if answer.up_to_date { Standing::UpToDate } else { Standing::Pending(answer.reasons) })
}
