//! What there is of a part that is not finished, kept for the run that goes on where this one ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use entromask_artifact::Workbench;
use entromask_tables::footer_key;

/// How often it is kept: writing eight million positions takes about a second.
const PAUSE: Duration = Duration::from_mins(5);

/// The draft of one part, if anyone keeps it.
pub(crate) struct Draft<'a> {
    /// The folder, and the name of the part.
    place: Option<(&'a Workbench, &'a str)>,
    /// When it was kept, or the work began.
    kept: Instant,
    /// There is more than was kept.
    has_more: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn of(bench: &'a Workbench, part: &'a str) -> Self {
        Self { place: Some((bench, part)), ..Self::none() }
    }

    /// Of who keeps nothing.
    pub(crate) fn none() -> Self {
        Self { place: None, kept: Instant::now(), has_more: false }
    }

    /// The file that an earlier run has kept.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        let (bench, part) = self.place?;
        let path = bench.draft(part)?;
        let ours = footer_key(&path).ok()?.is_some_and(|key| key == bench.key());
        ours.then_some(path)
    }

    /// There is more of the part now, which `write` writes if it is time to keep it.
    pub(crate) fn grew(&mut self, write: impl FnOnce(&Path, &[(String, String)]) -> Result<()>) {
        self.has_more = true;
        if self.kept.elapsed() >= PAUSE {
            self.keep(write);
        }
    }

    /// Keeps by `write` what is not kept yet. Who cannot loses no more than without a draft.
    pub(crate) fn keep(&mut self, write: impl FnOnce(&Path, &[(String, String)]) -> Result<()>) {
        let Some((bench, part)) = self.place.filter(|_| self.has_more) else { return };
        if let Err(error) = bench.write_draft(part, |path| write(path, &bench.footer())) {
            tracing::warn!("what there is of {part} is not kept: {error:#}");
        }
        (self.kept, self.has_more) = (Instant::now(), false);
    }
}
