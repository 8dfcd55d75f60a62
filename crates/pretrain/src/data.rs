//! Training rows in their order: token parts and masks joined, shuffled, batched.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Manifest, Output, epoch_prefix};
use entromask_fault::Fault;
use entromask_random::{keyed, open_unit, shuffled};
use entromask_tables::{Masks, Targets, TokenColumns, Tokens};
use entromask_training::SoftTargets;

/// One row as the model sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Example {
    /// Token ids, with the masked positions replaced.
    pub input_ids: Vec<u32>,
    /// Masked positions, ascending.
    pub positions: Vec<u32>,
    /// The original tokens at these positions.
    pub targets: Vec<u32>,
    /// What a teacher said there; nothing without a cache of it.
    pub soft: SoftTargets,
    /// The row, where masks are chosen while training runs.
    pub line: Option<CorpusRow>,
    /// True while its masks are still to be chosen.
    pub open: bool,
}

/// A row of the corpus as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CorpusRow {
    /// Its number in the split.
    pub row: u64,
    pub epoch: u64,
    /// Token ids, `[seq_length]`.
    pub ids: Vec<u32>,
    /// The word of each token; null at special tokens. `[seq_length]`
    pub word: Vec<Option<u16>>,
}

impl Example {
    /// Replaces the tokens of `ids` at `positions` by `inputs`. `None` if a position is outside of the row.
    pub(crate) fn masked(
        ids: &[u32],
        positions: impl Iterator<Item = u32>,
        inputs: impl Iterator<Item = u32>,
    ) -> Option<Self> {
        let mut example = Self { input_ids: ids.to_vec(), ..Self::default() };
        for (position, input) in positions.zip(inputs) {
            example.targets.push(*ids.get(position as usize)?);
            example.input_ids[position as usize] = input;
            example.positions.push(position);
        }
        Some(example)
    }
}

/// The training split: token parts, and for each epoch tables with the same rows.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    folder: PathBuf,
    parts: Vec<Part>,
    masks: RowTables,
    /// Masks of rows that do not have those of `masks` yet.
    first_masks: Option<RowTables>,
    /// What a teacher says where `masks` masks.
    soft: Option<RowTables>,
    /// Whether the masks that follow on the first ones are chosen while training runs.
    online: bool,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Part {
    file: Output,
    rows: usize,
}

/// An artifact with a table for each token part and epoch.
#[derive(Clone, Debug)]
pub(crate) struct RowTables {
    folder: PathBuf,
    manifest: Manifest,
}

impl RowTables {
    pub(crate) fn new(folder: &Path, manifest: &Manifest) -> Self {
        Self { folder: folder.into(), manifest: manifest.clone() }
    }

    /// Path of a table that is what the manifest says.
    fn path(&self, part: usize, epoch: u64) -> Result<PathBuf> {
        let output = self.manifest.parts(&epoch_prefix(epoch)).nth(part);
        let missing = || {
            let (folder, kind) = (self.folder.display(), self.manifest.kind);
            Fault::input(format!("{folder}: no {kind} of epoch {epoch} for token part {part}"))
                .remedy(format!("make {kind} again for these tokens"))
        };
        let output = output.ok_or_else(missing)?;
        output.verify(&self.folder)?;
        Ok(self.folder.join(&output.file))
    }

    /// The table for token part `part` in `epoch`, which has to have the rows of `tokens`.
    fn masks(&self, part: usize, epoch: u64, tokens: &Tokens) -> Result<LoadedMasks> {
        let path = self.path(part, epoch)?;
        let masks = Masks::read(&path)?;
        if masks.row != tokens.row {
            return Err(mismatch(&path, tokens.rows(), masks.rows()).into());
        }
        Ok(LoadedMasks { masks, path })
    }

    fn targets(&self, part: usize, epoch: u64, masks: &LoadedMasks) -> Result<Targets> {
        let path = self.path(part, epoch)?;
        let targets = Targets::read(&path)?;
        let same = targets.row == masks.masks.row && targets.tail.offsets == masks.masks.positions.offsets;
        if !same {
            return Err(mismatch(&path, masks.masks.rows(), targets.row.len()).into());
        }
        Ok(targets)
    }
}

impl Corpus {
    /// Nothing is read yet: numbers of rows come from the manifests.
    pub(crate) fn new(tokens: (&Path, &Manifest), masks: RowTables, seed: u64) -> Self {
        let part = |output: &Output| Part { file: output.clone(), rows: output.rows.unwrap_or(0) as usize };
        let parts = tokens.1.parts("part").map(part).collect();
        Self { folder: tokens.0.into(), parts, masks, first_masks: None, soft: None, online: false, seed }
    }

    /// With masks for the beginning of the run.
    pub(crate) fn with_first_masks(self, first_masks: Option<RowTables>) -> Self {
        Self { first_masks, ..self }
    }

