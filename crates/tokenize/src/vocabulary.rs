//! A vocabulary of a corpus's own, in the manner of a tokenizer that there is already.
//!
//! Normalisation, splitting into words, special tokens and where they are put stay those of the model tokenizer; the tokens
//! are learned from the training documents by Hugging Face `tokenizers`. Special tokens come first, in their old order.
//! The same text gives the same vocabulary.

mod texts;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::anyhow;
use entromask_cli::OutputFile;
use entromask_fault::Fault;
use fs_err as fs;
use serde::Serialize;
use serde_json::{Value, json};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::models::wordpiece::WordPieceTrainer;
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::alphabet::Alphabet;
use crate::normalization::{self, Letters};
use crate::report::counted;
use crate::{Config, Corpus, TextEncoder};
use texts::{LONGEST_WORD, Texts, TextsRead, Words};

/// Memory is taken for as many tokens as are asked for, and no tokenizer in use has a tenth of these.
const MAX_SIZE: usize = 1 << 24;

/// Files by which a folder has a tokenizer, or says of what roles its tokens are.
const OF_A_TOKENIZER: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// A pair of pieces that occurs once is no token.
const MIN_FREQUENCY: u64 = 2;

/// What was learned.
#[derive(Clone, Debug, Serialize)]
pub struct Learned {
    /// The new tokenizer's folder.
    pub out: PathBuf,
    /// Tokens, special ones included; fewer than were asked for if the text has no more.
    pub vocab_size: usize,
    /// Training documents that were read.
    pub documents: u64,
    /// Their text in UTF-8.
    pub bytes: u64,
}

/// Learns a vocabulary of `size` tokens from the training documents of `config`, in the manner of the tokenizer `like`, and
/// writes `tokenizer.json` and `tokenizer_config.json` to the folder `out`.
///
/// # Errors
/// A [`Fault`] of class usage if there is a tokenizer in `out` already or it cannot be written to, or `like` is neither
/// WordPiece nor BPE, or letters and special tokens are more than `size`, or that is more than 2^24; of class input if
/// files are missing or there is no text.
pub fn learn(config: &Config, like: &Path, size: usize, out: &Path) -> anyhow::Result<Learned> {
    config.validate_without_tokenizer()?;
    check_target(size, out)?;
    let model = Model::load(like)?;
    let corpus = Corpus::find(config)?;
    let files = Files::create(out)?;
    let mut tokenizer = model.untrained()?;
    tracing::info!("{} {}", model.name, normalization::describe(&tokenizer)?);
    let words = Words(model.untrained()?);
    let texts = Texts { config, corpus: &corpus, words: &words };
    let count = |prefix: String| anyhow::Ok((prefix, texts.count_characters()?.alphabet(size)));
    let alphabet = model.prefix().map(count).transpose()?;
    let doubt = alphabet.as_ref().and_then(|(_, alphabet)| alphabet.doubt());
    let mut trainer = model.trainer(size, alphabet)?;
    let mut letters = Letters::default();
    let (outcome, read) = texts.read_by(|texts| {
        let texts = texts.inspect(|text| letters.count(text));
        tokenizer.train(&mut trainer, texts).map(drop)
    })?;
    outcome.map_err(|error| anyhow!(error))?;
    let TextsRead { documents, bytes, long_words } = read;
    if documents == 0 {
        return Err(Fault::input(format!("{}: no training documents", config.files.join(", ")))
            .remedy("check `files`, `format` and the lengths in the corpus config")
            .into());
    }
    if long_words > 0 {
        let words = counted(long_words, "word");
        tracing::warn!("{words} of more than {LONGEST_WORD} bytes left out, as encoded files are");
    }
    for doubt in doubt.into_iter().chain(letters.doubt(&tokenizer)?) {
        tracing::warn!("{doubt}");
    }
    model.write(&tokenizer, files, out)?;
    let vocab_size = TextEncoder::load(out)?.vocab_size();
    if vocab_size < size {
        tracing::warn!("{vocab_size} tokens, not {size}: the text has no more pairs that occur twice");
    }
    Ok(Learned { out: out.to_owned(), vocab_size, documents, bytes })
}

fn check_target(size: usize, out: &Path) -> anyhow::Result<()> {
    if size > MAX_SIZE {
        return Err(Fault::usage(format!("--size {size}"))
            .remedy(format!("choose some thousands, at most {MAX_SIZE}"))
            .into());
    }
    if OF_A_TOKENIZER.iter().any(|name| out.join(name).exists()) {
        return Err(Fault::usage(format!("{}: there is a tokenizer already", out.display()))
            .remedy("name another folder, or delete it")
            .into());
    }
    Ok(())
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { out, vocab_size, documents, bytes } = self;
        let megabytes = *bytes as f64 / 1e6;
        let documents = counted(*documents, "document");
        write!(f, "{}: {vocab_size} tokens from {documents}, {megabytes:.1} MB", out.display())
    }
}

