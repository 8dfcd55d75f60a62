//! The shape of a model, with the field names of BERT's Hugging Face `config.json`.

use std::path::Path;

use anyhow::Result;
use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::activation::Activation;
use crate::families::{Family, json};
use crate::modernbert::ModernBertConfig;

/// Shape and hyperparameters of an encoder. Defaults are those of BERT-base.
///
/// Families that name a field otherwise (`dim`, `n_layers`, `hidden_activation`, …) are translated where `config.json`
/// is read and written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// Architecture.
    pub model_type: Family,
    /// Number of tokens that the model knows.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads per layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width between the two dense layers of a feed-forward block.
    pub intermediate_size: usize,
    /// Activation of the feed-forward blocks and, in most families, of the masked-LM head.
    pub hidden_act: Activation,
    /// Dropout of embeddings and block outputs while training.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities while training.
    pub attention_probs_dropout_prob: f64,
    /// Number of positions; RoBERTa's first ones are not used, see [`max_seq_length`](Self::max_seq_length).
    pub max_position_embeddings: usize,
    /// Number of segment embeddings; 0 where the family has none.
    pub type_vocab_size: usize,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Dropout before the classifier; `hidden_dropout_prob` when absent.
    pub classifier_dropout: Option<f64>,
    /// Width of the embeddings where it differs from `hidden_size`: ALBERT, ELECTRA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_size: Option<usize>,
    /// Groups of layers with weights of their own, ALBERT; each is applied `num_hidden_layers / num_hidden_groups` times.
    #[serde(skip_serializing_if = "is_one")]
    pub num_hidden_groups: usize,
    /// Layers of a group, ALBERT.
    #[serde(skip_serializing_if = "is_one")]
    pub inner_group_num: usize,
    /// Whether the decoder's weight is the word embeddings.
    #[serde(skip_serializing_if = "is_true")]
    pub tie_word_embeddings: bool,
    /// What only ModernBERT has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modernbert: Option<ModernBertConfig>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            model_type: Family::Bert,
            vocab_size: 30_522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3_072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            classifier_dropout: None,
            embedding_size: None,
            num_hidden_groups: 1,
            inner_group_num: 1,
            tie_word_embeddings: true,
            modernbert: None,
        }
    }
}

const WRITE_AGAIN: &str = "fetch or write the model again";

