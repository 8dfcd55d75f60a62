//! What fine-tuning leaves as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What fine-tuning leaves as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Freeze {
    /// Nothing: everything is trained.
    #[default]
    None,
    /// The embeddings.
    Embeddings,
    /// The embeddings and so many layers above them.
    Bottom(usize),
    /// Everything but the classifier and what pools for it: a probe.
    Body,
    /// At first as [`Freeze::Body`]; more layers from the top are trained epoch by epoch, all of them and the
    /// embeddings in the last one (Howard & Ruder 2018, `ULMFiT`, where it is one layer an epoch).
    Gradual,
}

impl Freeze {
    /// How many blocks from the bottom are frozen in `epoch` of `epochs`: the embeddings are the first of them, then come
    /// `layers` layers.
    ///
    /// ```
    /// use entromask_glue::Freeze;
    /// let frozen = |epoch| Freeze::Gradual.blocks(4, epoch, 3);
    /// assert_eq!([0, 1, 2].map(frozen), [5, 3, 0]);
    /// ```
    pub fn blocks(self, layers: usize, epoch: u64, epochs: u64) -> usize {
        match self {
            Self::None => 0,
            Self::Embeddings => 1,
            Self::Bottom(n) => 1 + n.min(layers),
            Self::Body => 1 + layers,
            Self::Gradual => {
                let (last, all) = (epochs.saturating_sub(1).max(1), layers as u64 + 1);
                let left = if epochs == 1 { 0 } else { last - epoch.min(last) };
                // Rounded half up.
                ((2 * all * left + last) / (2 * last)) as usize
            }
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Embeddings => f.write_str("embeddings"),
            Self::Bottom(n) => write!(f, "bottom-{n}"),
            Self::Body => f.write_str("body"),
            Self::Gradual => f.write_str("gradual"),
        }
    }
}

impl FromStr for Freeze {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("bottom-").map(str::parse)) {
            ("none", _) => Ok(Self::None),
            ("embeddings", _) => Ok(Self::Embeddings),
            ("body", _) => Ok(Self::Body),
            ("gradual", _) => Ok(Self::Gradual),
            (_, Some(Ok(n))) => Ok(Self::Bottom(n)),
            _ => Err(format!("`freeze` is `{text}`: it is none, embeddings, bottom-N, body or gradual")),
        }
    }
}

impl TryFrom<String> for Freeze {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> Self {
        freeze.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for freeze in [Freeze::None, Freeze::Embeddings, Freeze::Bottom(6), Freeze::Body, Freeze::Gradual] {
            assert_eq!(freeze.to_string().parse(), Ok(freeze));
        }
        for wrong in ["", "all", "bottom-", "bottom--1", "bottom-x"] {
            assert!(wrong.parse::<Freeze>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn gradual_unfreezing_begins_with_the_head_and_ends_with_everything() {
        for (layers, epochs) in [(2, 2), (2, 5), (12, 3), (4, 10)] {
            let frozen: Vec<_> =
                (0..epochs).map(|epoch| Freeze::Gradual.blocks(layers, epoch, epochs)).collect();
            assert_eq!((frozen[0], frozen[epochs as usize - 1]), (layers + 1, 0));
            assert!(frozen.is_sorted_by(|a, b| a >= b), "{frozen:?}");
        }
        assert_eq!(Freeze::Gradual.blocks(4, 0, 1), 0, "one epoch trains everything");
    }
}
