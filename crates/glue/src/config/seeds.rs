//! The seeds of a stage.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// More would take years.
const MOST: u64 = 10_000;

/// Distinct seeds, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seeds(Vec<u64>);

impl Seeds {
    /// 1, 2, …, `count`.
    pub(super) fn first(count: u64) -> Self {
        Self((1..=count).collect())
    }

    /// The seeds in the order given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u64> {
        self.0.iter().copied()
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeedsVisitor)
    }
}

struct SeedsVisitor;

impl<'de> Visitor<'de> for SeedsVisitor {
    type Value = Seeds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of seeds (1 to 10000) or a list of distinct seeds")
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Seeds, E> {
        let count = u64::try_from(count).ok().filter(|count| (1..=MOST).contains(count));
        count.map(Seeds::first).ok_or_else(|| E::custom(format_args!("`seeds` must be from 1 to {MOST}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seeds, A::Error> {
        let mut seeds = Vec::new();
        while let Some(seed) = items.next_element()? {
            if seeds.contains(&seed) {
                return Err(A::Error::custom(format_args!("`seeds` has {seed} twice")));
            }
            seeds.push(seed);
        }
        if seeds.is_empty() { Err(A::Error::custom("`seeds` is empty")) } else { Ok(Seeds(seeds)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        seeds: Seeds,
    }

    #[test]
    fn seeds_are_a_count_or_a_list() -> anyhow::Result<()> {
        let parse = |text: &str| toml::from_str::<Holder>(text).map(|holder| holder.seeds);
        assert_eq!(parse("seeds = 3")?, Seeds(vec![1, 2, 3]));
        assert_eq!(parse("seeds = [7, 3]")?, Seeds(vec![7, 3]));
        for wrong in [
            "seeds = 0",
            "seeds = 1000000000000",
            "seeds = []",
            "seeds = [1, 1]",
            "seeds = -2",
            "seeds = \"one\"",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
