//! Training rows in their order: token parts and masks joined, shuffled, batched.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::Manifest;
use entromask_fault::Fault;
use entromask_random::{keyed, shuffled};
use entromask_tables::{Masks, TokenColumns, Tokens};

/// One row as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Example {
    /// Token ids, with the masked positions replaced.
    pub input_ids: Vec<u32>,
    /// Masked positions, ascending.
    pub positions: Vec<u32>,
    /// The original tokens at these positions.
    pub targets: Vec<u32>,
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

/// The training split: token parts, and for each epoch a part of masks with the same rows.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    parts: Vec<Part>,
    masks_dir: PathBuf,
    masks: Manifest,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    rows: usize,
}

impl Corpus {
    /// Nothing is read yet: numbers of rows come from the manifests.
    pub(crate) fn new(tokens: (&Path, &Manifest), masks: (&Path, &Manifest), seed: u64) -> Self {
        let part = |output: &entromask_artifact::Output| Part {
            path: tokens.0.join(&output.file),
            rows: output.rows.unwrap_or(0) as usize,
        };
        let parts = tokens.1.parts("part").map(part).collect();
        Self { parts, masks_dir: masks.0.into(), masks: masks.1.clone(), seed }
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
        let path = self.masks_path(index, epoch)?;
        let (tokens, masks) = (Tokens::read(&part.path, TokenColumns::default())?, Masks::read(&path)?);
        if tokens.rows() != part.rows {
            return Err(mismatch(&part.path, part.rows, tokens.rows()).into());
        }
        if tokens.row != masks.row {
            return Err(mismatch(&path, tokens.rows(), masks.rows()).into());
        }
        let mut order = shuffled(part.rows, &mut keyed(self.seed, "order of rows", index as u64, epoch));
        order.reverse();
        Ok(LoadedPart { tokens, masks, path, left: order })
    }

    fn masks_path(&self, index: usize, epoch: u64) -> Result<PathBuf> {
        let part = self.masks.parts(&format!("epoch-{epoch:03}")).nth(index);
        let missing = || {
            Fault::input(format!(
                "{}: no masks of epoch {epoch} for token part {index}",
                self.masks_dir.display()
            ))
            .remedy("select masks again for these tokens")
        };
        Ok(self.masks_dir.join(&part.ok_or_else(missing)?.file))
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
    masks: Masks,
    path: PathBuf,
    /// Rows to come, the next one last.
    left: Vec<usize>,
}

impl EpochRows<'_> {
    /// Up to `batch_size` rows; fewer at the end of the epoch only, none after it.
    pub(crate) fn batch(&mut self, batch_size: usize) -> Result<Vec<Example>> {
        let mut batch = Vec::with_capacity(batch_size);
        while batch.len() < batch_size {
            let Some(row) = self.next_row()? else { break };
            batch.push(self.part.example(row)?);
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
    fn example(&self, row: usize) -> Result<Example> {
        let positions = self.masks.positions.row(row).iter().map(|&position| u32::from(position));
        let inputs = self.masks.inputs.row(row).iter().copied();
        let outside = || {
            Fault::input(format!("{}: row {row} masks a position outside of the row", self.path.display()))
                .remedy("select masks again for these tokens")
        };
        Ok(Example::masked(self.tokens.input_ids.row(row), positions, inputs).ok_or_else(outside)?)
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
        Ok(Corpus::new((&tokens, &manifests.0), (&masks, &manifests.1), 7))
    }

    fn first_tokens(corpus: &Corpus, epoch: u64, skip: usize, batch_size: usize) -> Vec<Vec<u32>> {
        let mut rows = corpus.epoch(epoch, skip).expect("readable");
        let mut batches = Vec::new();
        loop {
            let batch = rows.batch(batch_size).expect("readable");
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
