//! The masks of the rows that share a budget.

use std::ops::Range;

use entromask_fault::Fault;
use entromask_random::keyed;
use rand_chacha::ChaCha8Rng;

use crate::Config;
use crate::config::{Scope, Shortfall};
use crate::corruption::Vocabulary;
use crate::picks::Picks;
use crate::units::Units;

/// The number of tokens to mask of `maskable` tokens: round(rate · maskable), half away from zero, at least 1
/// (0 only where nothing is maskable).
pub fn budget(rate: f64, maskable: usize) -> usize {
    ((rate * maskable as f64).round() as usize).max(1).min(maskable)
}

/// One row as selection sees it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its number in the split, which keys its draws.
    pub number: u64,
    /// Its token ids, `[seq_length]`.
    pub input_ids: &'a [u32],
    /// The word of each token; `None` marks special tokens, which are never masked. `[seq_length]`
    pub word: &'a [Option<u16>],
    /// What its tokens are scored by.
    pub scores: Scores<'a>,
}

/// What the tokens of a row are scored by.
#[derive(Clone, Copy, Debug, Default)]
pub enum Scores<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// A value for each position, `[seq_length]`.
    Column(&'a [Option<f32>]),
    /// The first value of each position less the second one, `[seq_length]` each.
    Difference(&'a [Option<f32>], &'a [Option<f32>]),
    /// A value for each token id, `[vocab_size]`.
    ByToken(&'a [f32]),
}

/// What one budget was spent on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For each row its masked positions, ascending, and what the model sees there.
    pub rows: Vec<(Vec<u16>, Vec<u32>)>,
    /// Tokens that were masked although cap or spread forbid it.
    pub relaxed: u64,
    /// Tokens of the budget that were not masked.
    pub short: u64,
}

/// Selection as configured, for one vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Selector<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The vocabulary.
    pub vocabulary: &'a Vocabulary,
    /// For each token id whether it is never masked; ids beyond the end are not excluded. `[vocab_size]`
    pub excluded: &'a [bool],
}

impl Scores<'_> {
    /// The score of the token `id` at `position`.
    pub(crate) fn at(&self, position: usize, id: u32) -> f32 {
        let of = |column: &[Option<f32>]| column.get(position).copied().flatten().unwrap_or(0.0);
        match self {
            Self::Nothing => 0.0,
            Self::Column(values) => of(values),
            Self::Difference(values, reference) => of(values) - of(reference),
            Self::ByToken(values) => values.get(id as usize).copied().unwrap_or(0.0),
        }
    }

    /// Appends the scores of the tokens `ids` at the positions `run`, if there are any.
    pub(crate) fn append(&self, run: Range<usize>, ids: &[u32], to: &mut Vec<f32>) {
        match self {
            Self::Nothing => {}
            Self::Column(values) if run.end <= values.len() => {
                to.extend(values[run].iter().map(|value| value.unwrap_or(0.0)));
            }
            _ => to.extend(run.zip(ids).map(|(position, &id)| self.at(position, id))),
        }
    }

    /// True unless tokens are scored by nothing.
    pub(crate) fn are_there(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

impl Selector<'_> {
    /// Spends the budget of `rows` in `epoch`.
    ///
    /// # Errors
    /// A [`Fault`] of class usage where cap and spread stop the budget from being spent, if so configured.
    pub fn select(&self, rows: &[Row], epoch: u16) -> anyhow::Result<Choice> {
        let config = self.config;
        let maskable = rows.iter().map(|row| row.word.iter().flatten().count()).sum();
        let (units, begins) = Units::of(config, self.excluded, rows);
        let mut picks = Picks::new(config, &units, budget(config.rate.at(epoch), maskable));
        let purpose = match config.budget {
            Scope::Row => "masks",
            Scope::Shard => "masks of a shard",
        };
        let number = rows.first().map_or(0, |row| row.number);
        let mut rng = keyed(config.seed, purpose, number, u64::from(epoch));
        config.policy.select(&units, &mut picks, epoch, &mut rng);
        let relaxed = self.relax(&units, &mut picks, epoch, &mut rng);
        if relaxed > 0 && config.shortfall == Shortfall::Fail {
            return Err(self.impossible(number, epoch, relaxed));
        }
        let rows = self.rows(rows, &begins, &picks.places(), epoch);
        Ok(Choice { rows, relaxed: relaxed as u64, short: picks.left() as u64 })
    }

    /// Spends what cap and spread did not allow to, unless less is accepted. Returns the number of tokens.
    fn relax(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng) -> usize {
        let left = picks.left();
        if left == 0 || !picks.is_limited() || self.config.shortfall == Shortfall::Accept {
            return 0;
        }
        picks.relax();
        self.config.policy.select(units, picks, epoch, rng);
        left - picks.left()
    }

    /// Cuts places into rows, and decides what the model sees there.
    fn rows(&self, rows: &[Row], begins: &[u32], places: &[u32], epoch: u16) -> Vec<(Vec<u16>, Vec<u32>)> {
        let mut rest = places;
        let of_row = |(row, &begin): (&Row, &u32)| {
            let end = begin + row.word.len() as u32;
            let (own, later) = rest.split_at(rest.partition_point(|place| *place < end));
            rest = later;
            let positions: Vec<u16> = own.iter().map(|place| (place - begin) as u16).collect();
            let inputs = self.inputs(row, &positions, epoch);
            (positions, inputs)
        };
        rows.iter().zip(begins).map(of_row).collect()
    }

    fn inputs(&self, row: &Row, positions: &[u16], epoch: u16) -> Vec<u32> {
        let mut rng = keyed(self.config.seed, "corruption", row.number, u64::from(epoch));
        let originals = positions.iter().map(|&position| row.input_ids[usize::from(position)]);
        originals.map(|id| self.config.corruption.apply(id, self.vocabulary, &mut rng)).collect()
    }

    fn impossible(&self, row: u64, epoch: u16, missing: usize) -> anyhow::Error {
        let place = match self.config.budget {
            Scope::Row => format!("row {row}"),
            Scope::Shard => format!("the part that begins with row {row}"),
        };
        let found =
            format!("{place}, epoch {epoch}: cap and spread leave {missing} tokens of the budget unmasked");
        Fault::usage(found)
            .remedy("raise cap or spread.share, lower rate, or set shortfall to \"relax\" or \"accept\"")
            .into()
    }
}
