//! The shape of a model, with the field names of a Hugging Face `config.json`.

use std::path::Path;

use anyhow::{Context, Result};
use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Shape and hyperparameters of an encoder. Defaults are those of BERT-base.
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
    /// Activation of the feed-forward blocks and of the masked-LM head.
    pub hidden_act: Activation,
    /// Dropout of embeddings and block outputs while training.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities while training.
    pub attention_probs_dropout_prob: f64,
    /// Longest row that the model can read.
    pub max_position_embeddings: usize,
    /// Number of segment embeddings.
    pub type_vocab_size: usize,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Added to the variance in layer normalisation.
    pub layer_norm_eps: f64,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Dropout before the classifier; `hidden_dropout_prob` when absent.
    pub classifier_dropout: Option<f64>,
}

/// Architectures that this crate implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// BERT (Devlin et al., 2019): absolute positions, layer normalisation after each block.
    Bert,
}

/// Activation functions, by their Hugging Face names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·Φ(x), exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluNew,
    /// Another name of the tanh approximation.
    GeluPytorchTanh,
    /// max(x, 0).
    Relu,
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
        }
    }
}

impl EncoderConfig {
    /// Reads `config.json` of the Hugging Face folder `dir`; keys that do not bear on the computation are ignored.
    ///
    /// # Errors
    ///
    /// An input fault when the file is missing, is no JSON object, or describes a model that is not implemented.
    pub fn from_pretrained(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = fs_err::read_to_string(&path).map_err(|error| {
            Fault::input(entromask_fault::unreadable(&path, &error))
                .remedy("name a Hugging Face folder with config.json and model.safetensors")
        })?;
        let object: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| unreadable(&path, &error))?;
        Self::from_json(object).map_err(|problem| unsupported(&path, &problem))
    }

    /// The same shape with one dropout everywhere, for fine-tuning.
    #[must_use]
    pub fn with_dropout(self, dropout: f64) -> Self {
        Self {
            hidden_dropout_prob: dropout,
            attention_probs_dropout_prob: dropout,
            classifier_dropout: None,
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

    /// Floating-point operations of the layers for one token in a row of `seq_length` tokens, forward pass.
    ///
    /// A multiplication with an addition counts two: per layer 2·(4d² + 2df) for the dense layers and 4·d·s for
    /// attention, where d is `hidden_size`, f `intermediate_size` and s `seq_length`.
    pub fn body_flops_per_token(&self, seq_length: usize) -> f64 {
        self.forward_at_flops(seq_length, seq_length) / seq_length as f64
    }

    /// Floating-point operations of the layers for one row of `seq_length` tokens when only `n` positions are wanted:
    /// the last layer computes keys and values, 2·2d² a token, everywhere and the rest at these positions.
    pub fn forward_at_flops(&self, seq_length: usize, n: usize) -> f64 {
        let (d, d_ff, s, n) =
            (self.hidden_size as f64, self.intermediate_size as f64, seq_length as f64, n as f64);
        let keys_and_values = 4.0 * d * d;
        let rest = 4.0 * d * d + 4.0 * d * d_ff + 4.0 * d * s;
        let full_layers = self.num_hidden_layers as f64 - 1.0;
        full_layers * s * (keys_and_values + rest) + s * keys_and_values + n * rest
    }

    /// Floating-point operations of the masked-LM head for one position, forward pass: 2·d² + 2·V·d.
    pub fn head_flops_per_position(&self) -> f64 {
        let d = self.hidden_size as f64;
        2.0 * d * d + 2.0 * self.vocab_size as f64 * d
    }

    /// `config.json` for a model class such as `BertForMaskedLM`, with `extra` keys of that class.
    pub(crate) fn to_json(&self, architecture: &str, extra: Value) -> Result<Value> {
        let mut object = serde_json::to_value(self).context("a config is JSON")?;
        let fixed = json!({
            "architectures": [architecture],
            "dtype": "float32",
            "position_embedding_type": "absolute",
            "tie_word_embeddings": true,
        });
        for map in [fixed, extra] {
            merge(&mut object, map);
        }
        Ok(object)
    }

    fn from_json(mut object: Map<String, Value>) -> Result<Self, String> {
        if let Some(problem) = foreign_feature(&object) {
            return Err(problem);
        }
        let known = serde_json::to_value(Self::default()).map_err(|error| error.to_string())?;
        object.retain(|key, value| known.get(key).is_some() && !value.is_null());
        let config: Self =
            serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
        config.problem().map_or(Ok(config), Err)
    }

    fn problem(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Some(format!("{name} is 0"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (width, heads) = (self.hidden_size, self.num_attention_heads);
            return Some(format!("hidden_size {width} is not a multiple of num_attention_heads {heads}"));
        }
        self.dropout_problem()
    }

    fn dropout_problem(&self) -> Option<String> {
        let probabilities = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.classifier_dropout.unwrap_or(0.0)),
        ];
        let (name, value) = probabilities.into_iter().find(|(_, p)| !(0.0..1.0).contains(p))?;
        Some(format!("{name} is {value}, outside of [0, 1)"))
    }
}