/// The tokenizer that a new one is like.
struct Model {
    tokenizer: Value,
    /// With the roles of the special tokens.
    config: Value,
    /// In the order of their ids.
    special_tokens: Vec<AddedToken>,
    name: String,
}

impl Model {
    fn load(like: &Path) -> anyhow::Result<Self> {
        if !like.exists() {
            return Err(Fault::input(format!("{}: no such file", like.display()))
                .remedy(
                    "name a tokenizer.json or its folder with --like; it is relative to the working folder",
                )
                .into());
        }
        // Also checks that it is a tokenizer with a mask token.
        let encoder = TextEncoder::load(like)?;
        let files = TextEncoder::files(like)?;
        let mut tokenizer = read(&files[0])?;
        // Older files do not say it, and without tokens it cannot be told.
        let kind = kind(encoder.tokenizer());
        tokenizer["model"]["type"] = kind.into();
        let config = config(&encoder, &files)?;
        let special_tokens = special_tokens(&tokenizer, &encoder)?;
        let model = Self { tokenizer, config, special_tokens, name: files[0].display().to_string() };
        let known = match kind {
            "WordPiece" => model.prefix().is_some(),
            "BPE" => {
                let is_by_bytes = model.tokenizer["pre_tokenizer"].to_string().contains("\"ByteLevel\"");
                is_by_bytes && model.prefix().is_none() && model.text("end_of_word_suffix").is_none()
            }
            _ => false,
        };
        if known {
            return Ok(model);
        }
        Err(Fault::usage(format!("{}: a vocabulary of the kind {kind}", model.name))
            .remedy("name a WordPiece or a byte-level BPE tokenizer with --like")
            .into())
    }

    /// What pieces inside of words begin with.
    fn prefix(&self) -> Option<String> {
        self.text("continuing_subword_prefix")
    }

    /// Without tokens, and without what names the ids of tokens.
    fn untrained(&self) -> anyhow::Result<Tokenizer> {
        let mut blank = self.tokenizer.clone();
        blank["model"]["vocab"] = json!({});
        if blank["model"].get("merges").is_some() {
            blank["model"]["merges"] = json!([]);
        }
        for key in ["added_tokens", "truncation", "padding", "post_processor"] {
            blank[key] = if key == "added_tokens" { json!([]) } else { Value::Null };
        }
        Tokenizer::from_str(&blank.to_string()).map_err(|error| anyhow!("{}: {error}", self.name))
    }

    /// `alphabet` is given where pieces inside of words have a prefix.
    fn trainer(&self, size: usize, alphabet: Option<(String, Alphabet)>) -> anyhow::Result<TrainerWrapper> {
        let special = self.special_tokens.clone();
        let byte_level = self.tokenizer["pre_tokenizer"].to_string().contains("ByteLevel");
        let mut bytes = ByteLevel::alphabet();
        bytes.retain(|_| byte_level);
        let letters = alphabet.as_ref().map_or(bytes.len(), |(_, of)| of.kept.len() + of.inside.len());
        if size <= special.len() + letters {
            let found =
                format!("{size} tokens: {letters} letters and {} special tokens come first", special.len());
            return Err(Fault::usage(found).remedy("choose some thousands").into());
        }
        let Some((prefix, Alphabet { kept, inside, .. })) = alphabet else {
            let mut trainer = BpeTrainer::builder()
                .vocab_size(size)
                .min_frequency(MIN_FREQUENCY)
                .special_tokens(special)
                .show_progress(false)
                .build();
            trainer.initial_alphabet = bytes;
            return Ok(trainer.into());
        };
        // The trainer numbers pieces inside of words in the order of a hash, by which ties are then broken, unless it knows
        // them before. What it learns is the same.
        let known = inside.iter().map(|c| AddedToken::from(format!("{prefix}{c}"), true));
        let trainer = WordPieceTrainer::builder()
            .vocab_size(size)
            .min_frequency(MIN_FREQUENCY)
            .limit_alphabet(kept.len())
            .initial_alphabet(kept.into_iter().collect())
            .special_tokens(special.into_iter().chain(known).collect())
            .show_progress(false);
        Ok(trainer.continuing_subword_prefix(prefix).build().into())
    }

