//! `config.json`, read and written.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Family, Layout};
use crate::EncoderConfig;

/// The shape that a Hugging Face `config.json` describes; keys that do not bear on the computation are ignored.
pub(crate) fn read(mut object: Map<String, Value>) -> Result<EncoderConfig, String> {
    let family = family(&object)?;
    let layout = family.layout();
    if let Some(problem) = foreign_feature(&object, layout) {
        return Err(problem);
    }
    (layout.read)(&mut object)?;
    // Earlier versions of `transformers` wrote it for none. Where positions are counted from it, it must be one.
    if !counts_from_padding(family)
        && object.get("pad_token_id").and_then(Value::as_i64).is_some_and(|id| id < 0)
    {
        object.remove("pad_token_id");
    }
    let mut ours = as_object((layout.defaults)());
    for (field, key) in fields(layout).into_iter().filter(|(field, _)| has(family, field)) {
        ours.extend(object.remove(key).filter(|value| !value.is_null()).map(|value| (field, value)));
    }
    let config: EncoderConfig = serde_path_to_error::deserialize(Value::Object(ours)).map_err(|error| {
        let key = key_of(&error.path().to_string(), layout);
        format!("{key}: {}", error.into_inner())
    })?;
    config.problem().map_or(Ok(config), Err)
}

/// `config.json` for the class `architecture`, with `extra` keys of that class.
pub(crate) fn write(config: &EncoderConfig, architecture: &str, extra: Value) -> Result<Value> {
    let layout = config.model_type.layout();
    let mut values = as_object(serde_json::to_value(config).context("a config is JSON")?);
    let (mut object, defaults) = (Map::new(), as_object((layout.defaults)()));
    for (field, key) in fields(layout).into_iter().filter(|(field, _)| field != "modernbert") {
        // `transformers` refuses null where the family has a number; without the key it takes that.
        let value = values.remove(&field).filter(|value| !value.is_null() || !defaults.contains_key(&field));
        object.extend(value.map(|value| (key.to_owned(), value)));
    }
    let fixed = json!({
        "architectures": [architecture], "dtype": "float32", "tie_word_embeddings": config.tie_word_embeddings,
    });
    for more in [(layout.write)(config), fixed, extra] {
        object.extend(as_object(more));
    }
    Ok(Value::Object(object))
}

/// The family that the configuration names.
pub(crate) fn family(object: &Map<String, Value>) -> Result<Family, String> {
    let name = object.get("model_type").ok_or("model_type is missing")?;
    serde_json::from_value(name.clone()).map_err(|_| format!("model_type = {name} is not supported"))
}

/// Whether models of the family have the field; others may have its key for something else.
fn has(family: Family, field: &str) -> bool {
    match field {
        "embedding_size" => [Family::Albert, Family::Electra].contains(&family),
        "num_hidden_groups" | "inner_group_num" => family == Family::Albert,
        _ => true,
    }
}

/// Whether the position of the first token is the one behind the id of padding.
pub(crate) fn counts_from_padding(family: Family) -> bool {
    matches!(family, Family::Roberta | Family::XlmRoberta | Family::Camembert)
}

/// A feature that changes the computation in a way that is not implemented.
fn foreign_feature(object: &Map<String, Value>, layout: &Layout) -> Option<String> {
    let fixed = as_object((layout.fixed)());
    if let Some(heads) =
        object.get("pruned_heads").filter(|heads| heads.as_object().is_some_and(|heads| !heads.is_empty()))
    {
        return Some(format!("pruned_heads = {heads} is not supported"));
    }
    let (key, value) = object
        .iter()
        .find(|(key, value)| !value.is_null() && fixed.get(*key).is_some_and(|usual| usual != *value))?;
    Some(format!("{key} = {value} is not supported"))
}

/// The key in the family's `config.json` of a field of ours, such as `modernbert.local_attention`.
fn key_of(field: &str, layout: &'static Layout) -> String {
    let field = field.strip_prefix("modernbert.").unwrap_or(field);
    let fields = fields(layout);
    let renamed = fields.iter().find(|(ours, _)| ours == field).map(|(_, key)| (*key).to_owned());
    renamed.unwrap_or_else(|| field.to_owned())
}