    /// With what a teacher says.
    pub(crate) fn with_soft(self, soft: Option<RowTables>) -> Self {
        Self { soft, ..self }
    }

    /// With masks only for the beginning: those of later rows are chosen while training runs.
    pub(crate) fn with_online(self, online: bool) -> Self {
        Self { online, ..self }
    }

    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// The rows of `epoch` in its order, from row `skip` of that order. Parts that are skipped whole are not read.
    pub(crate) fn epoch(&self, epoch: u64, skip: usize) -> Result<EpochRows<'_>> {
        let mut order = shuffled(self.parts.len(), &mut keyed(self.seed, "order of parts", 0, epoch));
        order.reverse();
        let mut rows = EpochRows { corpus: self, epoch, left: order, part: LoadedPart::default() };
        rows.skip(skip)?;
        Ok(rows)
    }

    fn load(&self, index: usize, epoch: u64) -> Result<LoadedPart> {
        let part = &self.parts[index];
        let columns = TokenColumns { word: self.online, ..TokenColumns::default() };
        part.file.verify(&self.folder)?;
        let path = self.folder.join(&part.file.file);
        let tokens = Tokens::read(&path, columns)?;
        if tokens.rows() != part.rows {
            return Err(mismatch(&path, part.rows, tokens.rows()).into());
        }
        let mut order = shuffled(part.rows, &mut keyed(self.seed, "order of rows", index as u64, epoch));
        order.reverse();
        Ok(LoadedPart { tokens, index, left: order, ..LoadedPart::default() })
    }

    /// Whether `row` has the masks of `masks` already, when `share` of the rows have.
    fn has_changed(&self, row: u64, epoch: u64, share: f64) -> bool {
        (self.first_masks.is_none() && !self.online)
            || share >= 1.0
            || open_unit(&mut keyed(self.seed, "transfer of masks", row, epoch)) < share
    }
}

fn mismatch(path: &Path, expected: usize, found: usize) -> Fault {
    Fault::input(format!("{}: expected {expected} rows of the token part, found {found}", path.display()))
        .remedy("delete the manifest.json beside it and run its stage again")
}

/// The rows of one epoch that have not been taken yet.
#[derive(Debug)]
pub(crate) struct EpochRows<'a> {
    corpus: &'a Corpus,
    epoch: u64,
    /// Parts to come, the next one last.
    left: Vec<usize>,
    part: LoadedPart,
}

#[derive(Debug, Default)]
struct LoadedPart {
    tokens: Tokens,
    index: usize,
    /// Of the masks and of the first masks, where they were asked for.
    masks: [Option<LoadedMasks>; 2],
    soft: Option<Targets>,
    /// Rows to come, the next one last.
    left: Vec<usize>,
}

#[derive(Debug)]
struct LoadedMasks {
    masks: Masks,
    path: PathBuf,
}

impl EpochRows<'_> {
    /// Up to `batch_size` rows; fewer at the end of the epoch only, none after it. `share` of them have the masks of
    /// the run, the others those of its beginning, if it has such.
    pub(crate) fn batch(&mut self, batch_size: usize, share: f64) -> Result<Vec<Example>> {
        let mut batch = Vec::with_capacity(batch_size.min(self.corpus.rows()));
        while batch.len() < batch_size {
            let Some(row) = self.next_row()? else { break };
            let changed = self.corpus.has_changed(self.part.tokens.row[row], self.epoch, share);
            if self.corpus.online && changed {
                batch.push(self.part.open(row, self.epoch));
                continue;
            }
            self.part.load_beside(self.corpus, self.epoch, changed)?;
            let line = self.corpus.online.then(|| self.part.line(row, self.epoch));
            batch.push(Example { line, ..self.part.example(row, changed)? });
        }
        Ok(batch)
    }

    fn next_row(&mut self) -> Result<Option<usize>> {
        while self.part.left.is_empty() {
            let Some(index) = self.left.pop() else { return Ok(None) };
            self.part = self.corpus.load(index, self.epoch)?;
        }
        Ok(self.part.left.pop())
    }

    fn skip(&mut self, mut rows: usize) -> Result<()> {
        while let Some(&index) = self.left.last() {
            let size = self.corpus.parts[index].rows;
            if rows < size {
                break;
            }
            rows -= size;
            self.left.pop();
        }
        for _ in 0..rows {
            self.next_row()?;
        }
        Ok(())
    }
}

impl LoadedPart {
    /// Reads the masks of one kind, and what a teacher says at them, unless they are there.
    fn load_beside(&mut self, corpus: &Corpus, epoch: u64, changed: bool) -> Result<()> {
        let slot = &mut self.masks[usize::from(!changed)];
        if slot.is_some() {
            return Ok(());
        }
        let beside = corpus.first_masks.as_ref().filter(|_| !changed).unwrap_or(&corpus.masks);
        let masks = beside.masks(self.index, epoch, &self.tokens)?;
        if let Some(soft) = corpus.soft.as_ref().filter(|_| changed) {
            self.soft = Some(soft.targets(self.index, epoch, &masks)?);
        }
        *slot = Some(masks);
        Ok(())
    }

