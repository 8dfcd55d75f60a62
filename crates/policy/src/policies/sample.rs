//! `sample`: without replacement with probability ∝ exp(score / temperature).

use entromask_random::open_unit;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Method;
use crate::config::Config;
use crate::picks::Picks;
use crate::schedule::Schedule;
use crate::units::Units;

/// Draws one unit after the other, each with probability ∝ exp(score / temperature) among those that are left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// In nats, above 0. Towards 0 the policy becomes `high`, towards infinity `random`.
    pub temperature: Schedule,
}

impl Method for Sample {
    fn select(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng) {
        by_score(units, picks, self.temperature.at(epoch), rng);
    }

    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        check_temperature(&self.temperature)
    }
}

/// Gumbel top-k (Kool, van Hoof, Welling: *Stochastic Beams and Where to Find Them*, 2019): the highest values of
/// score / temperature + Gumbel noise are a sample without replacement.
///
/// Computed as score + temperature · noise, which orders alike and does not overflow for small temperatures.
pub(super) fn by_score(units: &Units, picks: &mut Picks, temperature: f64, rng: &mut impl Rng) {
    picks.prefer(|unit| f64::from(units.scores[unit as usize]) + temperature * gumbel(rng));
}

pub(super) fn check_temperature(temperature: &Schedule) -> anyhow::Result<()> {
    // Beyond, every draw is uniform, until noise times temperature overflows.
    let holds = |t: f64| t > 0.0 && t <= 1e12;
    temperature.validate("policy.temperature", "a number of nats above 0 and at most 1e12", holds)
}

/// A draw from the standard Gumbel distribution.
fn gumbel(rng: &mut impl Rng) -> f64 {
    -(-open_unit(rng).ln()).ln()
}