/// Our fields with their keys in the family's `config.json`. Fields that the family does not have are left out.
fn fields(layout: &'static Layout) -> Vec<(String, &'static str)> {
    let renamed = |field: &'static str| {
        layout.keys.iter().find(|(ours, _)| *ours == field).map_or(field, |(_, theirs)| *theirs)
    };
    FIELDS
        .iter()
        .map(|&field| (field.to_owned(), renamed(field)))
        .filter(|(_, key)| !key.is_empty())
        .collect()
}

const FIELDS: [&str; 20] = [
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "classifier_dropout",
    "embedding_size",
    "num_hidden_groups",
    "inner_group_num",
    "tie_word_embeddings",
    "modernbert",
];

fn as_object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, ModernBertConfig, Pooling};

    fn read_json(json: &Value) -> Result<EncoderConfig, String> {
        read(as_object(json.clone()))
    }

    #[test]
    fn every_field_is_listed() {
        let all = EncoderConfig {
            embedding_size: Some(1),
            num_hidden_groups: 2,
            inner_group_num: 2,
            tie_word_embeddings: false,
            modernbert: Some(ModernBertConfig::default()),
            ..EncoderConfig::default()
        };
        let written = as_object(serde_json::to_value(all).expect("JSON"));
        let mut fields = FIELDS.map(str::to_owned);
        fields.sort_unstable();
        assert!(written.keys().eq(fields.iter()));
    }

    #[test]
    fn every_family_reads_what_it_writes() {
        for model_type in Family::ALL {
            let mut config = read_json(&json!({ "model_type": model_type })).expect("reads");
            config.hidden_act = Activation::Relu;
            config.num_hidden_layers = 6;
            config.pad_token_id = 7;
            let json = write(&config, "X", json!({"id2label": {"0": "a"}})).expect("JSON");
            assert_eq!(json["architectures"][0], "X");
            assert_eq!(json["id2label"]["0"], "a");
            assert_eq!(read_json(&json), Ok(config), "{json}");
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_families_that_have_a_number() {
        for (model_type, key) in [
            (Family::DistilBert, "seq_classif_dropout"),
            (Family::ModernBert, "classifier_dropout"),
            (Family::Albert, "classifier_dropout_prob"),
        ] {
            let config = EncoderConfig { model_type, ..EncoderConfig::default() };
            assert!(write(&config, "X", json!({})).expect("JSON").get(key).is_none());
        }
        let bert = write(&EncoderConfig::default(), "X", json!({})).expect("JSON");
        assert_eq!(bert["classifier_dropout"], Value::Null);
    }

    #[test]
    fn foreign_keys_are_ignored_and_nulls_are_defaults() {
        let json = json!({"model_type": "bert", "hidden_size": 96, "transformers_version": "5", "classifier_dropout": null,
            "embedding_size": 16, "num_hidden_groups": 2, "inner_group_num": 2, "is_decoder": null});
        let config = read_json(&json).expect("reads");
        assert_eq!((config.hidden_size, config.classifier_dropout), (96, None));
    }

    #[test]
    fn a_padding_below_zero_is_none_unless_positions_are_counted_from_it() {
        let padded = |family: &str| read_json(&json!({"model_type": family, "pad_token_id": -1}));
        assert_eq!(padded("bert").expect("reads").pad_token_id, 0);
        assert!(padded("roberta").expect_err("refused").contains("pad_token_id"));
    }

    #[test]
    fn distilbert_has_names_of_its_own() {
        let json = json!({"model_type": "distilbert", "dim": 96, "n_heads": 3, "n_layers": 2, "activation": "relu", "hidden_size": 96});
        let config = read_json(&json).expect("reads");
        assert_eq!((config.hidden_size, config.num_hidden_layers), (96, 2));
        assert_eq!((config.hidden_act, config.type_vocab_size), (Activation::Relu, 0));
    }

    #[test]
    fn modernbert_old_and_new() {
        let old = json!({"model_type": "modernbert", "global_attn_every_n_layers": 2, "local_rope_theta": 5.0,
            "classifier_pooling": "mean"});
        let modern = read_json(&old).expect("reads").modernbert.expect("its own fields");
        assert_eq!((modern.global_attn_every_n_layers, modern.classifier_pooling), (2, Pooling::Mean));
        let new = json!({"model_type": "modernbert", "num_hidden_layers": 4, "local_attention": 8,
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 9.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5.0}}});
        let modern = read_json(&new).expect("reads").modernbert.expect("its own fields");
        assert_eq!((modern.global_rope_theta, modern.local_rope_theta), (9.0, 5.0));
        assert_eq!((modern.global_attn_every_n_layers, modern.local_attention), (2, 8));
    }

    #[test]
    fn a_local_theta_of_null_is_the_global_one() {
        for (json, thetas) in [
            (json!({"global_rope_theta": 9.0, "local_rope_theta": null}), (9.0, 9.0)),
            (json!({"local_rope_theta": null}), (160_000.0, 160_000.0)),
            (json!({"global_rope_theta": 9.0}), (9.0, 10_000.0)),
            (
                json!({"local_rope_theta": null, "rope_parameters": {"sliding_attention": {"rope_theta": 5.0}}}),
                (160_000.0, 5.0),
            ),
            (json!({"rope_parameters": {}}), (160_000.0, 10_000.0)),
        ] {
            let mut object = as_object(json);
            object.insert("model_type".to_owned(), "modernbert".into());
            let modern = read(object).expect("reads").modernbert.expect("its own fields");
            assert_eq!((modern.global_rope_theta, modern.local_rope_theta), thetas);
        }
    }

    #[test]
    fn models_that_are_not_implemented_are_refused() {
        let cases = [
            (json!({"hidden_size": 8}), "model_type is missing"),
            (json!({"model_type": "t5"}), "t5"),
            (json!({"model_type": "bert", "position_embedding_type": "relative_key"}), "relative_key"),
            (json!({"model_type": "bert", "is_decoder": true}), "is_decoder"),
            (json!({"model_type": "bert", "hidden_act": "mish"}), "mish"),
            (json!({"model_type": "bert", "hidden_size": 100}), "multiple"),
            (json!({"model_type": "bert", "vocab_size": 0}), "vocab_size is 0"),
            (json!({"model_type": "bert", "hidden_dropout_prob": 1.0}), "outside"),
            (
                json!({"model_type": "modernbert", "num_hidden_layers": 3,
                    "layer_types": ["full_attention", "full_attention", "sliding_attention"]}),
                "period",
            ),
            (
                json!({"model_type": "modernbert", "rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
                "yarn",
            ),
            (
                json!({"model_type": "modernbert", "rope_parameters": {"full_attention": 9.0}}),
                "full_attention = 9.0 in rope_parameters is not an object",
            ),
            (json!({"model_type": "modernbert", "rope_parameters": "default"}), "is not an object"),
            (
                json!({"model_type": "modernbert", "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}),
                "of neither kind of attention",
            ),
            (json!({"model_type": "modernbert", "layer_types": "full_attention"}), "is not a list"),
            (
                json!({"model_type": "modernbert", "rope_parameters": {"sliding_attention": {"type": "linear", "factor": 8.0}}}),
                "linear",
            ),
            (
                json!({"model_type": "modernbert", "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
                "rope_type = \"linear\" is not supported",
            ),
            (
                json!({"model_type": "modernbert", "num_hidden_layers": 4, "layer_types": ["full_attention", "sliding_attention"]}),
                "2 layer_types for 4 layers",
            ),
            (
                json!({"model_type": "modernbert", "num_hidden_layers": 2, "layer_types": ["full_attention", "chunked_attention"]}),
                "chunked_attention",
            ),
        ];
        for (json, word) in cases {
            let problem = read_json(&json).expect_err("refused");
            assert!(problem.contains(word), "{problem}");
        }
    }
}
