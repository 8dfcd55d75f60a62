//! Several processes that fine-tune at once.
//!
//! Processes, not threads: heads drop values by one generator a process, so that two runs in one would disturb each
//! other. Each does its share of the runs on its own device and threads, and the same bytes come out as from one.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use entromask_cli::{ask_to_stop, check_interrupt, interrupted};
use entromask_fault::Fault;

use crate::plan::{Plan, Unit};
use crate::stage::line;

/// How often the workers are looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// Exit code of a worker some of whose runs have failed.
const FAILED: i32 = 1;

/// The program of a worker with its arguments.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Program.
    pub program: std::path::PathBuf,
    /// Arguments.
    pub arguments: Vec<std::ffi::OsString>,
    /// What it reads from stdin.
    pub input: String,
}

/// Finds workers, one at least, for the runs at these places of the plan, which are of the artifact with this key.
pub type Hire<'a> = dyn Fn(&str, &[usize]) -> anyhow::Result<Vec<Worker>> + 'a;

/// Lets workers do the runs; then once more those that start from others, which may have been another worker's.
pub(crate) fn run(plan: &Plan, out: &Path, hire: &Hire<'_>) -> anyhow::Result<()> {
    let key = plan.recipe().key();
    for _ in 0..2 {
        let (places, mut units) = ready(plan, out);
        if units.is_empty() {
            break;
        }
        let mut crew = Crew::start(&hire(&key, &places)?)?;
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

impl Worker {
    /// One that ends before it has read all says itself why.
    fn start(&self) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program);
        let mut child = command.args(&self.arguments).stdin(Stdio::piped()).spawn()?;
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(self.input.as_bytes()));
        Ok(child)
    }
}

/// Running workers; they end with it.
#[derive(Default)]
struct Crew {
    workers: Vec<Child>,
    /// The first failure of a worker that has done what it could.
    failure: Option<Fault>,
}

impl Crew {
    fn start(workers: &[Worker]) -> anyhow::Result<Self> {
        let mut crew = Self::default();
        for worker in workers {
            crew.workers.push(worker.start()?);
        }
        Ok(crew)
    }

    /// # Errors
    /// A [`Fault`] of the worker's class if one failed; it has said why. Where runs have failed, it says so once all are done.
    fn is_at_work(&mut self) -> anyhow::Result<bool> {
        for index in (0..self.workers.len()).rev() {
            if self.workers[index].try_wait()?.is_none() {
                continue;
            }
            let status = self.workers.swap_remove(index).wait()?;
            match status.code() {
                Some(0) => {}
                Some(FAILED) => drop(self.failure.get_or_insert_with(|| failed(status))),
                _ => {
                    // What is wrong for one is wrong for all.
                    self.end()?;
                    return Err(failed(status).into());
                }
            }
        }
        let failure = self.failure.take_if(|_| self.workers.is_empty());
        failure.map_or(Ok(!self.workers.is_empty()), |failure| Err(failure.into()))
    }

    /// Lets all keep what they have, and waits until they have ended.
    ///
    /// # Errors
    /// A [`Fault`] of class interrupted, if the user asked for that.
    fn end(&mut self) -> anyhow::Result<()> {
        self.workers.iter().for_each(|child| ask_to_stop(child.id()));
        for child in &mut self.workers {
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
        Some(130) => return Fault::interrupted(),
        _ => Fault::failed(what),
    };
    fault.remedy("its message is above; finished runs are kept")
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.workers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Worker {
        Worker { program: "sh".into(), arguments: vec!["-c".into(), script.into()], input: String::new() }
    }

    /// How the work of `crew` ends.
    fn outcome(crew: &mut Crew) -> anyhow::Result<()> {
        while crew.is_at_work()? {
            sleep(PAUSE);
        }
        Ok(())
    }

    #[test]
    fn the_others_do_not_end_with_one_whose_runs_have_failed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let later = format!("sleep 0.3; touch {}", folder.path().join("done").display());
        let mut crew = Crew::start(&[shell("exit 1"), shell(&later)])?;
        let error = outcome(&mut crew).expect_err("one has failed");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 1);
        assert!(folder.path().join("done").exists());
        Ok(())
    }

    #[test]
    fn workers_read_what_they_are_given_and_need_not_read_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("copy");
        let given = |script: &str, input: &str| Worker { input: input.into(), ..shell(script) };
        let reads = given(&format!("cat > {}", copy.display()), "seeds = 2\n");
        // More than a pipe holds.
        let ends = given("exit 0", &"#".repeat(1 << 20));
        outcome(&mut Crew::start(&[ends, reads])?)?;
        assert_eq!(std::fs::read_to_string(copy)?, "seeds = 2\n");
        Ok(())
    }

    #[test]
    fn the_others_end_with_the_one_that_fails() -> anyhow::Result<()> {
        let mut crew = Crew::start(&[shell("exec sleep 600"), shell("exit 4"), shell("exit 0")])?;
        let sleeper = crew.workers[0].id();
        let error = outcome(&mut crew).expect_err("one has failed");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 4);
        drop(crew);
        assert!(!Path::new(&format!("/proc/{sleeper}")).exists());
        Ok(())
    }
}
