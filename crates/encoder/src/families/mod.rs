//! What differs between the families on disk: the keys of `config.json` and the names of the tensors.
//!
//! A family is one file here and one variant of [`Family`]; what it computes is [`crate::transformer`] or
//! [`crate::modernbert`].

mod albert;
mod bert;
mod distilbert;
mod electra;
pub(crate) mod json;
mod megatron_bert;
mod modernbert;
pub(crate) mod names;
mod roberta;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::EncoderConfig;
use crate::activation::Activation;

/// Architectures that this crate implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// BERT (Devlin et al., 2019): absolute positions, layer normalisation after each block.
    Bert,
    /// RoBERTa (Liu et al., 2019).
    Roberta,
    /// XLM-R (Conneau et al., 2020).
    XlmRoberta,
    /// `CamemBERT` (Martin et al., 2020).
    Camembert,
    /// DistilBERT (Sanh et al., 2019).
    #[serde(rename = "distilbert")]
    DistilBert,
    /// ALBERT (Lan et al., 2020).
    Albert,
    /// ELECTRA (Clark et al., 2020); its generator is the masked language model.
    Electra,
    /// Megatron-BERT (Shoeybi et al., 2019): BERT with layer normalisation before each block.
    MegatronBert,
    /// ModernBERT (Warner et al., 2024).
    #[serde(rename = "modernbert")]
    ModernBert,
}

/// How a family looks on disk.
pub(crate) struct Layout {
    /// Class with a masked-LM head in `transformers`.
    pub(crate) masked_lm: &'static str,
    /// Class with a classification head.
    pub(crate) classifier: &'static str,
    /// Prefix of the body's tensors in checkpoints with a head.
    pub(crate) prefix: &'static str,
    /// Path in our modules, name in the checkpoint. `{}` is the number of the layer, `{group}` and `{inner}` ALBERT's.
    pub(crate) tensors: &'static [(&'static str, &'static str)],
    /// Fields of [`EncoderConfig`] that have another key in `config.json`.
    pub(crate) keys: &'static [(&'static str, &'static str)],
    /// Values of absent keys that differ from BERT's, by our field names.
    pub(crate) defaults: fn() -> Value,
    /// Keys that change the computation, and the only value that is implemented.
    pub(crate) fixed: fn() -> Value,
    /// Brings keys that need more than another name into our form.
    pub(crate) read: fn(&mut Map<String, Value>) -> Result<(), String>,
    /// Keys of `config.json` beyond our fields.
    pub(crate) write: fn(&EncoderConfig) -> Value,
    /// Activation of the masked-LM head, where it is not `hidden_act`.
    pub(crate) head_act: fn(&EncoderConfig) -> Activation,
    /// Activation of the dense layer before the classifier.
    pub(crate) pooler_act: fn(&EncoderConfig) -> PoolerActivation,
}

/// Activation between the pooled vector and the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolerActivation {
    Tanh,
    Other(Activation),
}

/// As its authors write it.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bert => "BERT",
            Self::Roberta => "RoBERTa",
            Self::XlmRoberta => "XLM-R",
            Self::Camembert => "CamemBERT",
            Self::DistilBert => "DistilBERT",
            Self::Albert => "ALBERT",
            Self::Electra => "ELECTRA",
            Self::MegatronBert => "Megatron-BERT",
            Self::ModernBert => "ModernBERT",
        })
    }
}

impl Family {
    const ALL: [Family; 9] = [
        Self::Bert,
        Self::Roberta,
        Self::XlmRoberta,
        Self::Camembert,
        Self::DistilBert,
        Self::Albert,
        Self::Electra,
        Self::MegatronBert,
        Self::ModernBert,
    ];

    /// The names of `model_type`.
    pub(crate) fn names() -> Vec<String> {
        let name = |family| serde_json::to_value(family).ok()?.as_str().map(str::to_owned);
        Self::ALL.into_iter().filter_map(name).collect()
    }

    pub(crate) fn layout(self) -> &'static Layout {
        match self {
            Self::Bert => &bert::LAYOUT,
            Self::Roberta => &roberta::LAYOUT,
            Self::XlmRoberta => &roberta::XLM,
            Self::Camembert => &roberta::CAMEMBERT,
            Self::DistilBert => &distilbert::LAYOUT,
            Self::Albert => &albert::LAYOUT,
            Self::Electra => &electra::LAYOUT,
            Self::MegatronBert => &megatron_bert::LAYOUT,
            Self::ModernBert => &modernbert::LAYOUT,
        }
    }
}
