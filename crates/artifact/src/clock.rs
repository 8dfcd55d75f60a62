//! How long a recipe has been worked on, killed runs included.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fs_err as fs;

/// How often the time is noted: what a killed run can lose of it.
const TICK: Duration = Duration::from_secs(1);

/// A clock that goes on where that of a killed run stopped. A thread notes its time in a file every second, so that no
/// stage has to think of it, however long a part or the way to a checkpoint takes.
#[derive(Debug)]
pub(crate) struct Clock {
    note: Note,
    /// The thread and what ends it, while it runs.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
    done: bool,
}

/// The file with the seconds.
#[derive(Clone, Debug)]
struct Note {
    path: PathBuf,
    started: Instant,
    /// Seconds that earlier runs took.
    earlier: f64,
}

impl Clock {
    /// Goes on from the seconds noted in `path`.
    pub(crate) fn start(path: PathBuf) -> Self {
        let earlier = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let note = Note { path, started: Instant::now(), earlier };
        let (stop, stopped) = channel();
        let noted = note.clone();
        let ticks = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                noted.write();
            }
        };
        // Without a thread only the time of killed runs is lost.
        let ticker = thread::Builder::new().name("clock".into()).spawn(ticks).ok();
        Self { note, ticker: ticker.map(|thread| (stop, thread)), done: false }
    }

    /// Wall-clock seconds, earlier runs included.
    pub(crate) fn seconds(&self) -> f64 {
        self.note.seconds()
    }

    /// Removes the note: the work is done, or was for nothing.
    pub(crate) fn forget(mut self) {
        self.stop();
        let _ = fs::remove_file(&self.note.path);
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
        let counts = self.note.started.elapsed() >= TICK || self.note.path.exists();
        if counts && !self.done {
            self.note.write();
        }
    }
}

impl Note {
    fn seconds(&self) -> f64 {
        self.earlier + self.started.elapsed().as_secs_f64()
    }

    /// A lost note costs a too small number of seconds, nothing else.
    fn write(&self) {
        let beside = self.path.with_file_name(".tmp-elapsed");
        let _ = fs::write(&beside, self.seconds().to_string()).and_then(|()| fs::rename(&beside, &self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_killed_run_counts() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("elapsed");
        let killed = Clock::start(path.clone());
        let started = Instant::now();
        while !path.exists() && started.elapsed() < 20 * TICK {
            thread::sleep(TICK / 50);
        }
        // A killed process drops nothing: all that there is is the note.
        let noted: f64 = std::fs::read_to_string(&path)?.parse()?;
        assert!(noted >= TICK.as_secs_f64(), "{noted}");
        std::mem::forget(killed);
        assert!(Clock::start(path).seconds() >= noted);
        Ok(())
    }

    #[test]
    fn a_run_that_ends_notes_the_sum_and_one_that_is_done_nothing() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("elapsed");
        drop(Clock::start(path.clone()));
        assert!(!path.exists(), "nothing happened");
        let mut worked = Clock::start(path.clone());
        worked.note.started -= TICK;
        drop(worked);
        assert!(path.exists(), "a second of work");
        fs::write(&path, "100")?;
        drop(Clock::start(path.clone()));
        let noted: f64 = std::fs::read_to_string(&path)?.parse()?;
        assert!((100.0..101.0).contains(&noted), "{noted}");
        let mut done = Clock::start(path.clone());
        done.note.started -= TICK;
        done.forget();
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
