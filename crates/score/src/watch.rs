//! Who watches a part being made.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use entromask_cli::{Progress, check_interrupt};

use crate::overlap::Writer;

/// Is told how far the work is.
pub(crate) trait Watch: Sync {
    /// So many tokens more; may end the work.
    fn count(&self, tokens: u64) -> Result<()>;

    /// So many tokens an earlier run has done.
    fn resume_at(&self, _tokens: u64) {}
}

#[cfg(test)]
impl<F: Fn(u64) -> Result<()> + Sync> Watch for F {
    fn count(&self, tokens: u64) -> Result<()> {
        self(tokens)
    }
}

/// A bar, and who may end the work: somebody at the keyboard, or a writer that has failed.
pub(crate) struct Bar<'a> {
    pub(crate) progress: &'a Progress,
    pub(crate) writer: Option<&'a Writer>,
}

impl Watch for Bar<'_> {
    fn count(&self, tokens: u64) -> Result<()> {
        self.progress.inc(tokens);
        check_interrupt()?;
        self.writer.map_or(Ok(()), Writer::check)
    }

    fn resume_at(&self, tokens: u64) {
        self.progress.resume_at(tokens);
    }
}

/// Ends the work after so many tokens.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Patience {
    tokens: u64,
    counted: AtomicU64,
    resumed: AtomicU64,
}

#[cfg(test)]
impl Patience {
    pub(crate) fn of(tokens: u64) -> Self {
        Self { tokens, counted: AtomicU64::default(), resumed: AtomicU64::default() }
    }

    pub(crate) fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    pub(crate) fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Watch for Patience {
    fn count(&self, tokens: u64) -> Result<()> {
        let before = self.counted.fetch_add(tokens, Ordering::Relaxed);
        anyhow::ensure!(before + tokens <= self.tokens, "stopped");
        Ok(())
    }

    fn resume_at(&self, tokens: u64) {
        self.resumed.store(tokens, Ordering::Relaxed);
    }
}
