//! `mixed`: part of the budget at random, the rest by score.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Method, random, sample};
use crate::config::Config;
use crate::picks::Picks;
use crate::schedule::Schedule;
use crate::units::Units;

/// First round(share · budget) tokens at random, then the rest of the budget among the others as `sample` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// Share of the budget that is random, from 0 to 1.
    pub share: Schedule,
    /// Temperature of the rest, in nats.
    pub temperature: Schedule,
}

impl Method for Mixed {
    fn select(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng) {
        let left = picks.left() as f64;
        random::fill(picks, (self.share.at(epoch) * left).round() as usize, rng);
        sample::by_score(units, picks, self.temperature.at(epoch), rng);
    }

    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        sample::check_temperature(&self.temperature)?;
        self.share.validate("policy.share", "a share from 0 to 1", |share| (0.0..=1.0).contains(&share))
    }
}
