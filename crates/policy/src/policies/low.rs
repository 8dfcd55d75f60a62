//! `low`: the lowest scores.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Method;
use crate::picks::Picks;
use crate::units::Units;

/// The units of the lowest score; of equal scores, the earlier unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Low {}

impl Method for Low {
    fn select(&self, units: &Units, picks: &mut Picks, _epoch: u16, _rng: &mut ChaCha8Rng) {
        picks.prefer(|unit| -f64::from(units.scores[unit as usize]));
    }
}
