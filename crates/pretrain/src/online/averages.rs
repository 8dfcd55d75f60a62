//! Running averages of entropies, a value for each token that was ever scored.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use entromask_fault::Fault;
use entromask_random::{keyed, open_unit};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::data::CorpusRow;

/// An average and when it was last made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Average {
    entropy: f32,
    /// Tokens that had been trained on.
    tokens: u64,
}

/// A score that is not in the averages yet.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pending {
    row: u64,
    position: u32,
    score: Average,
}

/// What unknown tokens of a line differ by at most, nats: enough for an order among them.
const MORE: f32 = 1e-3;

/// Averages by row and position. What is added becomes visible with the next refresh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Averages {
    rows: BTreeMap<u64, BTreeMap<u32, Average>>,
    pending: Vec<Pending>,
}

impl Averages {
    /// Adds an entropy of the token at `position` of `line`.
    pub(super) fn add(&mut self, line: &CorpusRow, position: u32, entropy: f32, tokens: u64) {
        self.pending.push(Pending { row: line.row, position, score: Average { entropy, tokens } });
    }

    /// Lets what was added become visible; an earlier average keeps the weight `decay`.
    pub(super) fn refresh(&mut self, decay: f32) {
        for Pending { row, position, score } in self.pending.drain(..) {
            let average = self.rows.entry(row).or_default().entry(position).or_insert(score);
            let entropy = decay * average.entropy + (1.0 - decay) * score.entropy;
            *average = Average { entropy, ..score };
        }
    }

    /// The average of a token and when it was made, if it has one.
    pub(super) fn get(&self, row: u64, position: usize) -> Option<(f32, u64)> {
        let average = self.rows.get(&row)?.get(&(position as u32))?;
        Some((average.entropy, average.tokens))
    }

    /// Averages of a line's tokens; for those that have none the mean of the line, and a little more, as is drawn: of equal
    /// scores policies take the earlier ones, so that beginnings alone would ever be masked. `[seq_length]`
    pub(super) fn column(&self, line: &CorpusRow, seed: u64) -> Vec<Option<f32>> {
        let known = self.rows.get(&line.row);
        let values = known.into_iter().flat_map(BTreeMap::values).map(|average| f64::from(average.entropy));
        let count = known.map_or(0, BTreeMap::len);
        let mean = if count == 0 { 0.0 } else { values.sum::<f64>() / count as f64 };
        let mut random = keyed(seed, "unknown", line.row, line.epoch);
        let of = |position: usize| {
            let unknown = mean as f32 + MORE * open_unit(&mut random) as f32;
            Some(self.get(line.row, position).map_or(unknown, |(entropy, _)| entropy))
        };
        (0..line.ids.len()).map(of).collect()
    }

    /// Writes the averages and what is not in them yet.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let averages = self.rows.iter().flat_map(|(&row, averages)| {
            averages.iter().map(move |(&position, &score)| Pending { row, position, score })
        });
        let (averages, pending) = (Columns::of(averages), Columns::of(self.pending.iter().copied()));
        let views = [averages.views("average")?, pending.views("pending")?].concat();
        Ok(fs_err::write(path, safetensors::serialize(views, None)?)?)
    }

    /// Reads what [`Averages::save`] wrote.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the file is damaged.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = fs_err::read(path)?;
        let read = || -> Result<Self> {
            let file = SafeTensors::deserialize(&bytes)?;
            let mut averages = Self { rows: BTreeMap::new(), pending: scores(&file, "pending")? };
            for Pending { row, position, score } in scores(&file, "average")? {
                averages.rows.entry(row).or_default().insert(position, score);
            }
            Ok(averages)
        };
        read().map_err(|error| {
            Fault::input(format!("{}: not averages: {error:#}", path.display()))
                .remedy("delete its folder; training starts from the checkpoint before it")
                .into()
        })
    }
}

/// Scores as they lie in a file, a column after the other.
#[derive(Default)]
struct Columns {
    rows: Vec<u8>,
    positions: Vec<u8>,
    entropies: Vec<u8>,
    tokens: Vec<u8>,
    length: usize,
}

impl Columns {
    fn of(scores: impl Iterator<Item = Pending>) -> Self {
        let mut columns = Self::default();
        for Pending { row, position, score } in scores {
            columns.rows.extend(row.to_le_bytes());
            columns.positions.extend(position.to_le_bytes());
            columns.entropies.extend(score.entropy.to_le_bytes());
            columns.tokens.extend(score.tokens.to_le_bytes());
            columns.length += 1;
        }
        columns
    }

