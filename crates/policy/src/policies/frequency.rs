//! `frequency`: rare tokens more often.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Basis, Method, sample};
use crate::config::{Config, refuse};
use crate::picks::Picks;
use crate::units::Units;

/// Draws one unit after the other, each with probability ∝ count^−smoothing of its token in the whole corpus.
///
/// As in the training of `DistilBERT` (Sanh et al., 2019), after word2vec's subsampling and XLM; there the draw is over
/// a batch, here over a row or part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frequency {
    /// Exponent, at least 0; 0 is `random`.
    pub smoothing: f64,
}

impl Default for Frequency {
    fn default() -> Self {
        Self { smoothing: 0.7 }
    }
}

impl Method for Frequency {
    fn basis(&self) -> Basis {
        Basis::Rarity { smoothing: self.smoothing }
    }

    fn select(&self, units: &Units, picks: &mut Picks, _epoch: u16, rng: &mut ChaCha8Rng) {
        sample::by_score(units, picks, 1.0, rng);
    }

    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        // Beyond, f32 would not tell the rarest tokens apart.
        if (0.0..=1e6).contains(&self.smoothing) {
            return Ok(());
        }
        Err(refuse("policy.smoothing", self.smoothing, "a number from 0 to a million"))
    }
}
