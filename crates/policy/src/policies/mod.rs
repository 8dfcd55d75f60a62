//! The selection policies. A new one is a module here and a line in `policies!`.

mod band;
mod frequency;
mod high;
mod low;
mod mixed;
mod random;
mod reducible;
mod sample;
mod span;

use entromask_fault::Fault;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::picks::Picks;
use crate::units::Units;

pub use band::Band;
pub use frequency::Frequency;
pub use high::High;
pub use low::Low;
pub use mixed::Mixed;
pub use random::Random;
pub use reducible::Reducible;
pub use sample::Sample;
pub use span::Span;

/// How to choose from the units of one budget: a pure function of its arguments.
pub trait Method {
    /// What the scores of the units have to be.
    fn basis(&self) -> Basis {
        Basis::Measure
    }

    /// Takes units until the budget is spent, or nothing is left that can be taken.
    ///
    /// Called a second time, on what is left, where cap and spread stopped the first time short.
    fn select(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng);

    /// Checks the parameters.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key, its value and what is allowed.
    fn validate(&self, _config: &Config) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What a policy scores tokens by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// Nothing.
    Nothing,
    /// A measure of the entropy artifact, in nats.
    Measure,
    /// The measure less that of the reference's entropy artifact, in nats.
    Excess,
    /// −`smoothing` · ln(occurrences of the token in the corpus).
    Rarity {
        /// Exponent of the count.
        smoothing: f64,
    },
}

macro_rules! policies {
    ($($(#[$doc:meta])* $Policy:ident,)*) => {
        /// Which tokens to mask.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", rename_all = "kebab-case")]
        pub enum Policy {
            $($(#[$doc])* $Policy($Policy),)*
        }

        impl Policy {
            fn method(&self) -> &dyn Method {
                match self {
                    $(Self::$Policy(method) => method,)*
                }
            }
        }

        $(impl From<$Policy> for Policy {
            fn from(method: $Policy) -> Self {
                Self::$Policy(method)
            }
        })*
    };
}

policies! {
    /// Uniformly at random: BERT's masking, and the baseline.
    Random,
    /// The highest scores (the paper's strategy, read literally).
    High,
    /// The lowest scores.
    Low,
    /// Scores between two quantiles.
    Band,
    /// By score, with noise: Gumbel top-k.
    Sample,
    /// A share of the budget at random, the rest as `sample`.
    Mixed,
    /// Rare tokens more often.
    Frequency,
    /// Spans of whole words.
    Span,
    /// Where the student is less sure than a reference.
    Reducible,
}

impl Policy {
    /// The name under which the policy is configured.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value["name"].as_str().unwrap_or_default().into()
    }

    /// What tokens are scored by.
    pub fn basis(&self) -> Basis {
        self.method().basis()
    }

    /// Takes units until the budget is spent, or nothing is left that can be taken.
    pub fn select(&self, units: &Units, picks: &mut Picks, epoch: u16, rng: &mut ChaCha8Rng) {
        self.method().select(units, picks, epoch, rng);
    }

    /// Checks the parameters.
    pub(crate) fn validate(&self, config: &Config) -> anyhow::Result<()> {
        self.method().validate(config)
    }

    /// Which artifact the policy needs and was not given.
    pub fn missing(&self, flag: &str, remedy: String) -> anyhow::Error {
        Fault::usage(format!("the policy `{}` needs entropies, and no {flag} was given", self.name()))
            .remedy(remedy)
            .into()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Random(Random {})
    }
}
