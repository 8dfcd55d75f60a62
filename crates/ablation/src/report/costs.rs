//! What runs cost, and on whose account.

use std::collections::BTreeMap;
use std::path::Path;

use entromask_artifact::Manifest;
use serde::{Deserialize, Serialize};

use crate::plan::Account;

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Floating-point operations of the models' matrix products, by formula.
    pub flops: f64,
    /// Wall-clock seconds on the threads that the stage had.
    pub seconds: f64,
}

impl Spent {
    /// What an artifact took.
    pub fn of(manifest: &Manifest) -> Self {
        Self { flops: manifest.cost.flops, seconds: manifest.cost.seconds }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, seconds: self.seconds + other.seconds }
    }
}

impl Account {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Corpus => "corpus",
            Self::Teacher => "teacher",
            Self::Scoring => "scoring",
            Self::Selection => "selection",
            Self::Training => "training",
        }
    }

    /// Whether it counts as compute of a run: what all runs need alike does not.
    pub(super) fn is_charged(self) -> bool {
        self != Self::Corpus
    }
}

/// A sentence on teachers whose training nobody is charged, to follow others; nothing where there are none.
pub(super) fn without(uncharged: &[String]) -> String {
    if uncharged.is_empty() {
        return String::new();
    }
    let names = uncharged.join(", ");
    format!(
        " Not included is the training of {names}: it was done elsewhere, at a cost that is not known here."
    )
}

/// What the parts of a run took, by account.
pub(super) fn by_account(parts: &[(Account, &Path, &Manifest)]) -> BTreeMap<String, Spent> {
    let mut costs: BTreeMap<String, Spent> = BTreeMap::new();
    for (account, _, manifest) in parts.iter().filter(|(account, ..)| account.is_charged()) {
        let sum = costs.entry(account.name().into()).or_default();
        *sum = sum.and(Spent::of(manifest));
    }
    costs
}
