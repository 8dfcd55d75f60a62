//! How much of the corpus is ever masked, and how much again and again.

use entromask_tables::Masks;

use super::facts::{PartFacts, RowFacts};

/// The masks of one part from epoch to epoch.
pub(crate) struct Overlap<'a> {
    rows: &'a [RowFacts],
    offsets: &'a [u32],
    epochs: u32,
    /// For each token whether it was masked in the epoch before.
    before: Vec<bool>,
    /// For each token whether it was masked in any epoch.
    ever: Vec<bool>,
    /// Masked tokens of each row in the epoch before.
    counts: Vec<u32>,
    /// For each row the probability that one token is in no random mask.
    never: Vec<f64>,
    /// For each row how often random masks would have one of its tokens.
    pub expected: Vec<f64>,
    pub counted: Counted,
}

/// What [`Overlap`] comes to; sums over parts. All zero for a single epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// Masked tokens that were masked in the epoch before.
    pub repeated: u64,
    /// The same, expected of random masks.
    pub repeated_random: f64,
    /// Masked tokens of all epochs but the first.
    pub repeated_of: u64,
    /// Tokens masked in any epoch.
    pub ever: u64,
    /// The same, expected of random masks.
    pub ever_random: f64,
    /// Maskable tokens, counted once.
    pub ever_of: u64,
}

impl<'a> Overlap<'a> {
    pub(crate) fn new(facts: &'a PartFacts) -> Self {
        let (tokens, rows) = (&facts.tokens.input_ids, facts.rows.len());
        Self {
            rows: &facts.rows,
            offsets: &tokens.offsets,
            epochs: 0,
            before: vec![false; tokens.values.len()],
            ever: vec![false; tokens.values.len()],
            counts: vec![0; rows],
            never: vec![1.0; rows],
            expected: vec![0.0; rows],
            counted: Counted::default(),
        }
    }

    /// Adds the masks of the next epoch.
    pub(crate) fn add(&mut self, masks: &Masks) {
        let mut now = vec![false; self.before.len()];
        for (index, positions) in masks.positions.iter().enumerate() {
            for &position in positions {
                let place = self.offsets[index] as usize + usize::from(position);
                self.counted.repeated += u64::from(self.before[place]);
                self.ever[place] = true;
                now[place] = true;
            }
            self.expect(index, positions.len() as u32);
        }
        if self.epochs > 0 {
            self.counted.repeated_of += masks.positions.values.len() as u64;
        }
        self.epochs += 1;
        self.before = now;
    }

    /// The counts of all epochs; nothing if there was only one.
    pub(crate) fn total(&self) -> Counted {
        if self.epochs < 2 {
            return Counted::default();
        }
        let rows = self.rows.iter().zip(&self.never);
        Counted {
            ever: self.ever.iter().filter(|ever| **ever).count() as u64,
            ever_random: rows.map(|(row, never)| f64::from(row.maskable) * (1.0 - never)).sum(),
            ever_of: self.rows.iter().map(|row| u64::from(row.maskable)).sum(),
            ..self.counted
        }
    }

    /// Two random sets of a and b tokens of n share a · b / n.
    fn expect(&mut self, index: usize, masked: u32) {
        let n = f64::from(self.rows[index].maskable.max(1));
        self.counted.repeated_random += f64::from(self.counts[index]) * f64::from(masked) / n;
        self.never[index] *= 1.0 - f64::from(masked) / n;
        self.expected[index] += f64::from(masked) / n;
        self.counts[index] = masked;
    }
}

impl Counted {
    pub(crate) fn add(&mut self, other: &Self) {
        self.repeated += other.repeated;
        self.repeated_random += other.repeated_random;
        self.repeated_of += other.repeated_of;
        self.ever += other.ever;
        self.ever_random += other.ever_random;
        self.ever_of += other.ever_of;
    }
}
