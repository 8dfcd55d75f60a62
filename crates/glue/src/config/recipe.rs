//! A fine-tuning recipe.

use std::fmt::Display;

use entromask_fault::Fault;
use entromask_training::{AdamWConfig, Decay};
use serde::{Deserialize, Serialize};

use super::freeze::Freeze;

/// A fine-tuning recipe. What came later is left out of the key where it has its default, so that earlier results keep
/// their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuning {
    /// Rows of an optimizer step.
    pub batch_size: usize,
    /// Passes over the training rows; with `patience` the most there can be.
    pub epochs: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of the steps over which the learning rate rises to its peak.
    pub warmup: f64,
    /// How the learning rate falls afterwards.
    pub decay: Decay,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub clip: f64,
    /// Dropout probability, in the encoder and before the classifier.
    pub dropout: f64,
    /// Longest row in tokens, special tokens included; the model's own limit holds too.
    pub max_length: usize,
    /// Decay rates of the optimizer's moments.
    #[serde(skip_serializing_if = "are_default_betas")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(skip_serializing_if = "is_default_eps")]
    pub eps: f64,
    /// What is not trained.
    #[serde(skip_serializing_if = "is_default")]
    pub freeze: Freeze,
    /// What the classifier reads.
    #[serde(skip_serializing_if = "is_default")]
    pub head: Head,
    /// Stops after so many epochs without a lower validation loss and takes the best epoch; 0 trains all epochs. The loss
    /// is that of the choosing half.
    #[serde(skip_serializing_if = "is_default")]
    pub patience: u64,
    /// Whether the splits to score are halved: one half to choose on, the other one to report. `patience` and a grid
    /// choose, so they halve.
    #[serde(skip_serializing_if = "is_default")]
    pub halves: bool,
    /// At most so many rows of the training split, sampled by their texts; all by default. Scores are not those of the task
    /// then, and say so.
    #[serde(skip_serializing_if = "is_default")]
    pub train_rows: Option<usize>,
    /// Task whose model of the same seed this one starts from, with a new classifier.
    #[serde(skip_serializing_if = "is_default")]
    pub from: Option<String>,
}

/// What the classifier reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// A dense layer with an activation on the first token, as in BERT.
    #[default]
    Pooler,
    /// The first token's last hidden state.
    Cls,
    /// The mean of the tokens' last hidden states.
    Mean,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self {
            batch_size: 16,
            epochs: 5,
            lr: 4e-5,
            warmup: 0.1,
            decay: Decay::Cosine,
            weight_decay: 0.01,
            clip: 1.0,
            dropout: 0.1,
            max_length: 128,
            betas: BETAS,
            eps: EPS,
            freeze: Freeze::None,
            head: Head::Pooler,
            patience: 0,
            halves: false,
            train_rows: None,
            from: None,
        }
    }
}

/// Those of the original BERT recipe.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

impl FineTuning {
    /// The optimizer's constants.
    pub fn optimizer(&self) -> AdamWConfig {
        AdamWConfig { betas: self.betas, eps: self.eps, weight_decay: self.weight_decay, clip: self.clip }
    }

    /// Whether the body says the same about a row in each epoch: it is frozen, and nothing drops out.
    pub fn is_probe(&self) -> bool {
        self.freeze == Freeze::Body && self.dropout == 0.0
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        counted("batch_size", self.batch_size as u64)?;
        counted("epochs", self.epochs)?;
        counted("train_rows", self.train_rows.unwrap_or(1) as u64)?;
        // Room for two tokens of each sentence beside three special tokens.
        within("max_length", self.max_length as f64, 8.0, f64::from(u16::MAX))?;
        within("lr", self.lr, f64::MIN_POSITIVE, 1.0)?;
        within("warmup", self.warmup, 0.0, 1.0)?;
        within("weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("clip", self.clip, 0.0, f64::MAX)?;
        within("dropout", self.dropout, 0.0, 0.9)?;
        within("eps", self.eps, f64::MIN_POSITIVE, 1.0)?;
        self.betas.iter().try_for_each(|&beta| within("betas", beta, 0.0, 0.999_999))
    }
}

/// At least one, and no more than there is time and memory for: what is multiplied with it then fits into 64 bits.
pub(super) fn counted(key: &str, value: u64) -> anyhow::Result<()> {
    let most = u64::from(u32::MAX);
    if (1..=most).contains(&value) { Ok(()) } else { Err(refuse(key, value, &format!("from 1 to {most}"))) }
}

fn within(key: &str, value: f64, least: f64, largest: f64) -> anyhow::Result<()> {
    if (least..=largest).contains(&value) {
        return Ok(());
    }
    let bounds = match (least, largest) {
        (f64::MIN_POSITIVE, largest) => format!("above 0, up to {largest}"),
        (least, f64::MAX) => format!("at least {least}"),
        (least, largest) => format!("from {least} to {largest}"),
    };
    Err(refuse(key, value, &bounds))
}

fn refuse(key: &str, value: impl Display, bounds: &str) -> anyhow::Error {
    Fault::usage(format!("`{key}` is {value}")).remedy(format!("it must be {bounds}")).into()
}

fn are_default_betas(betas: &[f64; 2]) -> bool {
    *betas == BETAS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_default_eps(eps: &f64) -> bool {
    *eps == EPS
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that results had before there were more of them.
    #[test]
    fn defaults_of_later_keys_are_not_in_the_key() -> anyhow::Result<()> {
        let text = serde_json::to_string(&FineTuning::default())?;
        let known = "{\"batch_size\":16,\"epochs\":5,\"lr\":0.00004,\"warmup\":0.1,\"decay\":\"cosine\",\"weight_decay\":0.01,\
                     \"clip\":1.0,\"dropout\":0.1,\"max_length\":128}";
        assert_eq!(text, known);
        let changed = FineTuning { head: Head::Mean, patience: 2, ..FineTuning::default() };
        assert!(serde_json::to_string(&changed)?.ends_with("\"head\":\"mean\",\"patience\":2}"));
        Ok(())
    }
}
