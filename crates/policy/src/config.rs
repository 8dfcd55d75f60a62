//! What can be configured about masks.

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::corruption::Corruption;
use crate::policies::{Basis, Policy};
use crate::schedule::Schedule;

/// Configuration of mask selection; every key is semantic.
///
/// Options beyond the first ones are not written while they have their default, so that what was configured without
/// them keeps its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which tokens to mask.
    pub policy: Policy,
    /// Share of the maskable tokens of each row (or part, see `budget`) to mask, in (0, 1].
    pub rate: Schedule,
    /// Seed of all draws.
    pub seed: u64,
    /// First epoch to make masks for.
    pub first_epoch: u16,
    /// Number of epochs to make masks for.
    pub epochs: u16,
    /// What the model sees at the masked positions.
    pub corruption: Corruption,
    /// Column of the entropy table that policies select by. Of `margin`, which is small where the model is unsure, they
    /// see 1 − margin. Temperatures are in the measure's unit: nats, and for `margin` and `normalized` shares of 1.
    #[serde(skip_serializing_if = "is_default_measure")]
    pub measure: String,
    /// Mask all pieces of a word or none, but for those that are excluded; a word's score is the greatest or the mean score of
    /// its pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_word: Option<WordScore>,
    /// Largest share of a budget for occurrences of one token id, in (0, 1]; one occurrence is always allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// How close together masked tokens may lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Classes of tokens that are never masked. They count as maskable in the budget.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Class>,
    /// What a budget is for.
    #[serde(skip_serializing_if = "is_default")]
    pub budget: Scope,
    /// What to do where `cap` and `spread` stop a budget from being spent.
    #[serde(skip_serializing_if = "is_default")]
    pub shortfall: Shortfall,
}

/// The score of a word, from those of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordScore {
    /// The greatest.
    Max,
    /// The mean.
    Mean,
}

/// At most floor(share · window) masked tokens, and at least 1, in any `window` consecutive positions of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Share of a window, in (0, 1].
    pub share: f64,
    /// Positions, at least 2.
    pub window: usize,
}

/// What a budget is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each row by itself.
    #[default]
    Row,
    /// All rows of a part together: some rows may get much, others nothing.
    Shard,
}

/// What to do where cap and spread stop a budget from being spent.
///
/// Units are taken in the policy's order and never given back, so that with a spread close to the rate some of the
/// budget may be left although another choice would have had room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortfall {
    /// Spend the rest without them, and report how much that was.
    #[default]
    Relax,
    /// Mask fewer tokens, and report how many are missing.
    Accept,
    /// Stop with an error.
    Fail,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            rate: Schedule::Constant(0.15),
            seed: 1,
            first_epoch: 0,
            epochs: 1,
            corruption: Corruption::default(),
            measure: DEFAULT_MEASURE.into(),
            whole_word: None,
            cap: None,
            spread: None,
            exclude: Vec::new(),
            budget: Scope::default(),
            shortfall: Shortfall::default(),
        }
    }
}

const DEFAULT_MEASURE: &str = "entropy";
/// Columns of the entropy table that `entromask-score` may write.
const MEASURES: [&str; 6] = ["entropy", "surprisal", "min_entropy", "renyi2", "margin", "normalized"];
const SHARE: &str = "a number above 0 and at most 1";

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key, its value and what is allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        self.rate.validate("rate", SHARE, is_share)?;
        if self.epochs == 0 || self.first_epoch.checked_add(self.epochs).is_none() {
            return Err(refuse("epochs", self.epochs, "at least 1, and first_epoch + epochs below 65536"));
        }
        if let Some(cap) = self.cap.filter(|cap| !is_share(*cap)) {
            return Err(refuse("cap", cap, SHARE));
        }
        self.spread.iter().try_for_each(Spread::validate)?;
        if !MEASURES.contains(&self.measure.as_str()) {
            return Err(refuse("measure", &self.measure, &format!("one of {}", MEASURES.join(", "))));
        }
        self.exclude.iter().try_for_each(|class| class.check_excludable())?;
        self.policy.validate(self)?;
        self.corruption.validate()
    }

    /// With the defaults of what has no effect: nothing is measured where a policy looks at no scores, and then a word has
    /// none either; a cap or spread of 1 forbids nothing, and without them nothing stops a budget from being spent. Excluded
    /// classes are in one order.
    #[must_use]
    pub fn effective(&self) -> Self {
        let basis = self.policy.basis();
        let measured = matches!(basis, Basis::Measure | Basis::Excess);
        let (cap, spread) =
            (self.cap.filter(|cap| *cap < 1.0), self.spread.filter(|spread| spread.share < 1.0));
        let limited = cap.is_some() || spread.is_some();
        let mut exclude = self.exclude.clone();
        exclude.sort_by(|one, other| other.cmp(one));
        exclude.dedup();
        Self {
            cap,
            spread,
            exclude,
            shortfall: if limited { self.shortfall } else { Shortfall::default() },
            measure: if measured { self.measure.clone() } else { DEFAULT_MEASURE.into() },
            whole_word: self
                .whole_word
                .map(|score| if basis == Basis::Nothing { WordScore::Max } else { score }),
            ..self.clone()
        }
    }

    /// The epochs to make masks for.
    pub fn epoch_range(&self) -> std::ops::Range<u16> {
        self.first_epoch..self.first_epoch + self.epochs
    }
}

impl Spread {
    /// Most masked tokens in a window.
    pub fn limit(&self) -> usize {
        ((self.share * self.window as f64 + 1e-9) as usize).max(1)
    }

    fn validate(&self) -> anyhow::Result<()> {
        if !is_share(self.share) {
            return Err(refuse("spread.share", self.share, SHARE));
        }
        if !(2..=usize::from(u16::MAX)).contains(&self.window) {
            return Err(refuse("spread.window", self.window, "from 2 to 65535 positions"));
        }
        Ok(())
    }
}

fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_default_measure(name: &str) -> bool {
    name == DEFAULT_MEASURE
}

/// A value that is out of range.
pub(crate) fn refuse(key: &str, value: impl std::fmt::Display, allowed: &str) -> anyhow::Error {
    Fault::usage(format!("{key} = {value}")).remedy(format!("give {allowed}")).into()
}
