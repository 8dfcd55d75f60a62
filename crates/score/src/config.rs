//! What can be configured about scoring.

use std::collections::BTreeSet;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Configuration of scoring. All keys but those of `run` are semantic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is masked while a token is scored.
    pub conditioning: Conditioning,
    /// Share of the tokens that were masked when the model was trained, in (0, 1]. `kfold` splits positions into
    /// round(1 / rate) sets, at least two, so that a pass hides as much as a step of training did.
    pub mask_rate: f64,
    /// Sets that a row's positions are split into, for `kfold`, whatever the rate; rows with fewer positions have fewer.
    pub folds: Option<usize>,
    /// Seed of the sets and of the sample.
    pub seed: u64,
    /// Keep the pieces of a word in one set.
    pub whole_word: bool,
    /// Share of the rows to score, a random sample, in (0, 1].
    pub fraction: f64,
    /// Score only rows whose number is below this.
    pub rows: Option<u64>,
    /// Columns besides entropy and surprisal.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub measures: BTreeSet<Measure>,
    /// How the values of a teacher with another tokenizer become values of the corpus's tokens.
    pub carry: Carry,
    /// What does not bear on the result.
    pub run: Run,
}

/// A column that is computed on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Min-entropy −ln max q, in nats.
    MinEntropy,
    /// Rényi entropy of order 2, −ln Σ q², in nats.
    Renyi2,
    /// Difference of the two highest probabilities, from 0 to 1; small where the model is unsure (Scheffer et al., 2001).
    Margin,
    /// H / ln V, from 0 to 1.
    Normalized,
}

/// How values are carried from the teacher's tokens to those of the corpus.
///
/// Only bytes that some token of the corpus covers count, and a byte that several tokens cover counts for each of them
/// in equal parts. Margin and normalised entropy are ratios and always take the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carry {
    /// A value is spread evenly over the bytes of its token, and a token of the corpus has the sum over its bytes.
    /// Information adds up, so a word keeps its sum whatever its pieces.
    #[default]
    Sum,
    /// A token of the corpus has the mean over its bytes of the values of the teacher's tokens that cover them.
    Mean,
}

/// What is masked while a token is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conditioning {
    /// One of k disjoint random sets of positions, each of which is masked once: k passes a row.
    Kfold,
    /// The token alone: exact, one pass a token.
    MaskEach,
    /// Nothing: one pass a row, but the model sees the answer.
    Unmasked,
}

/// How to run; not part of the artifact's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Tokens that go through the model at once; by default what suits the device.
    pub batch_tokens: Option<usize>,
}

/// The usual share of masked tokens (Devlin et al., 2019, <https://arxiv.org/abs/1810.04805>).
const MASK_RATE: f64 = 0.15;

impl Default for Config {
    fn default() -> Self {
        Self {
            conditioning: Conditioning::Kfold,
            mask_rate: MASK_RATE,
            folds: None,
            seed: 1,
            whole_word: false,
            fraction: 1.0,
            rows: None,
            measures: BTreeSet::new(),
            carry: Carry::Sum,
            run: Run::default(),
        }
    }
}

/// No row has more tokens.
const MOST_FOLDS: usize = u16::MAX as usize;

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// A usage fault that names the key, its value and what is allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        if let Some(folds) = self.folds.filter(|folds| !(2..=MOST_FOLDS).contains(folds)) {
            return Err(refuse(
                "folds",
                &folds,
                "2 to 65535: of a row that is hidden at once nothing is left to tell by; 7 is the usual number",
            ));
        }
        if !(self.mask_rate > 0.0 && self.mask_rate <= 1.0) {
            return Err(refuse(
                "mask_rate",
                &self.mask_rate,
                "a number above 0 and at most 1; 0.15 is the usual one",
            ));
        }
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Err(refuse("fraction", &self.fraction, "a number above 0 and at most 1"));
        }
        if self.rows == Some(0) {
            return Err(refuse("rows", &0, "at least 1, or leave it out to score all"));
        }
        match self.run.batch_tokens {
            Some(0) => Err(refuse("run.batch_tokens", &0, "at least 1")),
            _ => Ok(()),
        }
    }

    /// Number of sets that `kfold` splits a row's positions into: at least 1.
    pub fn fold_count(&self) -> usize {
        // One set would hide all that there is to see.
        let of_rate = || ((1.0 / self.mask_rate).round() as usize).clamp(2, MOST_FOLDS);
        self.folds.unwrap_or_else(of_rate)
    }

    /// Whether only some of the rows are to be scored.
    pub(crate) fn is_sample(&self) -> bool {
        self.fraction < 1.0 || self.rows.is_some()
    }

    /// The keys that decide the result, with the type of the matrix products, all others at their defaults. Of the rate
    /// only the number of sets bears on it, and how values are carried matters only where the teacher has another
    /// tokenizer.
    pub(crate) fn semantic(&self, dtype: &str, carried: bool) -> anyhow::Result<Value> {
        let effective = self.effective();
        let mut value = serde_json::to_value(&effective)?;
        if let Some(object) = value.as_object_mut() {
            object.remove("run");
            object.remove("mask_rate");
            object.insert("folds".to_owned(), effective.fold_count().into());
            if carried {
                // How long rows are cut has changed since the first version.
                object.insert("windows".to_owned(), 2.into());
            } else {
                object.remove("carry");
            }
            object.insert("dtype".to_owned(), dtype.into());
        }
        Ok(value)
    }

    /// With the defaults of what has no effect: only `kfold` has sets, and the seed draws nothing but sets and samples.
    fn effective(&self) -> Self {
        let has_sets = self.conditioning == Conditioning::Kfold;
        let usual = Self::default();
        Self {
            folds: if has_sets { self.folds } else { usual.folds },
            mask_rate: if has_sets { self.mask_rate } else { usual.mask_rate },
            whole_word: if has_sets { self.whole_word } else { usual.whole_word },
            seed: if has_sets || self.fraction < 1.0 { self.seed } else { usual.seed },
            ..self.clone()
        }
    }
}

