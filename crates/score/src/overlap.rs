//! Reading ahead and writing behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Result, bail};

/// Takes each item through `read`, `work` and `write`, in order. While `work` is busy with one item, the next is read and the
/// last is written, on a thread each; `work` stays on this one. Nobody runs further ahead: at most three items are in
/// memory. `work` may give nothing to write, and asks now and then whether there is a writer left to work for.
///
/// # Errors
/// The first error ends the work; what has been worked on before is written.
pub(crate) fn overlap<I, R: Send, W: Send>(
    items: impl Iterator<Item = I> + Send,
    read: impl Fn(I) -> Result<R> + Send,
    mut work: impl FnMut(R, &Writer) -> Result<Option<W>>,
    write: impl Fn(W) -> Result<()> + Send,
) -> Result<()> {
    let state = &Writer::default();
    thread::scope(|scope| {
        // Without room in the channel, who is ahead waits with one item in hand.
        let (to_work, to_be_worked) = sync_channel(0);
        let (to_write, to_be_written) = sync_channel(0);
        scope.spawn(move || read_all(items, read, &to_work));
        let writer =
            scope.spawn(move || to_be_written.iter().try_for_each(write).inspect_err(|_| state.fail()));
        let worked = work_all(to_be_worked, |item| work(item, state), &to_write);
        drop(to_write);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A writer that failed is why nobody took the work.
        written.and(worked)
    })
}

/// Whether the writer is at work.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    failed: AtomicBool,
}

impl Writer {
    /// # Errors
    /// If it has failed; [`overlap`] then says why, and not this error.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            bail!("the last result could not be written");
        }
        Ok(())
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

fn read_all<I, R>(
    items: impl Iterator<Item = I>,
    read: impl Fn(I) -> Result<R>,
    out: &SyncSender<Result<R>>,
) {
    for item in items {
        let item = read(item);
        let last = item.is_err();
        if out.send(item).is_err() || last {
            break;
        }
    }
}

fn work_all<R, W>(
    items: Receiver<Result<R>>,
    mut work: impl FnMut(R) -> Result<Option<W>>,
    out: &SyncSender<W>,
) -> Result<()> {
    for item in items {
        if let Some(done) = work(item?)?
            && out.send(done).is_err()
        {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn the_next_is_read_and_the_last_is_written_meanwhile() {
        let (reading, is_read) = std::sync::mpsc::channel();
        let (writing, is_written) = std::sync::mpsc::channel();
        let work = |item: usize, _: &Writer| {
            // Each of these would wait for ever if nothing went on beside.
            if item < 3 {
                assert_eq!(is_read.recv_timeout(PATIENCE), Ok(item + 1));
            }
            if item > 0 {
                assert_eq!(is_written.recv_timeout(PATIENCE), Ok(item - 1));
            }
            Ok(Some(item))
        };
        let read = move |item: usize| {
            if item > 0 {
                reading.send(item)?;
            }
            Ok(item)
        };
        overlap(0..4, read, work, move |item: usize| Ok(writing.send(item)?)).expect("works");
    }

    #[test]
    fn nobody_runs_further_ahead() {
        let read = Mutex::new(0usize);
        let work = |item: usize, _: &Writer| {
            thread::sleep(Duration::from_millis(5));
            assert!(*read.lock().expect("a number") <= item + 2, "this one and the next");
            Ok(Some(()))
        };
        let count = |item: usize| {
            *read.lock().expect("a number") += 1;
            Ok(item)
        };
        overlap(0..20, count, work, |()| Ok(())).expect("works");
    }

    #[test]
    fn what_was_worked_on_before_an_error_is_written() {
        for broken in ["read", "work", "write"] {
            let written = Mutex::new(Vec::new());
            let fails = |item: usize, what: &str| -> Result<usize> {
                if broken == what && item == 2 {
                    bail!("{what} {item}");
                }
                Ok(item)
            };
            let write = |item: usize| {
                written.lock().expect("a list").push(fails(item, "write")?);
                Ok(())
            };
            let work = |item, _: &Writer| fails(item, "work").map(Some);
            let error = overlap(0..9, |item| fails(item, "read"), work, write).expect_err("fails");
            assert_eq!(error.to_string(), format!("{broken} 2"));
            assert_eq!(*written.lock().expect("a list"), [0, 1], "{broken}");
        }
    }

    #[test]
    fn work_in_hand_ends_when_the_writer_fails() {
        let work = |item: usize, writer: &Writer| {
            // The first is written, and fails, while the second is in hand.
            let end = std::time::Instant::now() + PATIENCE;
            while item == 1 && std::time::Instant::now() < end {
                writer.check()?;
                thread::yield_now();
            }
            Ok(Some(item))
        };
        let error = overlap(0..3, Ok, work, |item| bail!("cannot write {item}")).expect_err("fails");
        assert_eq!(error.to_string(), "cannot write 0");
    }

    #[test]
    fn what_needs_no_writing_is_not_written() {
        let odd = |item: usize, _: &Writer| Ok((item % 2 == 1).then_some(item));
        let written = Mutex::new(Vec::new());
        let write = |item| {
            written.lock().expect("a list").push(item);
            Ok(())
        };
        overlap(0..6, Ok, odd, write).expect("works");
        assert_eq!(*written.lock().expect("a list"), [1, 3, 5]);
    }
}
