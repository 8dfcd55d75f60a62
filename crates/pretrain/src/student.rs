//! The student's shape, from its file and the tokens.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::Manifest;
use entromask_encoder::EncoderConfig;
use entromask_fault::Fault;
use serde_json::{Map, Value};

use crate::job::Facts;

/// Fails if `file` is no student's; tokens may ask more of it.
pub(crate) fn check(file: &Path) -> Result<()> {
    check_shape(file, &entromask_cli::load_file(file)?)
}

/// The shape in `file` with vocabulary and padding of the tokens.
///
/// A file that says nothing about dropout means none: text is plenty, and each row is seen few times (Geiping & Goldstein,
/// *Cramming*, 2022). That of a Hugging Face folder is 0.1 then, which is what fine-tuning starts from.
///
/// # Errors
/// A [`Fault`] of class usage if the file is no student's, or its positions are too few for the rows.
pub(crate) fn shape(file: &Path, facts: &Facts, tokens: &Manifest) -> Result<EncoderConfig> {
    let said: Map<String, Value> = entromask_cli::load_file(file)?;
    let shape: EncoderConfig = entromask_cli::load_file(file)?;
    let or_none = |key: &str, value: f64| if said.contains_key(key) { value } else { 0.0 };
    let student = EncoderConfig {
        vocab_size: facts.vocab_size,
        pad_token_id: facts.special.pad,
        hidden_dropout_prob: or_none("hidden_dropout_prob", shape.hidden_dropout_prob),
        attention_probs_dropout_prob: or_none(
            "attention_probs_dropout_prob",
            shape.attention_probs_dropout_prob,
        ),
        ..shape
    };
    check_shape(file, &student)?;
    let longest = tokens.config.get("seq_len").and_then(Value::as_u64).unwrap_or(0) as usize;
    if longest > student.max_seq_length() {
        let (file, most) = (file.display(), student.max_seq_length());
        return Err(Fault::usage(format!(
            "{file}: max_position_embeddings is enough for {most} tokens, but rows have up to {longest} tokens"
        ))
        .remedy("raise max_position_embeddings, or tokenize with a smaller seq_len")
        .into());
    }
    Ok(student)
}

/// The encoder knows of no file.
fn check_shape(file: &Path, shape: &EncoderConfig) -> Result<()> {
    shape.check().map_err(|error| Fault::usage(format!("{}: {error}", file.display())).into())
}
