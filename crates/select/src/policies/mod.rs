//! The selection policies. A new one is a module here and a variant of [`Policy`].

mod high;
mod low;
mod mixed;
mod random;
mod sample;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::refuse;

/// Which of a row's tokens to mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Policy {
    /// Uniformly at random: BERT's masking, and the baseline.
    #[default]
    Random,
    /// The tokens of highest entropy; ties go to the earlier token (the paper's strategy, read literally).
    High,
    /// The tokens of lowest entropy; ties go to the earlier token.
    Low,
    /// Without replacement with probability ∝ exp(H / temperature): Gumbel top-k (Kool et al., 2019).
    Sample {
        /// In nats, above 0. Towards 0 it becomes `high`, towards infinity `random`.
        temperature: f64,
    },
    /// A share of the budget at random, the rest as `sample`.
    Mixed {
        /// Share of the budget that is random, from 0 to 1.
        share: f64,
        /// Temperature of the rest, in nats.
        temperature: f64,
    },
}

impl Policy {
    /// Chooses `budget` of the candidates and returns their indices, in no particular order.
    ///
    /// `scores` holds a value for each candidate, e.g. its entropy in nats; policies that need none ignore it.
    pub fn select(&self, scores: &[f32], budget: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        match *self {
            Self::Random => random::select(scores.len(), budget, rng),
            Self::High => high::select(scores, budget),
            Self::Low => low::select(scores, budget),
            Self::Sample { temperature } => sample::select(scores, budget, temperature, rng),
            Self::Mixed { share, temperature } => mixed::select(scores, budget, share, temperature, rng),
        }
    }

    /// True if the policy looks at the scores.
    pub fn needs_scores(&self) -> bool {
        !matches!(self, Self::Random)
    }

    /// The name under which the policy is configured.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::High => "high",
            Self::Low => "low",
            Self::Sample { .. } => "sample",
            Self::Mixed { .. } => "mixed",
        }
    }

    /// Checks the parameters.
    pub fn validate(&self) -> anyhow::Result<()> {
        if let Self::Sample { temperature } | Self::Mixed { temperature, .. } = *self
            && !(temperature > 0.0 && temperature.is_finite())
        {
            return Err(refuse("policy.temperature", temperature, "a number of nats above 0"));
        }
        if let Self::Mixed { share, .. } = *self
            && !(0.0..=1.0).contains(&share)
        {
            return Err(refuse("policy.share", share, "a share from 0 to 1"));
        }
        Ok(())
    }
}
