//! What is up to date, and why the rest is not.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use entromask_cli::check_interrupt;
use serde::Deserialize;
use serde_json::Value;

use super::launch;
use crate::plan::{Place, Plan, Stage};

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its artifact is what it would make.
    UpToDate,
    /// It would run.
    Pending(Pending),
    /// It would fail.
    Broken(Broken),
}

/// What a stage would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Why.
    pub reasons: Vec<String>,
    /// What it would make, if all that it reads is up to date.
    pub target: Option<Target>,
}

/// What an artifact would be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its key.
    pub key: String,
    /// Its resolved configuration.
    pub config: Value,
}

/// How a stage fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What it says.
    pub words: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
}

#[derive(Deserialize)]
struct Answer {
    up_to_date: bool,
    reasons: Vec<String>,
    key: Option<String>,
    config: Option<Value>,
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
            Some(needed) => Standing::Pending(Pending {
                reasons: vec![format!("{} will be made first", plan.stages[needed].name(data))],
                target: None,
            }),
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
        let words = String::from_utf8_lossy(&output.stderr).trim().into();
        return Ok(Standing::Broken(Broken { words, code: output.status.code() }));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)?;
    Ok(answer.standing())
}

impl Answer {
    fn standing(self) -> Standing {
        if self.up_to_date {
            return Standing::UpToDate;
        }
        let target = self.key.zip(self.config).map(|(key, config)| Target { key, config });
        Standing::Pending(Pending { reasons: self.reasons, target })
    }
}
