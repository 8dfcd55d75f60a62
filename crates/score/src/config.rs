//! What can be configured about scoring.

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Configuration of scoring. All keys but those of `run` are semantic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is masked while a token is scored.
    pub conditioning: Conditioning,
    /// Sets that a row's positions are split into, for `kfold`; rows with fewer positions have fewer.
    pub folds: usize,
    /// Seed of the sets and of the sample.
    pub seed: u64,
    /// Keep the pieces of a word in one set.
    pub whole_word: bool,
    /// Share of the rows to score, a random sample, in (0, 1].
    pub fraction: f64,
    /// Score only rows whose number is below this.
    pub rows: Option<u64>,
    /// What does not bear on the result.
    pub run: Run,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            conditioning: Conditioning::Kfold,
            // round(1 / 0.15): a pass masks as much as training does.
            folds: 7,
            seed: 1,
            whole_word: false,
            fraction: 1.0,
            rows: None,
            run: Run::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// A usage fault that names the key, its value and what is allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        if self.folds == 0 {
            return Err(refuse("folds", &self.folds, "at least 1; 7 is the usual number"));
        }
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Err(refuse("fraction", &self.fraction, "a number above 0 and at most 1"));
        }
        match self.run.batch_tokens {
            Some(0) => Err(refuse("run.batch_tokens", &0, "at least 1")),
            _ => Ok(()),
        }
    }

    /// The keys that decide the result, with the type of the matrix products.
    pub(crate) fn semantic(&self, dtype: &str) -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(object) = value.as_object_mut() {
            object.remove("run");
            object.insert("dtype".to_owned(), dtype.into());
        }
        Ok(value)
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
        assert_eq!(small.semantic("f32").expect("JSON"), Config::default().semantic("f32").expect("JSON"));
        assert_ne!(small.semantic("f32").expect("JSON"), small.semantic("bf16").expect("JSON"));
    }

    #[test]
    fn bad_values_are_refused() {
        let base = Config::default();
        base.validate().expect("the defaults are good");
        let bad = [
            Config { folds: 0, ..base.clone() },
            Config { fraction: 0.0, ..base.clone() },
            Config { fraction: f64::NAN, ..base.clone() },
            Config { run: Run { batch_tokens: Some(0) }, ..base },
        ];
        for config in bad {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
