//! ModernBERT on disk.

use serde_json::{Map, Value, json};

use super::{Layout, PoolerActivation};
use crate::{EncoderConfig, ModernBertConfig};

/// `ModernBertForMaskedLM`, `ModernBertForSequenceClassification`.
pub(super) const LAYOUT: Layout = Layout {
    masked_lm: "ModernBertForMaskedLM",
    classifier: "ModernBertForSequenceClassification",
    prefix: "model.",
    tensors: &[
        ("encoder/embeddings/word_embeddings", "model.embeddings.tok_embeddings"),
        ("encoder/embeddings/norm", "model.embeddings.norm"),
        ("encoder/layers/{}/attention_norm", "model.layers.{}.attn_norm"),
        ("encoder/layers/{}/attention/qkv", "model.layers.{}.attn.Wqkv"),
        ("encoder/layers/{}/attention/output", "model.layers.{}.attn.Wo"),
        ("encoder/layers/{}/mlp_norm", "model.layers.{}.mlp_norm"),
        ("encoder/layers/{}/mlp/input", "model.layers.{}.mlp.Wi"),
        ("encoder/layers/{}/mlp/output", "model.layers.{}.mlp.Wo"),
        ("encoder/norm", "model.final_norm"),
        ("head/dense", "head.dense"),
        ("head/norm", "head.norm"),
        ("head", "decoder"),
        ("head/decoder", "decoder"),
        // The classifier's dense layer is that of the masked-LM head.
        ("pooler", "head.dense"),
        ("pooler_norm", "head.norm"),
        ("classifier", "classifier"),
    ],
    keys: &[
        ("hidden_act", "hidden_activation"),
        ("layer_norm_eps", "norm_eps"),
        ("hidden_dropout_prob", "embedding_dropout"),
        ("attention_probs_dropout_prob", "attention_dropout"),
        ("type_vocab_size", ""),
    ],
    defaults: || {
        json!({
            "vocab_size": 50_368, "intermediate_size": 1_152, "num_hidden_layers": 22,
            "max_position_embeddings": 8_192, "layer_norm_eps": 1e-5, "pad_token_id": 50_283, "type_vocab_size": 0,
            "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "classifier_dropout": 0,
        })
    },
    fixed: || json!({}),
    read,
    write,
    head_act: |config| config.modernbert().classifier_activation,
    pooler_act: |config| PoolerActivation::Other(config.modernbert().classifier_activation),
};

/// Keys of `config.json` that make up [`ModernBertConfig`](crate::ModernBertConfig).
const OWN: [&str; 13] = [
    "global_attn_every_n_layers",
    "local_attention",
    "global_rope_theta",
    "local_rope_theta",
    "norm_bias",
    "attention_bias",
    "mlp_bias",
    "decoder_bias",
    "classifier_bias",
    "classifier_activation",
    "classifier_pooling",
    "mlp_dropout",
    "initializer_cutoff_factor",
];

/// Gathers the family's own keys in an object. Newer files list the kind of each layer and its rotary frequencies.
fn read(object: &mut Map<String, Value>) -> Result<(), String> {
    let own = OWN.iter().filter_map(|&key| Some((key.to_owned(), object.get(key)?.clone())));
    let mut own: Map<String, Value> = own.filter(|(_, value)| !value.is_null()).collect();
    for (kind, key) in [("full_attention", "global_rope_theta"), ("sliding_attention", "local_rope_theta")] {
        if let Some(theta) = rope_theta(object, kind)? {
            own.insert(key.to_owned(), theta);
        }
    }
    if !own.contains_key("local_rope_theta") && object.get("local_rope_theta").is_some_and(Value::is_null) {
        own.insert("local_rope_theta".to_owned(), global_theta(&own));
    }
    if let Some(scaling) = object.get("rope_scaling") {
        check_rope(scaling)?;
        if let Some(theta) = scaling.get("rope_theta") {
            return Err(format!(
                "rope_theta = {theta} in rope_scaling is not supported; name it in rope_parameters"
            ));
        }
    }
    if let Some(window) = object.get("sliding_window").filter(|value| !value.is_null()) {
        // On each side of a token; `local_attention` is both sides.
        let both = window.as_u64().and_then(|window| window.checked_mul(2)).map(Value::from);
        let both = both.ok_or_else(|| format!("sliding_window = {window} is no number of tokens"))?;
        // Of an odd number the half is rounded down.
        let is_other = |given: &&Value| given.as_u64().map(|given| given / 2) != window.as_u64();
        match own.get("local_attention").filter(is_other) {
            Some(given) => {
                return Err(format!("sliding_window = {window} and local_attention = {given} disagree"));
            }
            None => own.insert("local_attention".to_owned(), both),
        };
    }
    if let Some(layers) = object.get("layer_types").filter(|value| !value.is_null()) {
        let layers = layers.as_array().ok_or_else(|| format!("layer_types = {layers} is not a list"))?;
        let count = object
            .get("num_hidden_layers")
            .cloned()
            .unwrap_or_else(|| (LAYOUT.defaults)()["num_hidden_layers"].clone());
        if count != layers.len() {
            return Err(format!("{} layer_types for {count} layers", layers.len()));
        }
        own.insert("global_attn_every_n_layers".to_owned(), json!(period(layers)?));
    }
    object.insert("modernbert".to_owned(), Value::Object(own));
    Ok(())
}