impl Carry {
    /// The name under which it is configured.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
        }
    }
}

impl Measure {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinEntropy => "min_entropy",
            Self::Renyi2 => "renyi2",
            Self::Margin => "margin",
            Self::Normalized => "normalized",
        }
    }

    /// Whether it is information, in nats, which adds up over tokens.
    pub(crate) fn adds_up(self) -> bool {
        matches!(self, Self::MinEntropy | Self::Renyi2)
    }
}

fn refuse(key: &str, value: &dyn std::fmt::Display, allowed: &str) -> anyhow::Error {
    Fault::usage(format!("{key} = {value}")).remedy(format!("give {allowed}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_not_semantic_and_dtype_is() {
        let small = Config { run: Run { batch_tokens: Some(1) }, ..Config::default() };
        let semantic = |config: &Config, dtype| config.semantic(dtype, false).expect("JSON");
        assert_eq!(semantic(&small, "f32"), semantic(&Config::default(), "f32"));
        assert_ne!(semantic(&small, "f32"), semantic(&small, "bf16"));
    }

    #[test]
    fn what_is_not_asked_for_is_not_in_the_key() {
        let keys = |config: &Config, carried| {
            let value = config.semantic("f32", carried).expect("JSON");
            value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
        };
        let usual = ["conditioning", "dtype", "folds", "fraction", "rows", "seed", "whole_word"];
        let sorted = |mut keys: Vec<String>| {
            keys.sort();
            keys
        };
        assert_eq!(sorted(keys(&Config::default(), false)), usual);
        let config = Config { measures: [Measure::Renyi2, Measure::Margin].into(), ..Config::default() };
        let value = config.semantic("f32", true).expect("JSON");
        assert_eq!(value["measures"], serde_json::json!(["renyi2", "margin"]));
        assert_eq!(value["carry"], "sum");
    }

    #[test]
    fn folds_follow_the_rate_of_masking() {
        let config = |mask_rate, folds| Config { mask_rate, folds, ..Config::default() };
        let count = |mask_rate, folds| config(mask_rate, folds).fold_count();
        assert_eq!(Config::default().fold_count(), 7);
        let rates = [1e-300, 0.15, 0.2, 0.3, 0.4, 1.0];
        assert_eq!(rates.map(|rate| count(rate, None)), [MOST_FOLDS, 7, 5, 3, 3, 2]);
        assert_eq!(count(0.3, Some(14)), 14);
        let semantic = |mask_rate, folds| config(mask_rate, folds).semantic("f32", false).expect("JSON");
        assert_eq!(semantic(0.15, None), semantic(0.3, Some(7)));
        assert_eq!(semantic(0.3, None)["folds"], 3);
    }

    #[test]
    fn what_has_no_effect_is_not_in_the_key() {
        for conditioning in [Conditioning::Kfold, Conditioning::MaskEach, Conditioning::Unmasked] {
            let of = |config: Config| config.semantic("f32", false).expect("JSON");
            let usual = Config { conditioning, ..Config::default() };
            let same = |other: &Config| of(other.clone()) == of(usual.clone());
            let sets = [
                Config { folds: Some(9), ..usual.clone() },
                Config { mask_rate: 0.4, ..usual.clone() },
                Config { whole_word: true, ..usual.clone() },
                Config { seed: 9, ..usual.clone() },
            ];
            for config in &sets {
                assert_eq!(same(config), conditioning != Conditioning::Kfold, "{config:?}");
            }
            let sample = |seed| Config { fraction: 0.5, seed, ..usual.clone() };
            assert_ne!(of(sample(1)), of(sample(9)), "the seed draws the sample");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        let base = Config::default();
        base.validate().expect("the defaults are good");
        let bad = [
            Config { folds: Some(0), ..base.clone() },
            Config { folds: Some(65_536), ..base.clone() },
            Config { mask_rate: 0.0, ..base.clone() },
            Config { mask_rate: 1.5, ..base.clone() },
            Config { fraction: 0.0, ..base.clone() },
            Config { fraction: f64::NAN, ..base.clone() },
            Config { rows: Some(0), ..base.clone() },
            Config { run: Run { batch_tokens: Some(0) }, ..base },
        ];
        for config in bad {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
