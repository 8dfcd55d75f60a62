//! `random`: uniformly at random without replacement.

use entromask_random::below;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Basis, Method};
use crate::picks::Picks;
use crate::units::Units;

/// Every set of units of the budget's size is equally likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {}

impl Method for Random {
    fn basis(&self) -> Basis {
        Basis::Nothing
    }

    fn select(&self, _units: &Units, picks: &mut Picks, _epoch: u16, rng: &mut ChaCha8Rng) {
        fill(picks, picks.left(), rng);
    }
}

/// Takes open units at random until `quota` tokens more are chosen.
pub(super) fn fill(picks: &mut Picks, quota: usize, rng: &mut impl Rng) {
    picks.fill(shuffled(picks.open(), rng), quota);
}

/// The items in random order: a Fisher–Yates shuffle that goes as far as it is asked to.
pub(super) fn shuffled(mut items: Vec<u32>, rng: &mut impl Rng) -> impl Iterator<Item = u32> {
    (0..items.len()).map(move |first| {
        let chosen = first + below(items.len() - first, rng);
        items.swap(first, chosen);
        items[first]
    })
}
