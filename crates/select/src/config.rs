//! What can be configured about masks.

use std::path::Path;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};

use crate::corruption::Corruption;
use crate::policies::Policy;

/// Configuration of mask selection; every key is semantic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which tokens to mask.
    pub policy: Policy,
    /// Share of the maskable tokens of each row to mask, in (0, 1].
    pub rate: f64,
    /// Seed of all draws.
    pub seed: u64,
    /// First epoch to make masks for.
    pub first_epoch: u16,
    /// Number of epochs to make masks for.
    pub epochs: u16,
    /// What the model sees at the masked positions.
    pub corruption: Corruption,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            rate: 0.15,
            seed: 1,
            first_epoch: 0,
            epochs: 1,
            corruption: Corruption::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key, its value and what is allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return Err(refuse("rate", self.rate, "a number above 0 and at most 1"));
        }
        if self.epochs == 0 || self.first_epoch.checked_add(self.epochs).is_none() {
            return Err(refuse(
                "epochs",
                f64::from(self.epochs),
                "at least 1, and first_epoch + epochs below 65536",
            ));
        }
        self.policy.validate()?;
        self.corruption.validate()
    }

    /// The epochs to make masks for.
    pub fn epoch_range(&self) -> std::ops::Range<u16> {
        self.first_epoch..self.first_epoch + self.epochs
    }
}

/// A value that is out of range.
pub(crate) fn refuse(key: &str, value: f64, allowed: &str) -> anyhow::Error {
    Fault::usage(format!("{key} = {value}")).remedy(format!("give {allowed}")).into()
}

/// The entropy artifact that a policy needs was not given.
pub(crate) fn entropy_missing(policy: &Policy, tokens: &Path) -> anyhow::Error {
    Fault::usage(format!("the policy `{}` needs entropies, and no --entropy was given", policy.name()))
        .remedy(format!("score {} with entromask-score and pass its folder", tokens.display()))
        .into()
}
