//! `span`: spans of whole words.

use entromask_random::open_unit;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Basis, Method, random};
use crate::config::{Config, refuse};
use crate::picks::Picks;
use crate::units::Units;

/// Spans that start at the word of a random token and have a geometric number of words (Joshi et al., *`SpanBERT`*, 2020);
/// with `whole_word`, at a random word, as there.
///
/// P(ℓ words) ∝ p (1 − p)^(ℓ − 1) for ℓ = 1, …, `longest`, as there. A span ends early where the row does, and before
/// what cannot be masked; the last one ends with the budget, which may be inside a word unless words are kept whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Span {
    /// Probability to end after each word, in (0, 1].
    pub p: f64,
    /// Most words in a span.
    pub longest: u16,
}

impl Default for Span {
    fn default() -> Self {
        Self { p: 0.2, longest: 10 }
    }
}

impl Method for Span {
    fn basis(&self) -> Basis {
        Basis::Nothing
    }

    fn select(&self, units: &Units, picks: &mut Picks, _epoch: u16, rng: &mut ChaCha8Rng) {
        let anchors: Vec<u32> = random::shuffled(picks.open(), rng).collect();
        for anchor in anchors {
            if picks.left() == 0 {
                break;
            }
            // A random order without what was taken since is a uniform draw from what is left.
            if !picks.is_taken(anchor) {
                let words = self.length(rng);
                span(units, anchor, words).for_each(|unit| {
                    picks.take(unit);
                });
            }
        }
    }

    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        if !(self.p > 0.0 && self.p <= 1.0) {
            return Err(refuse("policy.p", self.p, "a probability above 0"));
        }
        if self.longest == 0 {
            return Err(refuse("policy.longest", self.longest, "at least 1 word"));
        }
        Ok(())
    }
}

impl Span {
    /// The number of words of a span: the inverse of P(ℓ ≤ x) = (1 − (1 − p)^x) / (1 − (1 − p)^longest).
    fn length(&self, rng: &mut impl Rng) -> u32 {
        let longest = u32::from(self.longest);
        if self.p >= 1.0 {
            return 1;
        }
        // ln_1p and exp_m1, because 1 − p is 1 for small p.
        let end = -(f64::from(longest) * (-self.p).ln_1p()).exp_m1();
        let length = ((-open_unit(rng) * end).ln_1p() / (-self.p).ln_1p()).ceil();
        (length as u32).clamp(1, longest)
    }
}

/// The units of `words` words from the word of `anchor` on, as long as they lie side by side.
fn span(units: &Units, anchor: u32, words: u32) -> impl Iterator<Item = u32> {
    let token = move |unit: u32| units.tokens(unit as usize);
    let word = move |unit: u32| units.words[token(unit).start];
    let beside = move |left: u32, right: u32| {
        units.places[token(left).end - 1] + 1 == units.places[token(right).start]
    };
    let mut first = anchor;
    while first > 0 && word(first - 1) == word(anchor) && beside(first - 1, first) {
        first -= 1;
    }
    let inside =
        move |unit: &u32| (*unit == first || beside(unit - 1, *unit)) && word(*unit) - word(first) < words;
    (first..units.len() as u32).take_while(inside)
}
