//! Rows into part files.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use entromask_artifact::{OutputSpec, Workbench};
use entromask_cli::check_interrupt;
use entromask_fault::Fault;
use entromask_tables::Tokens;
use serde::{Deserialize, Serialize};

use crate::report::SplitCounts;
use crate::{Place, Row};

/// What a column of strings can hold. Only text whose words are very long comes near it, since a word that a WordPiece
/// tokenizer does not know is one token.
const MAX_TEXT_BYTES: usize = i32::MAX as usize;

/// A part that is complete and has to be written.
pub(crate) struct Part {
    file: String,
    tokens: Tokens,
    reached: Reached,
}

/// How far a split is in parts. It is noted beside each, so that a run goes on behind those of one that was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) place: Place,
    /// Of documents, those before the place.
    pub(crate) counts: SplitCounts,
}

/// The rows of one split on their way into parts.
pub(crate) struct Split<'a> {
    bench: &'a Workbench,
    prefix: &'static str,
    shard_rows: usize,
    tokens: Tokens,
    /// Of `tokens`.
    text_bytes: usize,
    ship: SyncSender<Part>,
    /// Behind the last row.
    reached: Reached,
    /// Id of the token for what the vocabulary cannot express.
    pub(crate) unknown: Option<u32>,
    pub(crate) counts: SplitCounts,
    /// The parts so far, in order.
    pub(crate) outputs: Vec<OutputSpec>,
}

/// Space that must stay free on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskGuard {
    pub(crate) min_free_bytes: u64,
}

impl<'a> Split<'a> {
    pub(crate) fn new(
        bench: &'a Workbench,
        prefix: &'static str,
        shard_rows: usize,
        ship: SyncSender<Part>,
    ) -> Self {
        let (tokens, reached, counts, outputs) =
            (Tokens::default(), Reached::default(), SplitCounts::default(), Vec::new());
        Self {
            bench,
            prefix,
            shard_rows,
            tokens,
            text_bytes: 0,
            ship,
            reached,
            unknown: None,
            counts,
            outputs,
        }
    }

    /// Goes behind the parts that an earlier run has finished, and tells how far that is.
    pub(crate) fn resume(&mut self) -> anyhow::Result<Reached> {
        while let Some((part, reached)) = self.finished_part() {
            check_interrupt()?;
            (self.reached, self.counts) = (reached, reached.counts);
            self.outputs.push(part);
        }
        Ok(self.reached)
    }

    /// The next part and what is noted of it.
    fn finished_part(&self) -> Option<(OutputSpec, Reached)> {
        let file = self.bench.part_name(self.prefix, self.outputs.len());
        let reached: Reached = serde_json::from_value(self.bench.noted(&file)?).ok()?;
        let rows = reached.counts.rows.checked_sub(self.counts.rows)?;
        let path = self.bench.finished(&file)?;
        has_rows(&path, rows).then(|| (OutputSpec::part(file, rows), reached))
    }

    /// Adds a row, behind which packing is at `place`; a full part is shipped.
    pub(crate) fn push(&mut self, row: &Row, place: Place) -> anyhow::Result<()> {
        if self.text_bytes + row.text.len() > MAX_TEXT_BYTES {
            self.ship()?;
        }
        self.text_bytes += row.text.len();
        row.push_to(&mut self.tokens, self.counts.rows);
        self.counts.rows += 1;
        self.counts.tokens += row.ids.len() as u64;
        self.counts.maskable += row.maskable() as u64;
        self.counts.unknown += row.ids.iter().filter(|&&id| Some(id) == self.unknown).count() as u64;
        if self.unknown.is_none() {
            let [letters, lost] = row.letters();
            self.counts.letters += letters;
            self.counts.lost_letters += lost;
        }
        self.reached = Reached { place, counts: self.counts };
        if self.tokens.rows() == self.shard_rows { self.ship() } else { Ok(()) }
    }

    /// Ships the last part.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        if self.tokens.rows() > 0 { self.ship() } else { Ok(()) }
    }

    /// Hands the part to the writer, unless an earlier run has written it.
    fn ship(&mut self) -> anyhow::Result<()> {
        let file = self.bench.part_name(self.prefix, self.outputs.len());
        let tokens = std::mem::take(&mut self.tokens);
        self.text_bytes = 0;
        let rows = tokens.rows() as u64;
        self.outputs.push(OutputSpec::part(file.clone(), rows));
        let written = self.bench.finished(&file).is_some_and(|path| has_rows(&path, rows));
        if written {
            tracing::debug!("{file}: finished by an earlier run");
            return Ok(());
        }
        // The writer hangs up after an error of its own, which is the one to report.
        Ok(self
            .ship
            .send(Part { file, tokens, reached: self.reached })
            .map_err(|_| Fault::failed("the writer of parts stopped"))?)
    }
}

impl Part {
    pub(crate) fn write(self, bench: &Workbench, guard: DiskGuard) -> anyhow::Result<()> {
        guard.check(bench.out())?;
        let reached = serde_json::to_value(self.reached)?;
        bench.write_noting(&self.file, reached, |path| self.tokens.write(path, &bench.footer()))?;
        tracing::debug!("{}: {} rows", self.file, self.tokens.rows());
        Ok(())
    }
}

impl DiskGuard {
    /// Refuses to go on when the disk is nearly full.
    pub(crate) fn check(self, out: &Path) -> anyhow::Result<()> {
        let free = fs4::available_space(out)?;
        if free >= self.min_free_bytes {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let message = format!(
            "{}: {:.2} GiB free, at least {:.2} wanted",
            out.display(),
            gib(free),
            gib(self.min_free_bytes)
        );
        Err(Fault::failed(message)
            .remedy("free some space and run again, which keeps finished parts; or lower --min-free-disk")
            .into())
    }
}

/// A part is complete once it exists; one with other rows was not made by this program.
fn has_rows(path: &Path, rows: u64) -> bool {
    entromask_tables::rows(path).is_ok_and(|found| found == rows)
}
