//! The model that scores, and whether it belongs to the tokens.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::{Input, Manifest, is_artifact};
use entromask_encoder::{EncoderConfig, MaskedLm, pretrained_files, tokenizer};
use entromask_fault::Fault;

/// What is left to do where the model's values for its own tokens are no values for those of the corpus.
const OWN_TOKENS: &str =
    "tokenize the corpus with this model's tokenizer, or take a model with the tokenizer of the corpus";

/// The model as an input: an artifact of the pipeline, or a Hugging Face folder from outside.
///
/// # Errors
///
/// Those of [`Input::model`].
pub(crate) fn input(dir: &Path) -> Result<Input> {
    let remedy = "`--model` takes a model artifact or a Hugging Face folder";
    Input::model("teacher", dir, remedy, || pretrained_files(dir, remedy))
}

/// Checks the model in `dir` as far as one can without reading it, if there is one. One of the pipeline may be replaced before it is
/// read, and predicts tokens in any case.
///
/// # Errors
///
/// An input fault: a configuration that is not understood, tensors that are missing or misshapen, no masked-LM head.
pub(crate) fn check_early(dir: &Path) -> Result<()> {
    match dir.join("config.json").is_file() {
        false => Ok(()),
        true if is_artifact(dir) => EncoderConfig::from_pretrained(dir).map(drop),
        true => MaskedLm::check(dir),
    }
}

/// Fails when the model in `dir` cannot read the ids of the tokens artifact in `tokens_dir`.
///
/// # Errors
///
/// An input fault: it knows fewer tokens, or has another tokenizer.
pub(crate) fn check_origin(
    dir: &Path,
    config: &EncoderConfig,
    tokens: &Manifest,
    tokens_dir: &Path,
) -> Result<()> {
    if let Some(files) = tokenizer::foreign(dir, tokens_dir, &tokens.stats["special"])? {
        let (theirs, ours) = (files[0].display(), tokens_dir.display());
        let found =
            format!("{theirs} and the tokens in {ours} have different vocabularies or special tokens");
        return Err(Fault::input(found).remedy(OWN_TOKENS).into());
    }
    warn_of_long_rows(dir, config, tokens);
    let found = lacking(dir, config, tokens, tokens_dir);
    found.map_or(Ok(()), |found| Err(Fault::input(found).remedy(OWN_TOKENS).into()))
}

/// Whether there are any only their parts tell.
fn warn_of_long_rows(dir: &Path, config: &EncoderConfig, tokens: &Manifest) {
    let (longest, positions) = (tokens.config["seq_len"].as_u64().unwrap_or(0), config.max_seq_length());
    if longest > positions as u64 {
        tracing::warn!(
            "{}: reads rows of {positions} tokens, and the corpus was cut into rows of up to {longest}: the first one that is too long ends the run",
            dir.display()
        );
    }
}

/// Compares the tokenizer of the tokens artifact in `dir` with its digest: whether a model has another one is part of the
/// key.
pub(crate) fn verify_tokenizer(tokens: &Manifest, dir: &Path) -> Result<()> {
    tokens.verify_read(dir, |file| file == "tokenizer.json")
}

/// Id of the mask token, which the manifest of the tokens names.
pub(crate) fn mask_id(tokens: &Manifest, dir: &Path) -> Result<u32> {
    let id = tokens.stats["special"]["mask"].as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| {
        Fault::input(format!("{}: the manifest names no mask token", dir.display()))
            .remedy("tokenize the corpus with a tokenizer that has one")
            .into()
    })
}

/// Fails when the mask token is beyond the model.
pub(crate) fn check_mask(dir: &Path, config: &EncoderConfig, mask_id: u32) -> Result<()> {
    let (model, known) = (dir.display(), config.vocab_size);
    if (mask_id as usize) < known {
        return Ok(());
    }
    Err(foreign(format!("{model}: knows tokens 0 to {}, but the mask token is {mask_id}", known - 1)))
}

/// Fails when a token or a row of this part is beyond the model.
pub(crate) fn check_rows<'a>(
    config: &EncoderConfig,
    rows: impl Iterator<Item = &'a [u32]>,
    part: &Path,
) -> Result<()> {
    for ids in rows {
        let (tokens, positions) = (config.vocab_size, config.max_seq_length());
        if let Some(id) = ids.iter().find(|&&id| id as usize >= tokens) {
            return Err(foreign(format!("{}: token {id}, but the model knows {tokens}", part.display())));
        }
        if ids.len() > positions {
            let found =
                format!("{}: a row of {} tokens, but the model reads {positions}", part.display(), ids.len());
            return Err(Fault::input(found)
                .remedy("tokenize with a smaller seq_len, or use another model")
                .into());
        }
    }
    Ok(())
}

/// Fails when the vocabulary of the tokens is larger than the model's.
pub(crate) fn check_vocabulary(
    dir: &Path,
    config: &EncoderConfig,
    tokens: &Manifest,
    tokens_dir: &Path,
) -> Result<()> {
    lacking(dir, config, tokens, tokens_dir).map_or(Ok(()), |found| Err(foreign(found)))
}

/// What is found where the vocabulary of the tokens is larger than the model's.
fn lacking(dir: &Path, config: &EncoderConfig, tokens: &Manifest, tokens_dir: &Path) -> Option<String> {
    let wanted = tokens.stats["vocab_size"].as_u64().unwrap_or(0);
    let (tokens, model, known) = (tokens_dir.display(), dir.display(), config.vocab_size);
    let found = || format!("{tokens}: a vocabulary of {wanted} tokens, but {model} knows {known}");
    (wanted > known as u64).then(found)
}

fn foreign(found: String) -> anyhow::Error {
    Fault::input(found)
        .remedy("put the tokenizer.json that belongs to this model into its folder, or use another model")
        .into()
}
