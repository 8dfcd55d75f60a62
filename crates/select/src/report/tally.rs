//! Counts over rows, parts and epochs.

use std::collections::BTreeMap;

use entromask_tables::Masks;

use super::facts::{PartFacts, RowFacts};
use super::overlap::{Counted, Overlap};
use entromask_policy::Class;
use entromask_policy::{Choice, Selector, budget};

/// Counts over all rows and epochs of a masks artifact.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Rows times epochs.
    pub rows: u64,
    /// Maskable tokens.
    pub maskable: u64,
    /// Masked tokens.
    pub masked: u64,
    /// Tokens that were to be masked.
    pub budget: u64,
    /// Tokens that were masked although cap or spread forbid it.
    pub relaxed: u64,
    /// Tokens that the model sees as something else than the mask token.
    pub corrupted: u64,
    /// Masked tokens of each epoch, and maskable ones.
    pub by_epoch: BTreeMap<u16, Share>,
    /// Masked and maskable tokens of each class, in the order of [`Class::ALL`].
    pub by_class: [Share; Class::ALL.len()],
    /// Masked and maskable tokens of each token id.
    pub by_token: Vec<Share>,
    /// Sums over masked tokens and over all, for each measure.
    pub sums: BTreeMap<&'static str, [f64; 2]>,
    pub gaps: Gaps,
    pub overlap: Counted,
}

/// Masked tokens among the maskable ones of some kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub masked: u64,
    pub maskable: u64,
    /// Masked tokens that random masks of the same budgets would have; of tokens and classes.
    pub expected: f64,
}

/// How close together masked tokens lie, and what to expect of random masks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gaps {
    /// Masked tokens whose left neighbour is masked too.
    pub adjacent: u64,
    pub adjacent_random: f64,
    /// Steps from a masked token to the next one in its row, summed over `count` of them; 1 is side by side.
    pub steps: u64,
    pub steps_random: f64,
    pub count: u64,
}

impl Tally {
    /// Adds what the choices of one part in one epoch were to spend.
    pub(crate) fn add_budgets(
        &mut self,
        selector: &Selector,
        facts: &PartFacts,
        choices: &[Choice],
        epoch: u16,
    ) {
        let mut rows = facts.rows.iter();
        for choice in choices {
            let maskable: u32 = rows.by_ref().take(choice.rows.len()).map(|row| row.maskable).sum();
            self.budget += budget(selector.config.rate.at(epoch), maskable as usize) as u64;
            self.relaxed += choice.relaxed;
        }
    }

    /// Adds the masks of one part in one epoch.
    pub(crate) fn add(&mut self, facts: &PartFacts, masks: &Masks, mask_id: u32) {
        let (maskable, masked) = (facts.maskable(), masks.positions.values.len() as u64);
        self.rows += masks.rows() as u64;
        self.maskable += maskable;
        self.masked += masked;
        self.corrupted += masks.inputs.values.iter().filter(|&&input| input != mask_id).count() as u64;
        let epoch = masks.epoch.first().copied().unwrap_or_default();
        self.by_epoch.entry(epoch).or_default().add(Share { masked, maskable, ..Share::default() });
        self.add_maskable(facts);
        for (index, positions) in masks.positions.iter().enumerate() {
            let row = facts.tokens.word.row(index);
            self.gaps.add(row, facts.rows[index], positions);
            let begin = facts.tokens.word.offsets[index] as usize;
            for &position in positions {
                self.add_masked(facts, begin + usize::from(position));
            }
        }
    }

    /// Adds what the epochs of one part have in common.
    pub(crate) fn add_overlap(&mut self, facts: &PartFacts, overlap: &Overlap) {
        self.overlap.add(&overlap.total());
        self.hold_tokens(facts.by_token.len());
        for (index, expected) in overlap.expected.iter().enumerate() {
            self.add_expected(facts, index, *expected);
        }
    }

    /// Adds the counts of another part.
    pub(crate) fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.maskable += other.maskable;
        self.masked += other.masked;
        self.budget += other.budget;
        self.relaxed += other.relaxed;
        self.corrupted += other.corrupted;
        self.gaps.merge(other.gaps);
        self.overlap.add(&other.overlap);
        other.by_epoch.iter().for_each(|(epoch, share)| self.by_epoch.entry(*epoch).or_default().add(*share));
        self.by_class.iter_mut().zip(other.by_class).for_each(|(share, other)| share.add(other));
        self.hold_tokens(other.by_token.len());
        self.by_token.iter_mut().zip(other.by_token).for_each(|(share, other)| share.add(other));
        for (name, sums) in other.sums {
            let own = self.sums.entry(name).or_default();
            own.iter_mut().zip(sums).for_each(|(own, sum)| *own += sum);
        }
    }

    fn add_maskable(&mut self, facts: &PartFacts) {
        self.hold_tokens(facts.by_token.len());
        self.by_token.iter_mut().zip(&facts.by_token).for_each(|(share, count)| share.maskable += count);
        self.by_class.iter_mut().zip(facts.by_class).for_each(|(share, count)| share.maskable += count);
        for (values, sum) in &facts.reported {
            self.sums.entry(values.name).or_default()[1] += sum;
        }
    }

    /// Adds the masked token at `index`, counted over all rows of the part.
    fn add_masked(&mut self, facts: &PartFacts, index: usize) {
        self.by_token[facts.tokens.input_ids.values[index] as usize].masked += 1;
        self.by_class[facts.class(index)].masked += 1;
        for (values, _) in &facts.reported {
            self.sums.entry(values.name).or_default()[0] += values.at(index);
        }
    }

    /// Adds what random masks would have of the tokens of a row, each `expected` times.
    fn add_expected(&mut self, facts: &PartFacts, row: usize, expected: f64) {
        let begin = facts.tokens.word.offsets[row] as usize;
        let maskable = facts.tokens.word.row(row).iter().zip(begin..).filter(|(word, _)| word.is_some());
        for (_, index) in maskable {
            self.by_token[facts.tokens.input_ids.values[index] as usize].expected += expected;
            self.by_class[facts.class(index)].expected += expected;
        }
    }

    fn hold_tokens(&mut self, ids: usize) {
        let ids = ids.max(self.by_token.len());
        self.by_token.resize(ids, Share::default());
    }
}

impl Share {
    fn add(&mut self, other: Self) {
        self.masked += other.masked;
        self.maskable += other.maskable;
        self.expected += other.expected;
    }
}

impl Gaps {
    /// Adds the masked positions of one row. Special tokens between two of them are no steps.
    ///
    /// Of k random tokens among n, both of a pair are masked with probability k (k − 1) / (n (n − 1)), and the mean
    /// step to the next one is (n + 1) / (k + 1).
    fn add(&mut self, word: &[Option<u16>], row: RowFacts, positions: &[u16]) {
        let (n, k) = (f64::from(row.maskable), positions.len() as f64);
        self.adjacent += positions.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as u64;
        if let ([first, .., last], true) = (positions, n > 1.0) {
            let between = &word[usize::from(*first)..usize::from(*last)];
            self.steps += between.iter().flatten().count() as u64;
            self.count += positions.len() as u64 - 1;
            self.steps_random += (k - 1.0) * (n + 1.0) / (k + 1.0);
            self.adjacent_random += f64::from(row.pairs) * k * (k - 1.0) / (n * (n - 1.0));
        }
    }

    fn merge(&mut self, other: Self) {
        self.adjacent += other.adjacent;
        self.adjacent_random += other.adjacent_random;
        self.steps += other.steps;
        self.steps_random += other.steps_random;
        self.count += other.count;
    }
}