    /// A text in the description of the vocabulary that is not empty.
    fn text(&self, key: &str) -> Option<String> {
        self.tokenizer["model"][key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn write(&self, trained: &Tokenizer, files: Files, out: &Path) -> anyhow::Result<()> {
        let mut tokenizer: Value =
            serde_json::from_str(&trained.to_string(false).map_err(|error| anyhow!(error))?)?;
        tokenizer["post_processor"] = self.tokenizer["post_processor"].clone();
        renumber(&mut tokenizer["post_processor"], trained);
        let special = &self.special_tokens;
        if let Some(added) = tokenizer["added_tokens"].as_array_mut() {
            added.retain(|token| special.iter().any(|special| token["content"] == special.content));
        }
        // What cannot be read again is not written.
        Tokenizer::from_str(&tokenizer.to_string())
            .map_err(|error| anyhow!("the tokenizer that was learned cannot be read: {error}"))?;
        let text = |value: &Value| anyhow::Ok(serde_json::to_string_pretty(value)? + "\n");
        files.config.publish(text(&self.config)?.as_bytes())?;
        files.tokenizer.publish(text(&tokenizer)?.as_bytes()).inspect_err(|_| {
            // It would be taken for that of a tokenizer when the same command is run again.
            let _ = fs::remove_file(out.join("tokenizer_config.json"));
        })
    }
}

/// Those that are special by themselves, and those that have a role or stand around a text, in the order of their ids.
fn special_tokens(tokenizer: &Value, encoder: &TextEncoder) -> anyhow::Result<Vec<AddedToken>> {
    let mut added: Vec<Value> = tokenizer["added_tokens"].as_array().cloned().unwrap_or_default();
    added.retain(|token| token["special"] == true);
    for id in encoder.special().ids() {
        let name = encoder
            .tokenizer()
            .id_to_token(id)
            .filter(|name| added.iter().all(|token| token["content"] != **name));
        if let Some(name) = name {
            let mut token = serde_json::to_value(AddedToken::from(name, true))?;
            token["id"] = id.into();
            added.push(token);
        }
    }
    added.sort_by_key(|token| token["id"].as_u64());
    Ok(serde_json::from_value(Value::Array(added))?)
}

fn read(file: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// The `tokenizer_config.json` among `files`, with the roles of the special tokens: it may leave them to another file, or to
/// their usual names.
fn config(encoder: &TextEncoder, files: &[PathBuf]) -> anyhow::Result<Value> {
    let file = files.iter().find(|file| file.ends_with("tokenizer_config.json"));
    let mut config = file.map_or_else(|| Ok(json!({})), |file| read(file))?;
    let roles = encoder.special().tokenizer_config(encoder.tokenizer());
    if let (Some(config), Value::Object(roles)) = (config.as_object_mut(), roles) {
        config.remove("added_tokens_decoder");
        for (role, name) in roles {
            config.entry(role).or_insert(name);
        }
    }
    Ok(config)
}

/// The name of a vocabulary's kind in a `tokenizer.json`.
fn kind(tokenizer: &Tokenizer) -> &'static str {
    match tokenizer.get_model() {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    }
}

/// What is written, opened before the work.
struct Files {
    config: OutputFile,
    tokenizer: OutputFile,
}

impl Files {
    fn create(out: &Path) -> anyhow::Result<Self> {
        let file = |name| OutputFile::create(&out.join(name));
        Ok(Self { config: file("tokenizer_config.json")?, tokenizer: file("tokenizer.json")? })
    }
}

/// Puts the ids of `tokenizer` where a post-processor has those of another vocabulary.
fn renumber(processor: &mut Value, tokenizer: &Tokenizer) {
    let id = |token: &Value| json!(token.as_str().and_then(|token| tokenizer.token_to_id(token)));
    // Of a key that is not there an index would make one.
    let Some(processor) = processor.as_object_mut() else { return };
    for part in processor.get_mut("processors").and_then(Value::as_array_mut).into_iter().flatten() {
        renumber(part, tokenizer);
    }
    let templates = processor.get_mut("special_tokens").and_then(Value::as_object_mut);
    for template in templates.into_iter().flat_map(|map| map.values_mut()) {
        template["ids"] = template["tokens"].as_array().into_iter().flatten().map(id).collect();
    }
    for key in ["cls", "sep"] {
        let pair = processor.get_mut(key).and_then(Value::as_array_mut);
        if let Some([token, old]) = pair.map(Vec::as_mut_slice) {
            *old = id(token);
        }
    }
}
