//! RoBERTa, XLM-R and `CamemBERT` on disk.

use serde_json::json;

use super::{Layout, bert};
use crate::activation::Activation;

/// `RobertaForMaskedLM`, `RobertaForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "RobertaForMaskedLM",
    classifier: "RobertaForSequenceClassification",
    prefix: "roberta.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "roberta.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "roberta.embeddings.position_embeddings"),
        ("encoder/embeddings/token_type_embeddings", "roberta.embeddings.token_type_embeddings"),
        ("encoder/embeddings/norm", "roberta.embeddings.LayerNorm"),
        ("encoder/layers/{}/attention/query", "roberta.encoder.layer.{}.attention.self.query"),
        ("encoder/layers/{}/attention/key", "roberta.encoder.layer.{}.attention.self.key"),
        ("encoder/layers/{}/attention/value", "roberta.encoder.layer.{}.attention.self.value"),
        ("encoder/layers/{}/attention_output", "roberta.encoder.layer.{}.attention.output.dense"),
        ("encoder/layers/{}/attention_norm", "roberta.encoder.layer.{}.attention.output.LayerNorm"),
        ("encoder/layers/{}/intermediate", "roberta.encoder.layer.{}.intermediate.dense"),
        ("encoder/layers/{}/output", "roberta.encoder.layer.{}.output.dense"),
        ("encoder/layers/{}/output_norm", "roberta.encoder.layer.{}.output.LayerNorm"),
        ("head/dense", "lm_head.dense"),
        ("head/norm", "lm_head.layer_norm"),
        ("head", "lm_head"),
        ("head/decoder", "lm_head.decoder"),
        ("pooler", "classifier.dense"),
        ("classifier", "classifier.out_proj"),
    ],
    defaults: || json!({"vocab_size": 50_265, "pad_token_id": 1}),
    // The head has GELU whatever `hidden_act` says.
    head_act: |_| Activation::Gelu,
    ..bert::LAYOUT
};

/// `XLMRobertaForMaskedLM`, `XLMRobertaForSequenceClassification`: the same tensors.
pub(super) const XLM: Layout = Layout {
    masked_lm: "XLMRobertaForMaskedLM",
    classifier: "XLMRobertaForSequenceClassification",
    defaults: || json!({"pad_token_id": 1}),
    ..LAYOUT
};

/// `CamembertForMaskedLM`, `CamembertForSequenceClassification`: the same tensors.
pub(super) const CAMEMBERT: Layout =
    Layout { masked_lm: "CamembertForMaskedLM", classifier: "CamembertForSequenceClassification", ..XLM };
