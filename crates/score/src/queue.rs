//! How far ahead of its results a device is asked for work.

use std::time::Duration;

/// How many batches a device is asked for at once. It is idle while it is read and asked again, so that they should take
/// long beside that; and who wants to stop waits for them.
#[derive(Debug)]
pub(crate) struct Queue {
    batches: usize,
}

/// What the batches that a device is asked for at once should take.
const QUEUE_TIME: Duration = Duration::from_millis(500);

/// Batches of a queue at most: inputs and results of all are in memory.
const LONGEST_QUEUE: usize = 128;

impl Default for Queue {
    fn default() -> Self {
        Self { batches: 1 }
    }
}

impl Queue {
    pub(crate) fn batches(&self) -> usize {
        self.batches
    }

    /// Kernels are compiled in the first batches, so that it grows step by step.
    pub(crate) fn took(&mut self, time: Duration) {
        if time < QUEUE_TIME / 2 {
            self.batches = (2 * self.batches).min(LONGEST_QUEUE);
        } else if time > QUEUE_TIME {
            self.batches = (self.batches / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_batches_are_short_and_shrinks_where_they_are_long() {
        let mut queue = Queue::default();
        let mut after = |milliseconds| {
            queue.took(Duration::from_millis(milliseconds));
            queue.batches()
        };
        // The first batch compiles kernels.
        assert_eq!(after(9_000), 1);
        assert_eq!([10, 20, 40, 300, 600, 400].map(&mut after), [2, 4, 8, 8, 4, 4]);
        assert_eq!((0..20).map(|_| after(1)).max(), Some(LONGEST_QUEUE));
    }
}
