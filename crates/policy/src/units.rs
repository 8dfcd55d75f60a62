//! What a policy chooses from: tokens, or whole words, with their scores.

use std::ops::Range;

use crate::config::{Config, WordScore};
use crate::row::Row;

/// The units of one budget, in the order of the text.
///
/// Places count the tokens of all rows of the budget one after the other, with a gap between two rows, so that nothing
/// that looks at neighbouring places ever looks into another row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Units {
    /// Place of each token that can be chosen, ascending.
    pub places: Vec<u32>,
    /// Token id at each of these places.
    pub ids: Vec<u32>,
    /// Word of each of these tokens; the first word has number 0, each further one the next number.
    pub words: Vec<u32>,
    /// Unit `u` has the tokens `starts[u]..starts[u + 1]`.
    starts: Vec<u32>,
    /// Score of each unit; empty for policies that need none.
    pub scores: Vec<f32>,
    /// Places between two rows.
    gap: u32,
}

impl Units {
    /// The units of `rows` and where each row begins.
    pub(crate) fn of(config: &Config, excluded: &[bool], rows: &[Row]) -> (Self, Vec<u32>) {
        let mut units = Self { starts: vec![0], ..Self::default() };
        // A window as long as the longest row sees all of it, and a wider one no more.
        let longest = rows.iter().map(|row| row.word.len()).max().unwrap_or(0);
        let gap = config.spread.map_or(2, |spread| spread.window.min(longest)) as u32;
        units.gap = gap;
        let (mut begins, mut begin) = (Vec::with_capacity(rows.len()), 0);
        let size = rows.iter().map(|row| row.word.len()).sum();
        units.reserve(size);
        for row in rows {
            begins.push(begin);
            match config.whole_word {
                None => units.add_tokens(row, begin, excluded),
                Some(score) => units.add_words(row, begin, excluded, score),
            }
            begin += row.word.len() as u32 + gap;
        }
        (units, begins)
    }

    /// The number of units.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// True if nothing can be chosen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a unit, as indices into `places`, `ids` and `words`.
    pub fn tokens(&self, unit: usize) -> Range<usize> {
        self.starts[unit] as usize..self.starts[unit + 1] as usize
    }

    /// The number of tokens of a unit.
    pub fn size(&self, unit: usize) -> usize {
        self.tokens(unit).len()
    }

    /// Places between two rows: no window needs to be wider.
    pub(crate) fn gap(&self) -> usize {
        self.gap as usize
    }

    /// True if each unit is one token.
    pub fn are_tokens(&self) -> bool {
        self.len() == self.places.len()
    }

    fn reserve(&mut self, size: usize) {
        self.places.reserve(size);
        self.ids.reserve(size);
        self.words.reserve(size);
        self.starts.reserve(size);
        self.scores.reserve(size);
    }

    /// Adds run after run of neighbours, a column at a time.
    fn add_tokens(&mut self, row: &Row, begin: u32, excluded: &[bool]) {
        let mut before = None;
        let mut position = 0;
        while position < row.word.len() {
            let run = run(row, position, excluded);
            position = run.end + 1;
            let first = self.places.len() as u32;
            self.places.extend(begin + run.start as u32..begin + run.end as u32);
            self.starts.extend(first + 1..=first + run.len() as u32);
            self.ids.extend_from_slice(&row.input_ids[run.clone()]);
            before = self.number_words(&row.word[run.clone()], before);
            row.scores.append(run.clone(), &row.input_ids[run], &mut self.scores);
        }
    }

    /// Numbers the words of neighbours, of which the one before them belongs to the word `before`. Returns the last word.
    fn number_words(&mut self, words: &[Option<u16>], mut before: Option<u16>) -> Option<u16> {
        // The first number is 0, so that it follows on the one before.
        let mut last = self.words.last().copied().unwrap_or(u32::MAX);
        self.words.extend(words.iter().map(|&word| {
            last = last.wrapping_add(u32::from(before != word));
            before = word;
            last
        }));
        before
    }

    fn add_words(&mut self, row: &Row, begin: u32, excluded: &[bool], score: WordScore) {
        let mut first = 0;
        for pieces in row.word.chunk_by(|a, b| a == b) {
            let range = first..first + pieces.len();
            first = range.end;
            if pieces[0].is_none() {
                continue;
            }
            // A word may be all that stands between two spaces: a comma is no reason to spare what it follows.
            let range = range.filter(|&i| !is_excluded(excluded, row.input_ids[i]));
            let word = self.words.last().map_or(0, |last| last + 1);
            range.clone().for_each(|i| self.push(begin + i as u32, row.input_ids[i], word));
            let size = self.places.len() as u32 - self.starts.last().copied().unwrap_or(0);
            if size == 0 {
                continue;
            }
            self.starts.push(self.places.len() as u32);
            if row.scores.are_there() {
                let scores = range.map(|i| row.scores.at(i, row.input_ids[i]));
                self.scores.push(score.of(scores, size as usize));
            }
        }
    }

    fn push(&mut self, place: u32, id: u32, word: u32) {
        self.places.push(place);
        self.ids.push(id);
        self.words.push(word);
    }
}

impl WordScore {
    fn of(self, pieces: impl Iterator<Item = f32>, size: usize) -> f32 {
        match self {
            Self::Max => pieces.fold(f32::NEG_INFINITY, f32::max),
            Self::Mean => pieces.sum::<f32>() / size as f32,
        }
    }
}

/// The tokens from `position` on that can be chosen; empty where the first one cannot.
fn run(row: &Row, position: usize, excluded: &[bool]) -> Range<usize> {
    let tokens = row.word[position..].iter().zip(&row.input_ids[position..]);
    let length = tokens.take_while(|(word, id)| word.is_some() && !is_excluded(excluded, **id)).count();
    position..position + length
}

fn is_excluded(excluded: &[bool], id: u32) -> bool {
    excluded.get(id as usize).copied().unwrap_or(false)
}
