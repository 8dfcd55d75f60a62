//! The student's shape, from its file or a model, and the tokens.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::Manifest;
use entromask_encoder::EncoderConfig;
use entromask_fault::Fault;
use serde_json::{Map, Value};

use crate::job::Facts;

const DROPOUT: [&str; 2] = ["hidden_dropout_prob", "attention_probs_dropout_prob"];

/// Fails if `file` is no student's; tokens may ask more of it.
pub(crate) fn check(file: &Path) -> Result<()> {
    check_shape(file, &Said::read(file)?.shape)
}

/// The shape in `file`, a TOML file or a model's folder or `config.json`, with vocabulary and padding of the tokens.
///
/// A file that says nothing about dropout means none: text is plenty, and each row is seen few times (Geiping & Goldstein,
/// *Cramming*, 2022). That of a Hugging Face folder is 0.1 then, which is what fine-tuning starts from.
///
/// # Errors
/// A [`Fault`] of class usage if the file is no student's, or its positions are too few for the rows.
pub(crate) fn shape(file: &Path, facts: &Facts, tokens: &Manifest) -> Result<EncoderConfig> {
    let Said { shape, dropout } = Said::read(file)?;
    let or_none = |key: &str, value: f64| if dropout.contains(&key) { value } else { 0.0 };
    let student = EncoderConfig {
        vocab_size: facts.vocab_size,
        pad_token_id: facts.special.pad,
        hidden_dropout_prob: or_none(DROPOUT[0], shape.hidden_dropout_prob),
        attention_probs_dropout_prob: or_none(DROPOUT[1], shape.attention_probs_dropout_prob),
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

/// What a file says.
struct Said {
    shape: EncoderConfig,
    /// The keys of [`DROPOUT`] that it gives.
    dropout: Vec<&'static str>,
}

impl Said {
    fn read(file: &Path) -> Result<Self> {
        if let Some(model) = model_of(file) {
            return Ok(Self { shape: EncoderConfig::from_pretrained(model)?, dropout: DROPOUT.to_vec() });
        }
        let said: Map<String, Value> = entromask_cli::load_file(file)?;
        let dropout = DROPOUT.into_iter().filter(|key| said.contains_key(*key)).collect();
        Ok(Self { shape: entromask_cli::load_file(file)?, dropout })
    }
}

/// The folder of the model that `file` names, if it does.
fn model_of(file: &Path) -> Option<&Path> {
    if file.file_name().is_some_and(|name| name == "config.json") {
        return file.parent();
    }
    Some(file).filter(|file| file.is_dir())
}

/// The encoder knows of no file.
fn check_shape(file: &Path, shape: &EncoderConfig) -> Result<()> {
    shape.check().map_err(|error| Fault::usage(format!("{}: {error}", file.display())).into())
}
