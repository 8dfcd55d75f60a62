//! DistilBERT on disk.

use serde_json::{Map, Value, json};

use super::{Layout, PoolerActivation, bert};
use crate::activation::Activation;

/// `DistilBertForMaskedLM`, `DistilBertForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "DistilBertForMaskedLM",
    classifier: "DistilBertForSequenceClassification",
    prefix: "distilbert.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "distilbert.embeddings.word_embeddings"),
        ("encoder/embeddings/position_embeddings", "distilbert.embeddings.position_embeddings"),
        ("encoder/embeddings/norm", "distilbert.embeddings.LayerNorm"),
        ("encoder/layers/{}/attention/query", "distilbert.transformer.layer.{}.attention.q_lin"),
        ("encoder/layers/{}/attention/key", "distilbert.transformer.layer.{}.attention.k_lin"),
        ("encoder/layers/{}/attention/value", "distilbert.transformer.layer.{}.attention.v_lin"),
        ("encoder/layers/{}/attention_output", "distilbert.transformer.layer.{}.attention.out_lin"),
        ("encoder/layers/{}/attention_norm", "distilbert.transformer.layer.{}.sa_layer_norm"),
        ("encoder/layers/{}/intermediate", "distilbert.transformer.layer.{}.ffn.lin1"),
        ("encoder/layers/{}/output", "distilbert.transformer.layer.{}.ffn.lin2"),
        ("encoder/layers/{}/output_norm", "distilbert.transformer.layer.{}.output_layer_norm"),
        ("head/dense", "vocab_transform"),
        ("head/norm", "vocab_layer_norm"),
        ("head", "vocab_projector"),
        ("head/decoder", "vocab_projector"),
        ("pooler", "pre_classifier"),
        ("classifier", "classifier"),
    ],
    keys: &[
        ("hidden_size", "dim"),
        ("num_hidden_layers", "n_layers"),
        ("num_attention_heads", "n_heads"),
        ("intermediate_size", "hidden_dim"),
        ("hidden_act", "activation"),
        ("hidden_dropout_prob", "dropout"),
        ("attention_probs_dropout_prob", "attention_dropout"),
        ("classifier_dropout", "seq_classif_dropout"),
        // What other families read under these names is fixed here.
        ("layer_norm_eps", ""),
        ("type_vocab_size", ""),
    ],
    defaults: || json!({"num_hidden_layers": 6, "type_vocab_size": 0, "layer_norm_eps": 1e-12, "classifier_dropout": 0.2}),
    fixed: || json!({}),
    read,
    write: |_| json!({"sinusoidal_pos_embds": false}),
    pooler_act: |_| PoolerActivation::Other(Activation::Relu),
    ..bert::LAYOUT
};

/// Names of other families that `transformers` takes for this one's.
const ALIASES: [(&str, &str); 3] =
    [("hidden_size", "dim"), ("num_hidden_layers", "n_layers"), ("num_attention_heads", "n_heads")];

fn read(object: &mut Map<String, Value>) -> Result<(), String> {
    for (alias, key) in ALIASES {
        let Some(given) = object.get(alias).filter(|value| !value.is_null()).cloned() else { continue };
        match object.get(key) {
            Some(own) if *own != given => {
                return Err(format!("{alias} = {given} and {key} = {own} disagree"));
            }
            _ => object.insert(key.to_owned(), given),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_families_count_and_must_agree() {
        let read = |given: &Value| {
            let mut object = given.as_object().cloned().expect("an object");
            read(&mut object).map(|()| object["n_heads"].clone())
        };
        assert_eq!(read(&json!({"num_attention_heads": 4})), Ok(json!(4)));
        assert_eq!(read(&json!({"num_attention_heads": 4, "n_heads": 4})), Ok(json!(4)));
        let disagree = read(&json!({"num_attention_heads": 4, "n_heads": 12}));
        assert_eq!(disagree, Err("num_attention_heads = 4 and n_heads = 12 disagree".to_owned()));
    }
}
