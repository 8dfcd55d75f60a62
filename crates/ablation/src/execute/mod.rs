//! Workers that make the stages of a plan side by side, each stage once.

mod check;
mod configs;
mod estimate;
mod launch;
mod log;
mod process;
mod queue;
mod words;

use std::path::{Path, PathBuf};
use std::time::Instant;

use entromask_artifact::{Kind, Manifest};
use entromask_cli::interrupted;

use crate::plan::{Place, Plan};
pub use check::{Broken, Pending, Standing, Target, check};
pub use configs::check_configs;
pub(crate) use configs::fault;
use estimate::Estimate;
pub(crate) use launch::{BECOME, become_program, launcher};
use log::Log;
pub(crate) use log::{failure, log_folder};
use process::Exit;
use queue::Queue;

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where stages run.
    pub place: Place,
    /// Stages that run side by side.
    pub jobs: usize,
    /// Folder for what the stages say.
    pub logs: PathBuf,
    /// Folder of the artifacts, which names are shown without.
    pub data: PathBuf,
}

/// What has become of the stages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Stages that failed, and the last they said.
    pub failed: Vec<(usize, String)>,
    /// Stages that were not made because one before them failed.
    pub skipped: Vec<usize>,
    /// Whether the user asked to stop.
    pub interrupted: bool,
}

/// Makes all stages of `plan` that are not up to date. What fails takes along what follows from it, and nothing else.
///
/// # Errors
/// If a program cannot be started or a log cannot be written, which is a [`Fault`](entromask_fault::Fault) of class usage where it shows
/// before there is work.
pub fn execute(plan: &Plan, options: &Options) -> anyhow::Result<Outcome> {
    let standings = check(plan, &options.place, &options.data)?;
    let logs = log::prepare(&options.logs, plan, &options.data);
    if logs.is_err() && standings.iter().all(|standing| *standing == Standing::UpToDate) {
        tracing::info!("all stages are up to date");
        return Ok(Outcome::default());
    }
    logs?;
    let (queue, estimate) = (Queue::new(plan), Estimate::new(plan, options.jobs));
    let worker = || -> anyhow::Result<()> {
        while let Some(index) = queue.next() {
            let work = Work { plan, options, standings: &standings, queue: &queue, estimate: &estimate };
            let exit = work.make(index);
            queue.finish(index, exit.as_ref().ok());
            exit?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // More workers than stages would wait for the end.
        let workers: Vec<_> = (0..options.jobs.min(plan.stages.len())).map(|_| scope.spawn(worker)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")));
        joined.collect::<Vec<_>>().into_iter().collect::<anyhow::Result<Vec<()>>>()
    })?;
    Ok(queue.outcome(interrupted()))
}

/// What it takes to make a stage.
struct Work<'a> {
    plan: &'a Plan,
    options: &'a Options,
    /// Before anything was made.
    standings: &'a [Standing],
    queue: &'a Queue<'a>,
    estimate: &'a Estimate<'a>,
}

impl Work<'_> {
    fn make(&self, index: usize) -> anyhow::Result<Exit> {
        let (stage, started) = (&self.plan.stages[index], Instant::now());
        let name = stage.name(&self.options.data);
        let key = || Manifest::load_any(&stage.out).ok().map(|manifest| manifest.key);
        let before = key();
        tracing::debug!("{name}: begins");
        let log = Log::new(&self.options.logs, &name);
        let exit = process::call(stage, &self.options.place, &log)?;
        let was_there = exit == Exit::Done && before.is_some() && before == key();
        if was_there {
            log.discard()?;
        } else {
            log.keep()?;
        }
        match &exit {
            Exit::Done => {
                self.estimate.made(index);
                let outcome = if was_there { "up to date".into() } else { seconds(started) };
                let (done, all) = self.queue.count_with(index);
                let open = |stage: usize| {
                    self.standings[stage] != Standing::UpToDate && self.queue.is_open(stage, index)
                };
                tracing::info!("[{done}/{all}] {name}: {outcome}{}", self.estimate.left(open));
                warn_without_validation(&stage.out, &name);
            }
            Exit::Interrupted => tracing::info!("{name}: stopped"),
            Exit::Failed(said) => {
                log.add_failure(said)?;
                tracing::error!("{name}: failed: {said} (all of it in {})", log.path().display());
            }
        }
        Ok(exit)
    }
}

/// Says at the start of a grid what its report would say at the end.
fn warn_without_validation(out: &Path, name: &str) {
    if Manifest::load(out, Kind::Tokens).is_ok_and(|tokens| tokens.stats["valid_rows"] == 0) {
        tracing::warn!(
            "{name}: no rows to validate on, so no losses will be measured; raise valid_fraction in the corpus's file"
        );
    }
}

fn seconds(started: Instant) -> String {
    format!("made in {}", entromask_report::number::duration(started.elapsed().as_secs_f64()))
}