/// What stands for a local theta of null, as in the code that such files were written for; without the key it has a
/// default of its own.
fn global_theta(own: &Map<String, Value>) -> Value {
    let given = own.get("global_rope_theta").cloned();
    given.unwrap_or_else(|| json!(ModernBertConfig::default().global_rope_theta))
}

fn rope_theta(object: &Map<String, Value>, kind: &str) -> Result<Option<Value>, String> {
    let Some(all) = object.get("rope_parameters").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let all = all.as_object().ok_or_else(|| format!("rope_parameters = {all} is not an object"))?;
    let named = all.contains_key("full_attention") || all.contains_key("sliding_attention");
    if !all.is_empty() && !named {
        let all = Value::Object(all.clone());
        return Err(format!("rope_parameters = {all}, of neither kind of attention, is not supported"));
    }
    let Some(parameters) = all.get(kind).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    if !parameters.is_object() {
        return Err(format!("{kind} = {parameters} in rope_parameters is not an object"));
    }
    check_rope(parameters)?;
    Ok(parameters.get("rope_theta").cloned())
}

/// Refuses frequencies that are scaled. The kind had another key once.
fn check_rope(parameters: &Value) -> Result<(), String> {
    let kind = ["rope_type", "type"].iter().find_map(|key| parameters.get(key)?.as_str());
    match kind {
        None | Some("default") => Ok(()),
        Some(other) => Err(format!("rope_type = {other:?} is not supported")),
    }
}

/// How often a layer attends to the whole row, if it is every n-th from the first.
fn period(layers: &[Value]) -> Result<usize, String> {
    if let Some(other) =
        layers.iter().find(|layer| *layer != "full_attention" && *layer != "sliding_attention")
    {
        return Err(format!("layer_types with {other} are not supported"));
    }
    let global = |layer: &Value| layer == "full_attention";
    let period = layers.iter().skip(1).position(global).map_or(layers.len(), |at| at + 1);
    let regular =
        layers.iter().enumerate().all(|(depth, layer)| global(layer) == depth.is_multiple_of(period));
    if regular { Ok(period) } else { Err("layer_types without a period are not supported".to_owned()) }
}

fn write(config: &EncoderConfig) -> Value {
    let mut own = serde_json::to_value(config.modernbert()).unwrap_or_default();
    // Without them `transformers` takes the ids of ModernBERT's own vocabulary, and warns where they are not in this one. The
    // tokenizer knows its special tokens.
    for token in ["bos", "eos", "cls", "sep"] {
        own[format!("{token}_token_id")] = Value::Null;
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(given: &Value) -> Result<Value, String> {
        let mut object = given.as_object().cloned().expect("an object");
        read(&mut object).map(|()| object["modernbert"].clone())
    }

    #[test]
    fn a_sliding_window_is_half_of_the_local_attention() {
        assert_eq!(own(&json!({"sliding_window": 4})), Ok(json!({"local_attention": 8})));
        for both in [8, 9] {
            let read = own(&json!({"sliding_window": 4, "local_attention": both}));
            assert_eq!(read, Ok(json!({"local_attention": 8})));
        }
        let disagree = own(&json!({"sliding_window": 4, "local_attention": 128}));
        assert_eq!(disagree, Err("sliding_window = 4 and local_attention = 128 disagree".to_owned()));
        assert!(own(&json!({"sliding_window": "wide"})).is_err());
    }

    #[test]
    fn a_theta_among_scalings_is_not_overlooked() {
        assert!(own(&json!({"rope_scaling": {"rope_type": "default"}})).is_ok());
        let found = own(&json!({"rope_scaling": {"rope_type": "default", "rope_theta": 50}}));
        assert!(found.is_err_and(|problem| problem.contains("rope_theta = 50")));
    }
}
