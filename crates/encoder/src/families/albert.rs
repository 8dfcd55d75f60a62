//! ALBERT on disk.

use serde_json::json;

use super::{Layout, bert};

/// `AlbertForMaskedLM`, `AlbertForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "AlbertForMaskedLM",
    classifier: "AlbertForSequenceClassification",
    prefix: "albert.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "albert.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "albert.embeddings.position_embeddings"),
        ("encoder/embeddings/token_type_embeddings", "albert.embeddings.token_type_embeddings"),
        ("encoder/embeddings/norm", "albert.embeddings.LayerNorm"),
        ("encoder/embeddings/projection", "albert.encoder.embedding_hidden_mapping_in"),
        (
            "encoder/layers/{}/attention/query",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.attention.query",
        ),
        (
            "encoder/layers/{}/attention/key",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.attention.key",
        ),
        (
            "encoder/layers/{}/attention/value",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.attention.value",
        ),
        (
            "encoder/layers/{}/attention_output",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.attention.dense",
        ),
        (
            "encoder/layers/{}/attention_norm",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.attention.LayerNorm",
        ),
        (
            "encoder/layers/{}/intermediate",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.ffn",
        ),
        (
            "encoder/layers/{}/output",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.ffn_output",
        ),
        (
            "encoder/layers/{}/output_norm",
            "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}.full_layer_layer_norm",
        ),
        ("head/dense", "predictions.dense"),
        ("head/norm", "predictions.LayerNorm"),
        ("head", "predictions"),
        ("head/decoder", "predictions.decoder"),
        ("pooler", "albert.pooler"),
        ("classifier", "classifier"),
    ],
    keys: &[("classifier_dropout", "classifier_dropout_prob")],
    defaults: || {
        json!({
            "vocab_size": 30_000, "embedding_size": 128, "hidden_size": 4_096, "num_attention_heads": 64,
            "intermediate_size": 16_384, "hidden_act": "gelu_new", "hidden_dropout_prob": 0,
            "attention_probs_dropout_prob": 0, "classifier_dropout": 0.1,
        })
    },
    write: |config| {
        json!({
            "embedding_size": config.embedding_size(), "num_hidden_groups": config.num_hidden_groups,
            "inner_group_num": config.inner_group_num,
        })
    },
    ..bert::LAYOUT
};
