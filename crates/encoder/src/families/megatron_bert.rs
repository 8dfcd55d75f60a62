//! Megatron-BERT on disk: the names of BERT, with the layer normalisations elsewhere.

use serde_json::json;

use super::{Layout, bert};

/// `MegatronBertForMaskedLM`, `MegatronBertForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "MegatronBertForMaskedLM",
    classifier: "MegatronBertForSequenceClassification",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "bert.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "bert.embeddings.position_embeddings"),
        ("encoder/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings"),
        ("encoder/layers/{}/attention/query", "bert.encoder.layer.{}.attention.self.query"),
        ("encoder/layers/{}/attention/key", "bert.encoder.layer.{}.attention.self.key"),
        ("encoder/layers/{}/attention/value", "bert.encoder.layer.{}.attention.self.value"),
        ("encoder/layers/{}/attention_output", "bert.encoder.layer.{}.attention.output.dense"),
        ("encoder/layers/{}/attention_norm", "bert.encoder.layer.{}.attention.ln"),
        ("encoder/layers/{}/intermediate", "bert.encoder.layer.{}.intermediate.dense"),
        ("encoder/layers/{}/output", "bert.encoder.layer.{}.output.dense"),
        ("encoder/layers/{}/output_norm", "bert.encoder.layer.{}.ln"),
        ("encoder/norm", "bert.encoder.ln"),
        ("head/dense", "cls.predictions.transform.dense"),
        ("head/norm", "cls.predictions.transform.LayerNorm"),
        ("head", "cls.predictions"),
        ("head/decoder", "cls.predictions.decoder"),
        ("pooler", "bert.pooler.dense"),
        ("classifier", "classifier"),
    ],
    defaults: || {
        json!({
            "vocab_size": 29_056, "hidden_size": 1_024, "num_hidden_layers": 24, "num_attention_heads": 16,
            "intermediate_size": 4_096,
        })
    },
    ..bert::LAYOUT
};
