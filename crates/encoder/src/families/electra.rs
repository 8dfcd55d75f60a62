//! ELECTRA on disk.

use serde_json::json;

use super::{Layout, PoolerActivation, bert};
use crate::activation::Activation;

/// `ElectraForMaskedLM`, the generator, and `ElectraForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "ElectraForMaskedLM",
    classifier: "ElectraForSequenceClassification",
    prefix: "electra.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "electra.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "electra.embeddings.position_embeddings"),
        ("encoder/embeddings/token_type_embeddings", "electra.embeddings.token_type_embeddings"),
        ("encoder/embeddings/norm", "electra.embeddings.LayerNorm"),
        ("encoder/embeddings/projection", "electra.embeddings_project"),
        ("encoder/layers/{}/attention/query", "electra.encoder.layer.{}.attention.self.query"),
        ("encoder/layers/{}/attention/key", "electra.encoder.layer.{}.attention.self.key"),
        ("encoder/layers/{}/attention/value", "electra.encoder.layer.{}.attention.self.value"),
        ("encoder/layers/{}/attention_output", "electra.encoder.layer.{}.attention.output.dense"),
        ("encoder/layers/{}/attention_norm", "electra.encoder.layer.{}.attention.output.LayerNorm"),
        ("encoder/layers/{}/intermediate", "electra.encoder.layer.{}.intermediate.dense"),
        ("encoder/layers/{}/output", "electra.encoder.layer.{}.output.dense"),
        ("encoder/layers/{}/output_norm", "electra.encoder.layer.{}.output.LayerNorm"),
        ("head/dense", "generator_predictions.dense"),
        ("head/norm", "generator_predictions.LayerNorm"),
        ("head", "generator_lm_head"),
        ("head/decoder", "generator_lm_head"),
        ("pooler", "classifier.dense"),
        ("classifier", "classifier.out_proj"),
    ],
    defaults: || json!({"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1_024}),
    write: |config| json!({"position_embedding_type": "absolute", "embedding_size": config.embedding_size()}),
    // The head has GELU whatever `hidden_act` says, and so has the classifier.
    head_act: |_| Activation::Gelu,
    pooler_act: |_| PoolerActivation::Other(Activation::Gelu),
    ..bert::LAYOUT
};
