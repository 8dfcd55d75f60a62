//! What is the same in all epochs of a part.

use entromask_tables::Tokens;

use entromask_policy::Class;

use crate::classes::Entries;
use crate::part::{Part, Reported};

/// Counts of one part's maskable tokens.
pub(crate) struct PartFacts<'a> {
    pub tokens: &'a Tokens,
    pub rows: Vec<RowFacts>,
    /// Occurrences of each token id.
    pub by_token: Vec<u64>,
    /// Occurrences of each class, in the order of [`Class::ALL`].
    pub by_class: [u64; Class::ALL.len()],
    /// What means are given of, with the sum over all tokens.
    pub reported: Vec<(Reported<'a>, f64)>,
    entries: &'a Entries,
}

/// Counts of one row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowFacts {
    /// Maskable tokens.
    pub maskable: u32,
    /// Pairs of maskable tokens side by side.
    pub pairs: u32,
}

impl<'a> PartFacts<'a> {
    pub(crate) fn of(part: &'a Part, entries: &'a Entries) -> Self {
        let tokens = &part.tokens;
        let total = |values: Reported<'a>| {
            let sum = (0..tokens.word.values.len()).filter(|&i| tokens.word.values[i].is_some());
            let sum = sum.map(|index| values.at(index)).sum();
            (values, sum)
        };
        let reported = part.reported().into_iter().map(total).collect();
        let rows = tokens.word.iter().map(RowFacts::of).collect();
        let mut facts =
            Self { tokens, rows, by_token: Vec::new(), by_class: Default::default(), reported, entries };
        facts.count();
        facts
    }

    /// Maskable tokens of the part.
    pub(crate) fn maskable(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.maskable)).sum()
    }

    /// The index of the class of the token at `index`, counted over all rows, in [`Class::ALL`].
    pub(crate) fn class(&self, index: usize) -> usize {
        let (ids, words) = (&self.tokens.input_ids.values, &self.tokens.word.values);
        let class = match self.entries.class(ids[index]).unwrap_or(Class::Other) {
            // Before the first token of a row there is a special token.
            Class::Word if index > 0 && words[index - 1] == words[index] => Class::Piece,
            class => class,
        };
        class as usize
    }

    fn count(&mut self) {
        let largest = self.tokens.input_ids.values.iter().max();
        self.by_token = vec![0; largest.map_or(0, |id| *id as usize + 1)];
        for (index, word) in self.tokens.word.values.iter().enumerate() {
            if word.is_some() {
                self.by_token[self.tokens.input_ids.values[index] as usize] += 1;
                self.by_class[self.class(index)] += 1;
            }
        }
    }
}

impl RowFacts {
    fn of(word: &[Option<u16>]) -> Self {
        let pairs = word.windows(2).filter(|pair| pair.iter().all(Option::is_some)).count();
        Self { maskable: word.iter().flatten().count() as u32, pairs: pairs as u32 }
    }
}
