//! Whether the programs understand what a plan configures them with, before anything is made.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use entromask_cli::check_interrupt;
use entromask_fault::Fault;
use tempfile::NamedTempFile;

use super::check::Standing;
use super::launch;
use super::words::last_words;
use crate::plan::{Place, Plan, Program, Stage};

/// Training and fine-tuning come last, and should not fail for a configuration or for want of tasks when all else is made.
///
/// # Errors
/// A [`Fault`] of class usage for a mistake in a configuration, of class input if a task or a program is missing.
pub fn check_configs(plan: &Plan, place: &Place, standings: &[Standing]) -> anyhow::Result<()> {
    let (mut asked, unmade) = (BTreeSet::new(), unmade(plan, standings)?);
    for stage in &plan.stages {
        if let Some(question) = question(stage, place, unmade.path())
            && asked.insert((stage.program, settings(stage)))
        {
            check_interrupt()?;
            ask(stage, place, &question)?;
        }
    }
    Ok(())
}

/// A list of all that is to be made, so that no stage looks for it, nor at what is in its place.
fn unmade(plan: &Plan, standings: &[Standing]) -> anyhow::Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("no temporary file can be made")?;
    let stages = plan.stages.iter().zip(standings);
    for (stage, _) in stages.filter(|(_, standing)| **standing != Standing::UpToDate) {
        writeln!(file, "{}", stage.out.components().collect::<PathBuf>().display())?;
    }
    Ok(file)
}

/// What a stage is asked; none of those that show their mistakes early. `unmade` lists what is to be made.
fn question(stage: &Stage, place: &Place, unmade: &Path) -> Option<Vec<String>> {
    let pending = ["--dry-run".into(), "--pending".into(), unmade.display().to_string()];
    match stage.program {
        Program::Pretrain => Some([&stage.command(place).1[..], &pending].concat()),
        Program::Glue => Some([vec!["data".into()], settings(stage)].concat()),
        Program::Tokenize | Program::Score | Program::Select => None,
    }
}

/// Those of its arguments that say how it is configured.
fn settings(stage: &Stage) -> Vec<String> {
    const FLAGS: [&str; 3] = ["--config", "--set", "--student"];
    let pairs = stage.args.windows(2).filter(|pair| FLAGS.contains(&pair[0].as_str()));
    pairs.flatten().cloned().collect()
}

fn ask(stage: &Stage, place: &Place, question: &[String]) -> anyhow::Result<()> {
    let program = place.bin.join(stage.program.file());
    // A group of its own: Ctrl-C must not end it, since that would look like a mistake.
    let mut command = Command::new(&program);
    let output = command.args(question).arg("-q").process_group(0).output();
    let output = output.map_err(|error| launch::cannot_be_started(&program, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words = last_words(&said).unwrap_or_else(|| format!("{} ({})", program.display(), output.status));
    Err(fault(output.status.code(), named(stage, words)).into())
}

/// A mistake in a shape names no file: it is that of the stage.
fn named(stage: &Stage, words: String) -> String {
    let is_named = settings(stage).iter().any(|file| words.contains(file));
    if stage.program != Program::Pretrain || is_named {
        return words;
    }
    format!("{}: {words}", stage.out.display())
}

/// A failure of the class that a program ended with.
pub(crate) fn fault(code: Option<i32>, words: String) -> Fault {
    match code {
        Some(2) => Fault::usage(words),
        Some(3) => Fault::input(words),
        Some(4) => Fault::device(words),
        _ => Fault::failed(words),
    }
}
