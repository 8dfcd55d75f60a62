//! BERT on disk; the base of its descendants.

use serde_json::json;

use super::{Layout, PoolerActivation};

/// `BertForMaskedLM`, `BertForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "BertForMaskedLM",
    classifier: "BertForSequenceClassification",
    prefix: "bert.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "bert.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "bert.embeddings.position_embeddings"),
        ("encoder/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings"),
        ("encoder/embeddings/norm", "bert.embeddings.LayerNorm"),
        ("encoder/layers/{}/attention/query", "bert.encoder.layer.{}.attention.self.query"),
        ("encoder/layers/{}/attention/key", "bert.encoder.layer.{}.attention.self.key"),
        ("encoder/layers/{}/attention/value", "bert.encoder.layer.{}.attention.self.value"),
        ("encoder/layers/{}/attention_output", "bert.encoder.layer.{}.attention.output.dense"),
        ("encoder/layers/{}/attention_norm", "bert.encoder.layer.{}.attention.output.LayerNorm"),
        ("encoder/layers/{}/intermediate", "bert.encoder.layer.{}.intermediate.dense"),
        ("encoder/layers/{}/output", "bert.encoder.layer.{}.output.dense"),
        ("encoder/layers/{}/output_norm", "bert.encoder.layer.{}.output.LayerNorm"),
        ("head/dense", "cls.predictions.transform.dense"),
        ("head/norm", "cls.predictions.transform.LayerNorm"),
        ("head", "cls.predictions"),
        ("head/decoder", "cls.predictions.decoder"),
        ("pooler", "bert.pooler.dense"),
        ("classifier", "classifier"),
    ],
    keys: &[],
    defaults: || json!({}),
    fixed: || json!({"position_embedding_type": "absolute", "is_decoder": false, "add_cross_attention": false}),
    read: |_| Ok(()),
    write: |_| json!({"position_embedding_type": "absolute"}),
    head_act: |config| config.hidden_act,
    pooler_act: |_| PoolerActivation::Tanh,
};