    /// In the order of their names.
    fn views(&self, prefix: &str) -> Result<Vec<(String, TensorView<'_>)>> {
        let columns: [(&str, Dtype, &[u8]); 4] = [
            ("entropy", Dtype::F32, &self.entropies),
            ("position", Dtype::U32, &self.positions),
            ("row", Dtype::U64, &self.rows),
            ("tokens", Dtype::U64, &self.tokens),
        ];
        let views = columns.into_iter().map(|(name, dtype, bytes)| {
            Ok((format!("{prefix}.{name}"), TensorView::new(dtype, vec![self.length], bytes)?))
        });
        views.collect()
    }
}

fn scores(file: &SafeTensors, prefix: &str) -> Result<Vec<Pending>> {
    let column = |name: &str| file.tensor(&format!("{prefix}.{name}")).map(|tensor| tensor.data().to_vec());
    let (rows, positions, entropies, tokens) =
        (column("row")?, column("position")?, column("entropy")?, column("tokens")?);
    let [rows, tokens] = [rows, tokens].map(|bytes| words(&bytes, u64::from_le_bytes));
    let (positions, entropies) =
        (words(&positions, u32::from_le_bytes), words(&entropies, f32::from_le_bytes));
    let values = entropies.into_iter().zip(tokens).map(|(entropy, tokens)| Average { entropy, tokens });
    let places = rows.into_iter().zip(positions);
    Ok(places.zip(values).map(|((row, position), score)| Pending { row, position, score }).collect())
}

fn words<const N: usize, T>(bytes: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&word| convert(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> CorpusRow {
        CorpusRow { row: 7, epoch: 0, ids: vec![2, 10, 11, 12, 3], word: vec![] }
    }

    #[test]
    fn averages_show_after_a_refresh_and_fill_up_with_the_mean() {
        let (mut averages, line) = (Averages::default(), line());
        let column =
            |averages: &Averages| averages.column(&line, 1).into_iter().flatten().collect::<Vec<_>>();
        let near = |found: &[f32], mean: f32| found.iter().all(|score| (mean..=mean + MORE).contains(score));
        assert!(near(&column(&averages), 0.0), "nothing is known");
        averages.add(&line, 1, 4.0, 100);
        averages.add(&line, 2, 2.0, 100);
        assert_eq!(averages.get(7, 1), None);
        averages.refresh(0.75);
        averages.add(&line, 1, 0.0, 300);
        averages.refresh(0.75);
        assert_eq!((averages.get(7, 1), averages.get(7, 2)), (Some((3.0, 300)), Some((2.0, 100))));
        let found = column(&averages);
        assert_eq!((found.len(), &found[1..3]), (5, [3.0, 2.0].as_slice()));
        assert!(near(&[found[0], found[3], found[4]], 2.5), "{found:?}");
    }

    #[test]
    fn which_of_the_unknown_tokens_comes_first_is_drawn() {
        let averages = Averages::default();
        let first = |row: u64, epoch: u64| {
            let column = averages.column(&CorpusRow { row, epoch, ..line() }, 1);
            (0..5).max_by(|&a, &b| column[a].partial_cmp(&column[b]).expect("finite"))
        };
        let mut seen: Vec<_> = (0..40).map(|row| first(row, 0)).collect();
        assert_eq!(seen, (0..40).map(|row| first(row, 0)).collect::<Vec<_>>());
        assert_ne!(seen, (0..40).map(|row| first(row, 1)).collect::<Vec<_>>());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 5, "each of them in some row");
    }

    #[test]
    fn what_is_saved_is_read_and_equal_states_are_equal_bytes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let mut averages = Averages::default();
        for position in 1..4 {
            averages.add(&line(), position, position as f32 / 3.0, 5);
        }
        averages.refresh(0.5);
        averages.add(&line(), 2, 0.1, 9);
        averages.save(&one)?;
        let read = Averages::load(&one)?;
        assert_eq!(read, averages);
        read.save(&two)?;
        assert_eq!(fs_err::read(&one)?, fs_err::read(&two)?);
        let bytes = fs_err::read(&one)?;
        fs_err::write(&one, &bytes[..bytes.len() / 2])?;
        Averages::load(&one).expect_err("truncated");
        Ok(())
    }
}
