//! How long a recipe has been worked on, killed runs included.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::memory::peak_memory;

/// How often the time is noted: what a killed run can lose of it.
const TICK: Duration = Duration::from_secs(1);

/// A clock that goes on where that of a killed run stopped. A thread notes its time in a file every second, so that no
/// stage has to think of it, however long a part or the way to a checkpoint takes.
#[derive(Debug)]
pub(crate) struct Clock {
    run: Run,
    /// The thread and what ends it, while it runs.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
    done: bool,
}

/// What a recipe, or a shard of it, took so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Wall-clock seconds, interrupted runs included.
    pub(crate) seconds: f64,
    /// Highest resident memory, in bytes.
    pub(crate) peak_memory_bytes: u64,
    /// What computed, where that is known.
    pub(crate) device: String,
}

/// Where a recipe's time is noted, if no shards divide the work.
pub(crate) fn note_name(short_key: &str) -> String {
    format!(".elapsed-{short_key}")
}

/// This process, and what earlier ones noted.
#[derive(Clone, Debug)]
struct Run {
    path: PathBuf,
    started: Instant,
    earlier: Note,
    device: String,
}

impl Clock {
    /// Goes on from what is noted in `path`.
    pub(crate) fn start(path: PathBuf, device: &str) -> Self {
        let earlier = Note::read(&path).unwrap_or_default();
        let run = Run { path, started: Instant::now(), earlier, device: device.to_owned() };
        let (stop, stopped) = channel();
        let ticking = run.clone();
        let ticks = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                ticking.note().write(&ticking.path);
            }
        };
        // Without a thread only the time of killed runs is lost.
        let ticker = thread::Builder::new().name("clock".into()).spawn(ticks).ok();
        Self { run, ticker: ticker.map(|thread| (stop, thread)), done: false }
    }

    /// Wall-clock seconds, earlier runs included.
    pub(crate) fn seconds(&self) -> f64 {
        self.run.note().seconds
    }

    /// Removes the note: the work is done, or was for nothing.
    pub(crate) fn forget(mut self) {
        self.stop();
        let _ = fs::remove_file(&self.run.path);
        self.done = true;
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Clock {
    /// A run that ends before its work is done notes its time, unless that is next to nothing.
    fn drop(&mut self) {
        self.stop();
        let counts =
            self.run.started.elapsed() >= TICK || self.run.path.exists() || !self.run.device.is_empty();
        if counts && !self.done {
            self.run.note().write(&self.run.path);
        }
    }
}

impl Note {
    /// The note at `path`, if there is one that can be read: a lost note costs a too small number, nothing else.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".tmp-{name}"));
        let Ok(bytes) = serde_json::to_vec(self) else { return };
        let _ = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    }
}

impl Run {
    fn note(&self) -> Note {
        Note {
            seconds: self.earlier.seconds + self.started.elapsed().as_secs_f64(),
            peak_memory_bytes: self.earlier.peak_memory_bytes.max(peak_memory()),
            device: self.device.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_killed_run_counts() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("elapsed");
        let killed = Clock::start(path.clone(), "");
        let started = Instant::now();
        while !path.exists() && started.elapsed() < 20 * TICK {
            thread::sleep(TICK / 50);
        }
        // A killed process drops nothing: all that there is is the note.
        let noted = Note::read(&path).expect("a note").seconds;
        assert!(noted >= TICK.as_secs_f64(), "{noted}");
        std::mem::forget(killed);
        assert!(Clock::start(path, "").seconds() >= noted);
        Ok(())
    }

    #[test]
    fn a_run_that_ends_notes_the_sum_and_one_that_is_done_nothing() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("elapsed");
        drop(Clock::start(path.clone(), ""));
        assert!(!path.exists(), "nothing happened");
        let mut worked = Clock::start(path.clone(), "");
        worked.run.started -= TICK;
        drop(worked);
        assert!(path.exists(), "a second of work");
        Note { seconds: 100.0, ..Note::default() }.write(&path);
        drop(Clock::start(path.clone(), ""));
        let noted = Note::read(&path).expect("a note").seconds;
        assert!((100.0..101.0).contains(&noted), "{noted}");
        let mut done = Clock::start(path.clone(), "");
        done.run.started -= TICK;
        done.forget();
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
