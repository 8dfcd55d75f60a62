//! Training rows in their order: token parts and masks joined, shuffled, batched.

mod row_tables;

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Manifest, Output};
use entromask_fault::Fault;
use entromask_random::{keyed, open_unit, shuffled};
use entromask_tables::{Targets, TokenColumns, Tokens};
use entromask_training::SoftTargets;

pub(crate) use row_tables::RowTables;
use row_tables::{LoadedMasks, mismatch};

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
    /// Parts whose rows are shuffled together.
    mix: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Part {
    file: Output,
    rows: usize,
}

impl Corpus {
    /// Nothing is read yet: numbers of rows come from the manifests.
    pub(crate) fn new(tokens: (&Path, &Manifest), masks: RowTables, seed: u64) -> Self {
        let part = |output: &Output| Part { file: output.clone(), rows: output.rows.unwrap_or(0) as usize };
        let parts = tokens.1.parts("part").map(part).collect();
        Self {
            folder: tokens.0.into(),
            parts,
            masks,
            first_masks: None,
            soft: None,
            online: false,
            mix: 1,
            seed,
        }
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

    /// With the rows of so many parts shuffled together: text from one place is often in one part.
    pub(crate) fn with_mix(self, mix: usize) -> Self {
        Self { mix, ..self }
    }

    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// The rows of `epoch` in its order, from row `skip` of that order. Parts that are skipped whole are not read.
    pub(crate) fn epoch(&self, epoch: u64, skip: usize) -> Result<EpochRows<'_>> {
        let order = shuffled(self.parts.len(), &mut keyed(self.seed, "order of parts", 0, epoch));
        let mut left: Vec<Vec<usize>> = order.chunks(self.mix).map(<[usize]>::to_vec).collect();
        left.reverse();
        let mut rows = EpochRows { corpus: self, epoch, left, parts: Vec::new(), rows: Vec::new() };
        rows.skip(skip)?;
        Ok(rows)
    }

    /// The rows of a group of parts in their order, each with the number of its part in the group.
    fn order(&self, group: &[usize], epoch: u64) -> Vec<(usize, usize)> {
        let rows: Vec<(usize, usize)> = group
            .iter()
            .enumerate()
            .flat_map(|(place, &part)| (0..self.parts[part].rows).map(move |row| (place, row)))
            .collect();
        let order = shuffled(rows.len(), &mut keyed(self.seed, "order of rows", group[0] as u64, epoch));
        order.into_iter().map(|index| rows[index]).collect()
    }

    fn load(&self, index: usize) -> Result<LoadedPart> {
        let part = &self.parts[index];
        let columns = TokenColumns { word: self.online, ..TokenColumns::default() };
        part.file.verify(&self.folder)?;
        let path = self.folder.join(&part.file.file);
        let tokens = Tokens::read(&path, columns)?;
        if tokens.rows() != part.rows {
            return Err(mismatch(&path, part.rows, tokens.rows()).into());
        }
        Ok(LoadedPart { tokens, index, ..LoadedPart::default() })
    }

    /// Whether `row` has the masks of `masks` already, when `share` of the rows have.
    fn has_changed(&self, row: u64, epoch: u64, share: f64) -> bool {
        (self.first_masks.is_none() && !self.online)
            || share >= 1.0
            || open_unit(&mut keyed(self.seed, "transfer of masks", row, epoch)) < share
    }
}

/// The rows of one epoch that have not been taken yet.
#[derive(Debug)]
pub(crate) struct EpochRows<'a> {
    corpus: &'a Corpus,
    epoch: u64,
    /// Groups of parts to come, the next one last.
    left: Vec<Vec<usize>>,
    /// The group whose turn it is.
    parts: Vec<LoadedPart>,
    /// Its rows to come, the next one last, each with the number of its part in the group.
    rows: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct LoadedPart {
    tokens: Tokens,
    index: usize,
    /// Of the masks and of the first masks, where they were asked for.
    masks: [Option<LoadedMasks>; 2],
    soft: Option<Targets>,
}

impl EpochRows<'_> {
    /// Up to `batch_size` rows; fewer at the end of the epoch only, none after it. `share` of them have the masks of
    /// the run, the others those of its beginning, if it has such.
    pub(crate) fn batch(&mut self, batch_size: usize, share: f64) -> Result<Vec<Example>> {
        let mut batch = Vec::with_capacity(batch_size.min(self.corpus.rows()));
        while batch.len() < batch_size {
            let Some((part, row)) = self.next_row()? else { break };
            let part = &mut self.parts[part];
            let changed = self.corpus.has_changed(part.tokens.row[row], self.epoch, share);
            if self.corpus.online && changed {
                batch.push(part.open(row, self.epoch));
                continue;
            }
            part.load_beside(self.corpus, self.epoch, changed)?;
            let line = self.corpus.online.then(|| part.line(row, self.epoch));
            batch.push(Example { line, ..part.example(row, changed)? });
        }
        Ok(batch)
    }

    fn next_row(&mut self) -> Result<Option<(usize, usize)>> {
        while self.rows.is_empty() {
            let Some(group) = self.left.pop() else { return Ok(None) };
            // Before others are read.
            self.parts.clear();
            self.parts = group.iter().map(|&part| self.corpus.load(part)).collect::<Result<_>>()?;
            self.rows = self.corpus.order(&group, self.epoch);
            self.rows.reverse();
        }
        Ok(self.rows.pop())
    }

    fn skip(&mut self, mut rows: usize) -> Result<()> {
        while let Some(group) = self.left.last() {
            let size = group.iter().map(|&part| self.corpus.parts[part].rows).sum();
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
        for mix in 1..4 {
            let corpus = corpus(&fixture, 2)?.with_mix(mix);
            let whole = first_tokens(&corpus, 1, 0, 4);
            for done in 0..=6 {
                assert_eq!(first_tokens(&corpus, 1, done * 4, 4), whole[done..], "{done} {mix}");
            }
        }
        Ok(())
    }

    /// Rows are numbered through the parts.
    #[test]
    fn batches_have_rows_of_all_parts_that_are_mixed() -> Result<()> {
        let fixture = Fixture::new()?;
        let sizes: Vec<usize> = corpus(&fixture, 1)?.parts.iter().map(|part| part.rows).collect();
        let part_of = |row: u32| {
            let ends = sizes.iter().scan(0, |end, size| {
                *end += size;
                Some(*end)
            });
            ends.take_while(|end| *end <= row as usize).count()
        };
        let changes = |mix: usize| -> Result<usize> {
            let rows = first_tokens(&corpus(&fixture, 1)?.with_mix(mix), 0, 0, 4).concat();
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..24).collect::<Vec<_>>());
            Ok(rows.windows(2).filter(|pair| part_of(pair[0]) != part_of(pair[1])).count())
        };
        assert_eq!(changes(1)?, sizes.len() - 1, "one part after the other");
        assert!(changes(sizes.len())? > 2 * sizes.len());
        assert_eq!(changes(sizes.len())?, changes(99)?);
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
