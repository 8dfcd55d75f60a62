//! What stages say, in files.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use entromask_fault::Fault;
use fs_err as fs;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::words::trouble;
use crate::plan::Plan;

/// What a stage says. While it runs that is in a file of this process alone: whoever waits for the stage of another process
/// calls it again and again, and each answer would take the place of what the stage itself has said.
#[derive(Clone, Debug)]
pub(super) struct Log {
    kept: PathBuf,
    pub own: PathBuf,
}

impl Log {
    /// `name` is the stage's.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let name = stem(name);
        let own = folder.join(format!("{name}.{}.log", std::process::id()));
        Self { kept: folder.join(format!("{name}.log")), own }
    }

    /// Where it will be when it is kept.
    pub(super) fn path(&self) -> &Path {
        &self.kept
    }

    /// Takes the place of what the stage said before.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        unless_gone(fs::rename(&self.own, &self.kept))
    }

    /// What it said before stays.
    pub(super) fn discard(&self) -> anyhow::Result<()> {
        unless_gone(fs::remove_file(&self.own))
    }

    /// Adds to what was kept why the stage failed, where it could not say so itself.
    pub(super) fn add_failure(&self, why: &str) -> anyhow::Result<()> {
        let said = fs::read_to_string(&self.kept).unwrap_or_default();
        if trouble(&said).is_some_and(|own| own == why) {
            return Ok(());
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.kept)?;
        let line_end = if said.is_empty() || said.ends_with('\n') { "" } else { "\n" };
        Ok(writeln!(file, "{line_end}ERROR {why}")?)
    }
}

/// Makes `folder` ready for what the stages of `plan` say.
///
/// # Errors
/// A [`Fault`] of class usage if nothing can be written there.
pub(super) fn prepare(folder: &Path, plan: &Plan, data: &Path) -> anyhow::Result<()> {
    let refuse = |error| {
        Fault::usage(format!("{}: cannot write: {error}", folder.display())).remedy("choose another --data")
    };
    fs::create_dir_all(folder).map_err(refuse)?;
    tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder).map_err(refuse)?;
    remove_left(folder, plan, data)
}

/// The folder of the logs of a grid.
pub(crate) fn log_folder(data: &Path, grid: &str) -> PathBuf {
    data.join("ablation").join(grid)
}

/// Why the stage `name` failed when it was called last; none if it did not, or was stopped.
pub(crate) fn failure(folder: &Path, name: &str) -> Option<String> {
    let said = fs::read_to_string(Log::new(folder, name).path()).ok()?;
    trouble(&said).filter(|words| *words != Fault::interrupted().to_string())
}

/// Removes what stages of `plan` said to processes that are gone: those were killed, or else they would have kept it.
fn remove_left(folder: &Path, plan: &Plan, data: &Path) -> anyhow::Result<()> {
    let stems: Vec<_> = plan.stages.iter().map(|stage| stem(&stage.name(data))).collect();
    let is_left = |file: &str| {
        let Some(kept) = file.strip_suffix(".log") else { return false };
        // The name of a stage may end as that of a process does.
        let of_process = kept.rsplit_once('.').filter(|_| !stems.iter().any(|stem| stem == kept));
        of_process.is_some_and(|(name, id)| stems.iter().any(|stem| stem == name) && is_gone(id))
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_left(&entry.file_name().to_string_lossy()) {
            unless_gone(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn stem(name: &str) -> String {
    name.replace('/', "-")
}

fn is_gone(id: &str) -> bool {
    let id = id.parse().ok().filter(|id: &i32| *id > 0);
    id.is_some_and(|id| kill(Pid::from_raw(id), None) == Err(Errno::ESRCH))
}

/// A grid on another machine that has the same data knows nothing of the processes here, and may have removed a log.
fn unless_gone(done: std::io::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Program, Stage};

    #[test]
    fn only_logs_of_processes_that_are_gone_are_removed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let stage = |out: &str| Stage {
            program: Program::Tokenize,
            out: out.into(),
            inputs: vec![],
            args: vec![],
            class: String::new(),
        };
        let stages = ["data/tokens/v1", "data/tokens/v1.999999999"].map(stage).into();
        let own = format!("tokens-v1.{}.log", std::process::id());
        let all = [
            "tokens-v1.log",
            "tokens-v1.999999998.log",
            "tokens-v1.999999999.log",
            "notes.999999998.log",
            &own,
        ];
        all.iter().try_for_each(|name| fs::write(folder.path().join(name), ""))?;
        remove_left(folder.path(), &Plan { stages, runs: vec![] }, Path::new("data"))?;
        let left = all.map(|name| folder.path().join(name).exists());
        assert_eq!(left, [true, false, true, true, true]);
        Ok(())
    }

    #[test]
    fn a_failure_is_what_was_said_last_unless_it_was_stopped() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let log = Log::new(folder.path(), "models/a");
        let said = |text: &str| fs::write(log.path(), text).map(|()| failure(folder.path(), "models/a"));
        assert_eq!(failure(folder.path(), "models/a"), None);
        assert_eq!(said("INFO step 3\nERROR the loss is NaN\n")?.as_deref(), Some("the loss is NaN"));
        assert_eq!(said(&format!("ERROR {}\n", Fault::interrupted()))?, None);
        assert_eq!(said("INFO step 3")?, None);
        log.add_failure("it was killed by SIGKILL")?;
        log.add_failure("it was killed by SIGKILL")?;
        assert_eq!(fs::read_to_string(log.path())?, "INFO step 3\nERROR it was killed by SIGKILL\n");
        assert_eq!(failure(folder.path(), "models/a").as_deref(), Some("it was killed by SIGKILL"));
        Ok(())
    }
}