impl EncoderConfig {
    /// Reads `config.json` of the Hugging Face folder `dir`; keys that do not bear on the computation are ignored.
    ///
    /// # Errors
    ///
    /// An input fault when the file is missing, is no JSON object, or describes a model that is not implemented.
    pub fn from_pretrained(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let bytes = fs_err::read(&path).map_err(|error| {
            Fault::input(entromask_fault::unreadable(&path, &error))
                .remedy("name a Hugging Face folder with config.json and model.safetensors")
        })?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Err(Fault::input(format!("{}: not UTF-8", path.display())).remedy(WRITE_AGAIN).into());
        };
        // Some editors put a byte-order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| unreadable(&path, &error))?;
        let family = json::family(&object).is_ok();
        if object.get("auto_map").is_some_and(Value::is_object) {
            tracing::warn!(
                "{}: auto_map: code that comes with the model is not run; what it computes otherwise than the family is not computed",
                path.display()
            );
        }
        json::read(object).map_err(|problem| unsupported(&path, &problem, family))
    }

    /// The same shape with one dropout everywhere, for fine-tuning.
    #[must_use]
    pub fn with_dropout(self, dropout: f64) -> Self {
        let modernbert = self.modernbert.map(|modern| ModernBertConfig { mlp_dropout: dropout, ..modern });
        Self {
            hidden_dropout_prob: dropout,
            attention_probs_dropout_prob: dropout,
            classifier_dropout: None,
            modernbert,
            ..self
        }
    }

    /// Fails with a usage fault when the sizes contradict each other.
    pub fn check(&self) -> Result<()> {
        match self.problem() {
            Some(problem) => Err(Fault::usage(problem).remedy("correct the model's config").into()),
            None => Ok(()),
        }
    }

    /// Longest row that the model can read, tokens.
    pub fn max_seq_length(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// Layers that a token passes, each application of a shared one counted.
    pub fn depths(&self) -> usize {
        self.layer_order().len()
    }

    /// What is read back after the config was written: families fix some fields, and name what others leave out.
    ///
    /// # Errors
    ///
    /// A usage fault when the family cannot express the config.
    pub fn as_stored(&self) -> Result<Self> {
        let written = json::write(self, "", Value::Null)?;
        let object = written.as_object().cloned().unwrap_or_default();
        json::read(object)
            .map_err(|problem| Fault::usage(problem).remedy("correct the model's config").into())
    }

    /// Width of the word embeddings, and so of what the decoder sees.
    pub fn embedding_size(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// What fills up rows: the padding token, or the first one where the model does not know that. It is never attended to.
    pub fn filling_id(&self) -> u32 {
        if (self.pad_token_id as usize) < self.vocab_size { self.pad_token_id } else { 0 }
    }

    /// Position of the first token: RoBERTa starts behind the number of its padding token.
    pub(crate) fn first_position(&self) -> usize {
        if json::counts_from_padding(self.model_type) { self.pad_token_id as usize + 1 } else { 0 }
    }

    /// Which layer, by its weights, is applied at each depth. Only ALBERT applies one more than once.
    pub(crate) fn layer_order(&self) -> Vec<usize> {
        if self.model_type != Family::Albert {
            return (0..self.num_hidden_layers).collect();
        }
        // In floating point, as `transformers` has it: in whole numbers a few depths belong to another group.
        let (layers, groups) = (self.num_hidden_layers as f64, self.num_hidden_groups as f64);
        let last = self.num_hidden_groups - 1;
        let group_at = move |depth: usize| ((depth as f64 / (layers / groups)) as usize).min(last);
        let inner = self.inner_group_num;
        (0..self.num_hidden_layers)
            .flat_map(|depth| (0..inner).map(move |layer| group_at(depth) * inner + layer))
            .collect()
    }

    /// ModernBERT's own fields, which other families do not read.
    pub(crate) fn modernbert(&self) -> ModernBertConfig {
        self.modernbert.clone().unwrap_or_default()
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> anyhow::Error {
    Fault::input(format!("{}: {error}", path.display())).remedy(WRITE_AGAIN).into()
}

/// `family`: it is one of those that are implemented.
fn unsupported(path: &Path, problem: &str, family: bool) -> anyhow::Error {
    let (foreign, unknown) = (problem.contains("not supported"), problem.contains("unknown variant"));
    let remedy = match (family, foreign, unknown) {
        (false, false, false) => {
            let names = Family::names().join(", ");
            format!(
                "if the model is of one of the families {names}, write it into this file, as \"model_type\": \"bert\""
            )
        }
        (false, ..) => format!("use a model of one of the families {}", Family::names().join(", ")),
        (true, true, _) => "use a model without this".to_owned(),
        (true, _, true) => "use a model without this, or correct this file".to_owned(),
        _ => "correct this file, or fetch or write the model again".to_owned(),
    };
    Fault::input(format!("{}: {problem}", path.display())).remedy(remedy).into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_true(value: &bool) -> bool {
    *value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_is_not_named_is_to_be_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for (config, remedy) in
            [("{}", "\"model_type\": \"bert\""), (r#"{"model_type": "t5"}"#, "use a model of one of")]
        {
            fs_err::write(dir.path().join("config.json"), config)?;
            let error = EncoderConfig::from_pretrained(dir.path()).expect_err("refused").to_string();
            assert!(error.contains(remedy), "{error}");
        }
        Ok(())
    }

    #[test]
    fn one_dropout_replaces_all() {
        let config =
            EncoderConfig { classifier_dropout: Some(0.5), ..EncoderConfig::default() }.with_dropout(0.3);
        assert_eq!((config.hidden_dropout_prob, config.attention_probs_dropout_prob), (0.3, 0.3));
        assert_eq!(config.classifier_dropout, None);
        assert_eq!(config.with_dropout(0.1), EncoderConfig::default());
    }

    #[test]
    fn albert_shares_layers_in_groups() {
        let albert = EncoderConfig {
            model_type: Family::Albert,
            num_hidden_layers: 5,
            num_hidden_groups: 2,
            inner_group_num: 2,
            ..EncoderConfig::default()
        };
        assert_eq!(albert.layer_order(), [0, 1, 0, 1, 0, 1, 2, 3, 2, 3]);
        let bert = EncoderConfig { num_hidden_layers: 3, ..EncoderConfig::default() };
        assert_eq!(bert.layer_order(), [0, 1, 2]);
        let uneven =
            EncoderConfig { num_hidden_layers: 18, num_hidden_groups: 14, inner_group_num: 1, ..albert };
        // [int(i / (18 / 14)) for i in range(18)] in Python.
        assert_eq!(uneven.layer_order(), [0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12, 13]);
    }

    #[test]
    fn robertas_first_positions_are_not_for_tokens() {
        let roberta = EncoderConfig {
            model_type: Family::Roberta,
            pad_token_id: 1,
            max_position_embeddings: 514,
            ..EncoderConfig::default()
        };
        assert_eq!((roberta.first_position(), roberta.max_seq_length()), (2, 512));
    }
}
