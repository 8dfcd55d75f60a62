//! `reducible`: where the student is less sure than a reference.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Basis, Method, sample};
use crate::config::Config;
use crate::picks::Picks;
use crate::schedule::Schedule;
use crate::units::Units;

/// The units whose score exceeds the reference's most: what can still be learned, without what nobody can know.
///
/// Mindermann et al., *Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt*, 2022:
/// their loss of a point is the measure `surprisal` here; with `entropy` the labels do not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reducible {
    /// In nats: draws as `sample` does; without it the highest differences are taken, as `high` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Schedule>,
}

impl Method for Reducible {
    fn basis(&self) -> Basis {
        Basis::Excess
    }

    fn select(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng) {
        match &self.temperature {
            Some(temperature) => sample::by_score(units, picks, temperature.at(epoch), rng),
            None => picks.prefer(|unit| f64::from(units.scores[unit as usize])),
        }
    }

    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        self.temperature.iter().try_for_each(sample::check_temperature)
    }
}
