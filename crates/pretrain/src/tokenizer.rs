//! The tokenizer's files in a Hugging Face folder: `tokenizer.json` from the tokens artifact, and the two small files
//! that `AutoTokenizer` wants beside it.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::{Manifest, Workbench};
use entromask_encoder::EncoderConfig;
use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use serde_json::{Map, Value, json};

/// Names of the files that [`write`] makes.
pub(crate) const FILES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Copies the tokenizer of `tokens`, which lie in `folder`, into the folder of a model of the shape `student`.
pub(crate) fn write(
    bench: &Workbench,
    folder: &Path,
    tokens: &Manifest,
    student: &EncoderConfig,
) -> Result<()> {
    let source = folder.join(FILES[0]);
    let bytes = fs::read(&source)
        .map_err(|error| Fault::input(unreadable(&source, &error)).remedy("tokenize again"))?;
    let tokenizer: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Fault::input(format!("{}: {error}", source.display())).remedy("tokenize again"))?;
    let special = special_tokens(&tokenizer, &tokens.stats["special"]);
    bench.write_bytes(FILES[0], &bytes)?;
    bench.write_bytes(FILES[1], &pretty(&tokenizer_config(&special, student))?)?;
    bench.write_bytes(FILES[2], &pretty(&Value::Object(special))?)
}

fn tokenizer_config(special: &Map<String, Value>, student: &EncoderConfig) -> Value {
    let mut config = special.clone();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("model_max_length".into(), json!(student.max_seq_length()));
    // That class does not know the model: some versions of `transformers` give segments to those that have none, others withhold
    // them from those that do.
    let inputs: &[&str] = if student.type_vocab_size > 1 {
        &["input_ids", "token_type_ids", "attention_mask"]
    } else {
        &["input_ids", "attention_mask"]
    };
    config.insert("model_input_names".into(), json!(inputs));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    Value::Object(config)
}

/// `pad_token` and so on, by the ids that the tokens artifact names; those without a role are a list.
fn special_tokens(tokenizer: &Value, ids: &Value) -> Map<String, Value> {
    let text = |id: &Value| text_of(tokenizer, id.as_u64()?);
    let named = ids.as_object().into_iter().flatten();
    let mut special: Map<String, Value> =
        named.filter_map(|(name, id)| Some((format!("{name}_token"), json!(text(id)?)))).collect();
    if let Some(other) = ids["other"].as_array() {
        let other: Vec<&str> = other.iter().filter_map(text).collect();
        special.insert("additional_special_tokens".into(), json!(other));
    }
    special
}

fn text_of(tokenizer: &Value, id: u64) -> Option<&str> {
    let added = tokenizer["added_tokens"].as_array()?;
    added.iter().find(|token| token["id"] == id).and_then(|token| token["content"].as_str())
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_named_by_their_ids() {
        let tokenizer =
            json!({"added_tokens": [{"id": 0, "content": "[PAD]"}, {"id": 103, "content": "[MASK]"}]});
        let special = special_tokens(&tokenizer, &json!({"pad": 0, "mask": 103, "unk": null, "cls": 7}));
        assert_eq!(Value::Object(special), json!({"pad_token": "[PAD]", "mask_token": "[MASK]"}));
    }

    #[test]
    fn segments_are_asked_for_where_the_model_has_them() {
        let inputs = |type_vocab_size| {
            let student = EncoderConfig { type_vocab_size, ..EncoderConfig::default() };
            tokenizer_config(&Map::new(), &student)["model_input_names"].as_array().map(Vec::len)
        };
        assert_eq!([0, 1, 2].map(inputs), [Some(2), Some(2), Some(3)]);
    }

    #[test]
    fn special_tokens_without_a_role_are_a_list() {
        let tokenizer =
            json!({"added_tokens": [{"id": 1, "content": "<|end|>"}, {"id": 5, "content": "<|x|>"}]});
        let special = special_tokens(&tokenizer, &json!({"eos": 1, "other": [5]}));
        let expected = json!({"eos_token": "<|end|>", "additional_special_tokens": ["<|x|>"]});
        assert_eq!(Value::Object(special), expected);
    }
}
