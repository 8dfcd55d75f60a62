//! Self-masking inside training.

use anyhow::Result;
use entromask_fault::Fault;
use entromask_policy::config::Scope;
use entromask_policy::policies::Basis;
use serde::{Deserialize, Serialize};

/// Masks by the entropies of the model that is being trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineConfig {
    /// Where the entropies come from.
    pub mode: OnlineMode,
    /// `step`: share of a row's tokens that the first pass hides and scores; the masks are chosen among them.
    pub candidates: f64,
    /// `running`: steps between two refreshes of the averages that masks are chosen by.
    pub refresh: u64,
    /// `running`: weight of the earlier average when a token is scored again.
    pub decay: f64,
    /// Which tokens to mask, as in `pipelines/mask/`, by a policy that reads entropies: others would pay for scores that they do
    /// not read.
    pub mask: entromask_policy::Config,
}

/// Where the entropies come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnlineMode {
    /// A first forward pass of each step, with other tokens hidden.
    #[default]
    Step,
    /// The training passes themselves: each masked token has a running average of its entropies, and takes the mean of
    /// its row as long as it has none.
    Running,
}

impl Default for OnlineConfig {
    fn default() -> Self {
        Self {
            mode: OnlineMode::Step,
            candidates: 0.5,
            refresh: 100,
            decay: 0.5,
            mask: entromask_policy::Config::default(),
        }
    }
}

impl OnlineConfig {
    pub(super) fn check(&self) -> Result<()> {
        self.mask.validate()?;
        let usual = entromask_policy::Config::default();
        let basis = self.mask.policy.basis();
        let problem = if !(self.candidates > 0.0 && self.candidates <= 1.0) {
            ("candidates", self.candidates.to_string(), "above 0, at most 1")
        } else if self.refresh == 0 {
            ("refresh", "0".into(), "at least 1")
        } else if !(0.0..1.0).contains(&self.decay) {
            ("decay", self.decay.to_string(), "from 0, below 1")
        } else if basis != Basis::Measure {
            (
                "mask.policy.name",
                self.mask.policy.name(),
                "one that reads entropies and nothing else, as \"high\" or \"sample\"",
            )
        } else if self.mask.measure != usual.measure || !self.mask.exclude.is_empty() {
            ("mask", "measure or exclude".into(), "without them: they need tables")
        } else if self.mask.budget != Scope::Row {
            ("mask.budget", "shard".into(), "\"row\"")
        } else if self.mask.epoch_range() != usual.epoch_range() {
            ("mask", "first_epoch or epochs".into(), "without them: the epochs are those of --masks")
        } else {
            return Ok(());
        };
        let (key, value, wanted) = problem;
        Err(Fault::usage(format!("online.{key} = {value}")).remedy(format!("it must be {wanted}")).into())
    }
}
