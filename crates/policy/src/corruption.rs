//! What the model sees at the masked positions.

use std::collections::BTreeSet;

use entromask_random::{below, open_unit};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::refuse;

/// The shares of masked positions that show `[MASK]`, a random token, or the original. They add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Corruption {
    /// Share that shows the mask token.
    pub mask: f64,
    /// Share that shows a token drawn uniformly from the vocabulary without special tokens.
    pub random: f64,
    /// Share that shows the original token.
    pub keep: f64,
}

impl Default for Corruption {
    fn default() -> Self {
        Self { mask: 1.0, random: 0.0, keep: 0.0 }
    }
}

/// The vocabulary as far as corruption needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Number of tokens.
    pub size: u32,
    /// Id of the mask token.
    pub mask: u32,
    /// Ids of all special tokens, ascending.
    pub special: Vec<u32>,
}

impl Corruption {
    /// What the model sees in place of the token `original`.
    pub fn apply(&self, original: u32, vocabulary: &Vocabulary, rng: &mut impl Rng) -> u32 {
        if self.mask >= 1.0 {
            return vocabulary.mask;
        }
        let draw = open_unit(rng);
        if draw < self.mask {
            vocabulary.mask
        } else if draw < self.mask + self.random {
            vocabulary.draw(rng)
        } else {
            original
        }
    }

    /// Checks that the shares are shares.
    pub fn validate(&self) -> anyhow::Result<()> {
        let shares = [self.mask, self.random, self.keep];
        let sum: f64 = shares.iter().sum();
        if shares.iter().all(|share| *share >= 0.0) && (sum - 1.0).abs() < 1e-9 {
            return Ok(());
        }
        Err(refuse("corruption.mask + random + keep", sum, "shares of at least 0 that add up to 1"))
    }
}

impl Vocabulary {
    /// The ids among the special tokens by role, as manifests of tokens have them under `stats.special`, ascending.
    pub fn special_of(roles: &Value) -> Vec<u32> {
        let of_role = |id: &Value| id.as_array().cloned().unwrap_or_else(|| vec![id.clone()]);
        let ids = roles.as_object().into_iter().flat_map(|roles| roles.values().flat_map(of_role));
        let ids: BTreeSet<u32> = ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        ids.into_iter().collect()
    }

    fn draw(&self, rng: &mut impl Rng) -> u32 {
        let mut id = below(self.size as usize - self.special.len(), rng) as u32;
        for &special in &self.special {
            id += u32::from(special <= id);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use entromask_random::keyed;

    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary { size: 50, mask: 4, special: vec![0, 1, 2, 3, 4, 49] }
    }

    /// 100,000 draws; 6 standard deviations of each count are at most 0.8 % of the draws, so ±1 % holds for a correct
    /// split with a probability of failure below 1e-8.
    #[test]
    fn split_is_as_configured() {
        let corruption = Corruption { mask: 0.8, random: 0.1, keep: 0.1 };
        let mut rng = keyed(1, "corruption", 0, 0);
        let seen: Vec<u32> = (0..100_000).map(|_| corruption.apply(7, &vocabulary(), &mut rng)).collect();
        let share = |wanted: &dyn Fn(u32) -> bool| {
            seen.iter().filter(|&&id| wanted(id)).count() as f64 / seen.len() as f64
        };
        assert!((share(&|id| id == 4) - 0.8).abs() < 0.01);
        assert!((share(&|id| id == 7) - 0.1 - 0.1 / 44.0).abs() < 0.01);
        assert!(seen.iter().all(|id| *id == 4 || (5..49).contains(id)));
        assert!((5..49).all(|id| seen.contains(&id)), "every ordinary token can be drawn");
    }

    #[test]
    fn special_tokens_are_those_of_all_roles() {
        let roles =
            serde_json::json!({"pad": 1, "unk": null, "cls": 0, "mask": 4, "bos": 0, "other": [9, 3]});
        assert_eq!(Vocabulary::special_of(&roles), [0, 1, 3, 4, 9]);
    }

    #[test]
    fn shares_must_add_up() {
        assert!(Corruption { mask: 0.8, random: 0.1, keep: 0.2 }.validate().is_err());
        assert!(Corruption { mask: 1.1, random: -0.1, keep: 0.0 }.validate().is_err());
        assert!(Corruption::default().validate().is_ok());
    }
}