    /// A row whose masks are still to be chosen.
    fn open(&self, row: usize, epoch: u64) -> Example {
        let line = self.line(row, epoch);
        Example { input_ids: line.ids.clone(), line: Some(line), open: true, ..Example::default() }
    }

    fn line(&self, row: usize, epoch: u64) -> CorpusRow {
        let (ids, word) = (self.tokens.input_ids.row(row).to_vec(), self.tokens.word.row(row).to_vec());
        CorpusRow { row: self.tokens.row[row], epoch, ids, word }
    }

    fn example(&self, row: usize, changed: bool) -> Result<Example> {
        let LoadedMasks { masks, path } =
            self.masks[usize::from(!changed)].as_ref().expect("loaded before the row was asked for");
        let positions = masks.positions.row(row).iter().map(|&position| u32::from(position));
        let inputs = masks.inputs.row(row).iter().copied();
        let outside = || {
            Fault::input(format!("{}: row {row} masks a position outside of the row", path.display()))
                .remedy("select masks again for these tokens")
        };
        let example =
            Example::masked(self.tokens.input_ids.row(row), positions, inputs).ok_or_else(outside)?;
        let soft = self.soft.as_ref().filter(|_| changed).map(|targets| soft_targets(targets, row));
        Ok(Example { soft: soft.unwrap_or_default(), ..example })
    }
}

fn soft_targets(targets: &Targets, row: usize) -> SoftTargets {
    let (tokens, tail) = (targets.tokens.row(row), targets.tail.row(row));
    SoftTargets {
        k: tokens.len() / tail.len().max(1),
        tokens: tokens.to_vec(),
        logits: targets.logits.row(row).to_vec(),
        tail: tail.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use entromask_artifact::Kind;

    use super::*;
    use crate::fixture::{self, Fixture};

    fn corpus(fixture: &Fixture, epochs: u64) -> Result<Corpus> {
        let (tokens, masks) = (fixture.tokens(), fixture.masks(0, epochs)?);
        let manifests = (Manifest::load(&tokens, Kind::Tokens)?, Manifest::load(&masks, Kind::Masks)?);
        Ok(Corpus::new((&tokens, &manifests.0), RowTables::new(&masks, &manifests.1), 7))
    }

    fn first_tokens(corpus: &Corpus, epoch: u64, skip: usize, batch_size: usize) -> Vec<Vec<u32>> {
        let mut rows = corpus.epoch(epoch, skip).expect("readable");
        let mut batches = Vec::new();
        loop {
            let batch = rows.batch(batch_size, 1.0).expect("readable");
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch.iter().map(|example| fixture::row_number(&example.input_ids)).collect());
        }
    }

    #[test]
    fn an_epoch_has_every_row_once_in_an_order_of_its_own() -> Result<()> {
        let fixture = Fixture::new()?;
        let corpus = corpus(&fixture, 2)?;
        let order = first_tokens(&corpus, 0, 0, 5);
        assert_eq!(
            order.iter().map(Vec::len).collect::<Vec<_>>(),
            [5, 5, 5, 5, 4],
            "the short batch is kept"
        );
        let mut rows = order.concat();
        let other = first_tokens(&corpus, 1, 0, 5).concat();
        assert_ne!(rows, other, "epochs differ");
        rows.sort_unstable();
        assert_eq!(rows, (0..24).collect::<Vec<_>>());
        assert_eq!(
            first_tokens(&corpus, 0, 0, 24).concat(),
            order.concat(),
            "batches do not change the order"
        );
        Ok(())
    }

    #[test]
    fn a_resumed_epoch_goes_on_where_it_stopped() -> Result<()> {
        let fixture = Fixture::new()?;
        let corpus = corpus(&fixture, 2)?;
        let whole = first_tokens(&corpus, 1, 0, 4);
        for done in 0..=6 {
            assert_eq!(first_tokens(&corpus, 1, done * 4, 4), whole[done..], "{done}");
        }
        Ok(())
    }

    #[test]
    fn masks_replace_tokens_and_remember_them() {
        let example =
            Example::masked(&[2, 10, 11, 3], [1, 2].into_iter(), [4, 11].into_iter()).expect("inside");
        assert_eq!(example.input_ids, [2, 4, 11, 3]);
        assert_eq!((example.positions, example.targets), (vec![1, 2], vec![10, 11]));
        assert_eq!(Example::masked(&[2, 3], [2].into_iter(), [4].into_iter()), None);
    }
}
