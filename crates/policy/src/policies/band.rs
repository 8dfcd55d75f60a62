//! `band`: scores between two quantiles.

use entromask_random::open_unit;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Method;
use crate::config::{Config, refuse};
use crate::picks::Picks;
use crate::ranking::ranks;
use crate::units::Units;

/// At random among the units whose score lies between two quantiles; if they are too few, the next ones on either side.
///
/// The unit of rank r among n, counted from 0 at the lowest score, is the quantile (r + 1/2) / n. Leaving out the very
/// highest scores leaves out what cannot be learned: names, numbers, noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Lower quantile, from 0.
    pub lo: f64,
    /// Upper quantile, to 1; the band has to be as wide as the rate.
    pub hi: f64,
}

impl Method for Band {
    fn select(&self, units: &Units, picks: &mut Picks, _epoch: u16, rng: &mut ChaCha8Rng) {
        let ranks = ranks(&units.scores);
        let n = ranks.len() as f64;
        picks.prefer(|unit| {
            let quantile = (f64::from(ranks[unit as usize]) + 0.5) / n;
            let beside = (self.lo - quantile).max(quantile - self.hi);
            if beside > 0.0 { -beside } else { open_unit(rng) }
        });
    }

    fn validate(&self, config: &Config) -> anyhow::Result<()> {
        if !(0.0 <= self.lo && self.lo < self.hi && self.hi <= 1.0) {
            let found = format!("{} to {}", self.lo, self.hi);
            return Err(refuse("policy.lo to policy.hi", found, "two quantiles, 0 <= lo < hi <= 1"));
        }
        let rate = config.epoch_range().map(|epoch| config.rate.at(epoch)).fold(0.0, f64::max);
        if self.hi - self.lo < rate - 1e-9 {
            let allowed = format!("a band at least as wide as the rate, {rate}, or another rate");
            return Err(refuse("policy.hi - policy.lo", self.hi - self.lo, &allowed));
        }
        Ok(())
    }
}