/// Features that change the computation in a way that is not implemented.
fn foreign_feature(object: &Map<String, Value>) -> Option<String> {
    if !object.contains_key("model_type") {
        return Some("model_type is missing".to_owned());
    }
    let plain = [
        ("position_embedding_type", json!("absolute")),
        ("is_decoder", json!(false)),
        ("add_cross_attention", json!(false)),
        ("tie_word_embeddings", json!(true)),
    ];
    let (key, _) = plain.iter().find(|(key, usual)| object.get(*key).is_some_and(|value| value != usual))?;
    Some(format!("{key} = {} is not supported", object[*key]))
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> anyhow::Error {
    Fault::input(format!("{}: {error}", path.display())).remedy("fetch or write the model again").into()
}

fn unsupported(path: &Path, problem: &str) -> anyhow::Error {
    let supported = "use a model of model_type `bert` with absolute positions and a tied decoder";
    Fault::input(format!("{}: {problem}", path.display())).remedy(supported).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &Value) -> Result<EncoderConfig, String> {
        EncoderConfig::from_json(json.as_object().expect("an object").clone())
    }

    #[test]
    fn reads_what_it_writes() {
        let config =
            EncoderConfig { hidden_act: Activation::GeluNew, num_hidden_layers: 3, ..Default::default() };
        let json = config.to_json("BertForMaskedLM", json!({"id2label": {"0": "a"}})).expect("JSON");
        assert_eq!(json["architectures"][0], "BertForMaskedLM");
        assert_eq!(json["hidden_act"], "gelu_new");
        assert_eq!(json["id2label"]["0"], "a");
        assert_eq!(read(&json), Ok(config));
    }

    #[test]
    fn foreign_keys_are_ignored_and_nulls_are_defaults() {
        let json = json!({"model_type": "bert", "hidden_size": 96, "transformers_version": "5", "classifier_dropout": null});
        let config = read(&json).expect("reads");
        assert_eq!((config.hidden_size, config.classifier_dropout), (96, None));
    }

    #[test]
    fn models_that_are_not_implemented_are_refused() {
        let cases = [
            (json!({"hidden_size": 8}), "model_type is missing"),
            (json!({"model_type": "roberta"}), "roberta"),
            (json!({"model_type": "bert", "position_embedding_type": "relative_key"}), "relative_key"),
            (json!({"model_type": "bert", "tie_word_embeddings": false}), "tie_word_embeddings"),
            (json!({"model_type": "bert", "hidden_act": "silu"}), "silu"),
            (json!({"model_type": "bert", "hidden_size": 100}), "multiple"),
            (json!({"model_type": "bert", "vocab_size": 0}), "vocab_size is 0"),
            (json!({"model_type": "bert", "hidden_dropout_prob": 1.0}), "outside"),
        ];
        for (json, word) in cases {
            let problem = read(&json).expect_err("refused");
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn flops_of_bert_base() {
        let config = EncoderConfig::default();
        // 12 layers of 7,077,888 dense weights, plus 4·768·128 per layer for attention.
        let expected = 128.0 * 12.0 * (2.0 * 7_077_888.0 + 393_216.0);
        assert!((128.0 * config.body_flops_per_token(128) - expected).abs() < 1.0);
        // One position more in the last layer: a token's dense layers without keys and values, and its attention.
        let one = config.forward_at_flops(128, 20) - config.forward_at_flops(128, 19);
        assert!((one - (2.0 * (7_077_888.0 - 2.0 * 589_824.0) + 393_216.0)).abs() < 1.0);
    }

    #[test]
    fn one_dropout_replaces_all_three() {
        let config =
            EncoderConfig { classifier_dropout: Some(0.5), ..EncoderConfig::default() }.with_dropout(0.3);
        assert_eq!((config.hidden_dropout_prob, config.attention_probs_dropout_prob), (0.3, 0.3));
        assert_eq!(config.classifier_dropout, None);
        assert_eq!(config.with_dropout(0.1), EncoderConfig::default());
    }
}
