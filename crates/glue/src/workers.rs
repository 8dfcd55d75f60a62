//! Several processes that fine-tune at once.
//!
//! Processes, not threads: heads drop values by one generator a process, so that two runs in one would disturb each
//! other. Each does its share of the runs on its own device and threads, and the same bytes come out as from one.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::Duration;

use entromask_cli::{StopsWithUs, check_interrupt, interrupted};
use entromask_fault::Fault;

use crate::plan::{Plan, Unit};
use crate::stage::line;

/// How often the workers are looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// The program of a worker with its arguments.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Program.
    pub program: std::path::PathBuf,
    /// Arguments.
    pub arguments: Vec<std::ffi::OsString>,
}

/// Finds workers, one at least, for the runs at these places of the plan.
pub type Hire<'a> = dyn Fn(&[usize]) -> anyhow::Result<Vec<Worker>> + 'a;

/// Lets workers do the runs; then once more those that start from others, which may have been another worker's.
pub(crate) fn run(plan: &Plan, out: &Path, hire: &Hire<'_>) -> anyhow::Result<()> {
    for _ in 0..2 {
        let (places, mut units) = ready(plan, out);
        if units.is_empty() {
            break;
        }
        let mut crew = Crew::start(&hire(&places)?)?;
        while crew.is_at_work()? {
            if interrupted() {
                crew.end()?;
            }
            sleep(PAUSE);
            tell(plan, out, &mut units);
        }
        tell(plan, out, &mut units);
    }
    Ok(())
}

/// The runs that are not finished and wait for no other one, and their places in the plan. These are shared out by number, so
/// that each worker has as many, however many others are finished.
fn ready(plan: &Plan, out: &Path) -> (Vec<usize>, Vec<Unit>) {
    let is_open = |unit: Unit| plan.finished(out, unit).is_none();
    let units = plan.units().into_iter().enumerate().filter(|(_, unit)| is_open(*unit));
    units.filter(|(_, unit)| !plan.origin(*unit).is_some_and(is_open)).unzip()
}

/// Logs the runs that were finished meanwhile, and takes them off the list.
fn tell(plan: &Plan, out: &Path, units: &mut Vec<Unit>) {
    units.retain(|unit| match plan.finished(out, *unit) {
        Some(result) => {
            tracing::info!("{}", line(&result));
            false
        }
        None => true,
    });
}

/// Running workers; they end with it.
struct Crew(Vec<(Child, StopsWithUs)>);

impl Crew {
    /// Each in a group of its own: Ctrl-C reaches this process only, which passes it on once.
    fn start(workers: &[Worker]) -> anyhow::Result<Self> {
        let mut crew = Self(Vec::new());
        for worker in workers {
            let child = Command::new(&worker.program).args(&worker.arguments).process_group(0).spawn()?;
            let stops = StopsWithUs::new(child.id());
            crew.0.push((child, stops));
        }
        Ok(crew)
    }

    /// # Errors
    /// A [`Fault`] of the worker's class if one failed; it has said why.
    fn is_at_work(&mut self) -> anyhow::Result<bool> {
        for index in (0..self.0.len()).rev() {
            // Who is still at work stays in the crew, and ends with it where another has failed.
            if self.0[index].0.try_wait()?.is_none() {
                continue;
            }
            let status = self.0.swap_remove(index).0.wait()?;
            if !status.success() {
                return Err(failed(status).into());
            }
        }
        Ok(!self.0.is_empty())
    }

    /// Lets all keep what they have.
    ///
    /// # Errors
    /// A [`Fault`] of class interrupted, once they have ended.
    fn end(&mut self) -> anyhow::Result<()> {
        self.0.iter().for_each(|(_, stops)| stops.ask());
        for (child, _) in &mut self.0 {
            child.wait()?;
        }
        check_interrupt()
    }
}

/// A failure of the worker's own class; its message is on stderr already.
fn failed(status: ExitStatus) -> Fault {
    let what = format!("a worker ended with {status}");
    let fault = match status.code() {
        Some(2) => Fault::usage(what),
        Some(3) => Fault::input(what),
        Some(4) => Fault::device(what),
        _ => Fault::failed(what),
    };
    fault.remedy("its message is above; finished runs are kept")
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_end_with_the_one_that_fails() -> anyhow::Result<()> {
        let shell =
            |script: &str| Worker { program: "sh".into(), arguments: vec!["-c".into(), script.into()] };
        let mut crew = Crew::start(&[shell("exec sleep 600"), shell("exit 4"), shell("exit 0")])?;
        let ids: Vec<_> = crew.0.iter().map(|(child, _)| child.id()).collect();
        let error = loop {
            match crew.is_at_work() {
                Ok(at_work) => assert!(at_work, "one of them sleeps"),
                Err(error) => break error,
            }
            sleep(PAUSE);
        };
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 4);
        assert!(crew.0.iter().any(|(child, _)| child.id() == ids[0]), "it is still known");
        drop(crew);
        assert!(!Path::new(&format!("/proc/{}", ids[0])).exists());
        Ok(())
    }
}
