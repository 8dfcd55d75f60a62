//! The view of a tokens artifact.

use entromask_tables::{TokenColumns, Tokens};
use serde::Serialize;

use super::target::Target;
use super::{Options, rows};
use crate::corpus::Names;
use crate::nats::nice_step;
use crate::passage::Passage;
use crate::sample::{self, LookedAt};

/// Rows that are shown as text.
const SHOWN: usize = 3;

/// What is in a tokens artifact.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokensView {
    /// Tokens in the rows that were read.
    pub tokens: u64,
    /// Special tokens among them.
    pub special: u64,
    /// Words among them; a word that runs into the next row counts twice.
    pub words: u64,
    /// Documents that begin in these rows.
    pub docs: u64,
    /// Mean row length in tokens.
    pub mean_length: f64,
    /// Longest row in tokens.
    pub longest: usize,
    /// Rows by length.
    pub lengths: Vec<LengthBin>,
    /// A few rows as text.
    pub passages: Vec<Passage>,
}

/// Rows of about the same length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LengthBin {
    /// Least length in tokens, included.
    pub from: usize,
    /// Largest length, included.
    pub to: usize,
    /// Rows.
    pub rows: u64,
}

pub(super) fn view(target: &Target, options: &Options) -> anyhow::Result<(LookedAt, TokensView)> {
    let parts = target.parts("part-");
    let (chosen, looked) = sample::choose(&parts, options.budget());
    let read = |index: usize, columns| Tokens::read(&target.dir.join(&parts[index].file), columns);
    let mut counts = Counts::default();
    for &index in &chosen {
        counts.add(&read(index, TokenColumns { word: true, ..TokenColumns::default() })?);
    }
    let mut view = counts.view();
    if let Some(&first) = chosen.first() {
        let names = Names::load(&target.dir.join("tokenizer.json")).unwrap_or_default();
        let (part, row) = options
            .row
            .map_or(Ok((first, None)), |row| rows::find(&parts, row).map(|(part, row)| (part, Some(row))))?;
        let tokens = read(part, TokenColumns::ALL)?;
        let shown = row.map_or_else(|| spread(tokens.rows()), |row| vec![row]);
        let shown = shown.into_iter().filter(|&row| row < tokens.rows());
        view.passages = shown.map(|row| Passage::new(&tokens, row, &names).finished()).collect();
    }
    Ok((looked, view))
}

#[derive(Default)]
struct Counts {
    view: TokensView,
    /// Rows of each length.
    lengths: Vec<u64>,
    last_doc: Option<u64>,
}

impl Counts {
    fn add(&mut self, part: &Tokens) {
        for (ids, words) in part.input_ids.iter().zip(part.word.iter()) {
            self.view.tokens += ids.len() as u64;
            self.view.special += words.iter().filter(|word| word.is_none()).count() as u64;
            let mut distinct: Vec<_> = words.iter().flatten().collect();
            distinct.dedup();
            self.view.words += distinct.len() as u64;
            if ids.len() >= self.lengths.len() {
                self.lengths.resize(ids.len() + 1, 0);
            }
            self.lengths[ids.len()] += 1;
        }
        for &doc in &part.doc {
            self.view.docs += u64::from(self.last_doc != Some(doc));
            self.last_doc = Some(doc);
        }
    }

    fn view(self) -> TokensView {
        let rows: u64 = self.lengths.iter().sum();
        let mean_length = if rows == 0 { 0.0 } else { self.view.tokens as f64 / rows as f64 };
        let longest = self.lengths.len().saturating_sub(1);
        TokensView { mean_length, longest, lengths: length_bins(&self.lengths, longest), ..self.view }
    }
}

/// Some rows at equal distances.
fn spread(rows: usize) -> Vec<usize> {
    let shown = rows.min(SHOWN);
    (0..shown).map(|i| i * rows / shown).collect()
}

/// About ten bins of a round width up to the longest row.
fn length_bins(lengths: &[u64], longest: usize) -> Vec<LengthBin> {
    let width = nice_step(longest as f64 / 10.0).ceil().max(1.0) as usize;
    let bins = longest.div_ceil(width);
    let bin = |index: usize| {
        let (from, to) = (index * width + 1, ((index + 1) * width).min(longest));
        LengthBin { from, to, rows: lengths[from..=to].iter().sum() }
    };
    (0..bins).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_bin() {
        let mut lengths = vec![0; 129];
        (lengths[1], lengths[20], lengths[21], lengths[128]) = (1, 2, 3, 10);
        let bins = length_bins(&lengths, 128);
        assert_eq!(bins.iter().map(|bin| bin.rows).sum::<u64>(), 16);
        assert_eq!((bins[0].from, bins[0].to, bins.last().map(|bin| bin.to)), (1, 20, Some(128)));
        assert!(length_bins(&[], 0).is_empty());
        assert_eq!((spread(10), spread(1), spread(0)), (vec![0, 3, 6], vec![0], vec![]));
    }
}
