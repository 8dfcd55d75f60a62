//! The files that a tokenizer is read from: `tokenizer.json`, or the vocabulary files of older checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_fault::Fault;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What a folder has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `tokenizer.json`.
    Complete(PathBuf),
    /// `vocab.txt`: the word pieces of BERT, a token a line.
    WordPiece(PathBuf),
    /// `vocab.json` and `merges.txt`: the byte-level BPE of `RoBERTa`.
    ByteLevel(PathBuf, PathBuf),
}

impl Source {
    /// The tokenizer of the folder `dir`, if it has one that is read.
    pub fn find(dir: &Path) -> Option<Self> {
        let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        file("tokenizer.json")
            .map(Self::Complete)
            .or_else(|| file("vocab.txt").map(Self::WordPiece))
            .or_else(|| Some(Self::ByteLevel(file("vocab.json")?, file("merges.txt")?)))
    }

    /// Its files, the one that has the vocabulary first.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Complete(file) | Self::WordPiece(file) => vec![file.clone()],
            Self::ByteLevel(vocab, merges) => vec![vocab.clone(), merges.clone()],
        }
    }

    /// The vocabulary as `tokenizer.json` has it; added tokens are not part of it.
    ///
    /// # Errors
    /// An input fault if the file cannot be read.
    pub fn vocabulary(&self) -> Result<Value> {
        match self {
            Self::Complete(file) => {
                let mut whole: Value = read_json(file)?;
                Ok(whole.pointer_mut("/model/vocab").map(Value::take).unwrap_or_default())
            }
            Self::WordPiece(file) => {
                let text = fs_err::read_to_string(file).map_err(|error| {
                    Fault::input(error.to_string()).remedy("fetch it again: a vocabulary is UTF-8 text")
                })?;
                // An empty line at the end is no token.
                let tokens = text
                    .trim_end_matches(['\r', '\n'])
                    .lines()
                    .zip(0u32..)
                    .map(|(token, id)| (token.to_owned(), json!(id)));
                Ok(Value::Object(tokens.collect()))
            }
            Self::ByteLevel(vocab, _) => read_json(vocab),
        }
    }

    /// Ids of all tokens, added ones included.
    ///
    /// # Errors
    /// An input fault if a file cannot be read.
    pub fn ids(&self) -> Result<BTreeMap<String, u64>> {
        let vocabulary = self.vocabulary()?;
        // That of a Unigram model is a list of tokens with their probabilities.
        let listed = vocabulary.as_array().into_iter().flatten().zip(0..);
        let listed = listed.filter_map(|(token, id)| Some((token[0].as_str()?.to_owned(), id)));
        let named = vocabulary.as_object().into_iter().flatten();
        let named = named.filter_map(|(token, id)| Some((token.clone(), id.as_u64()?)));
        Ok(listed.chain(named).chain(self.added()?).collect())
    }

    fn added(&self) -> Result<Vec<(String, u64)>> {
        let Self::Complete(file) = self else { return Ok(Vec::new()) };
        let file: Value = read_json(file)?;
        let added = file["added_tokens"].as_array().into_iter().flatten();
        let pair = |token: &Value| Some((token["content"].as_str()?.to_owned(), token["id"].as_u64()?));
        Ok(added.filter_map(pair).collect())
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` in `dir` say, the first one first.
///
/// # Errors
/// An input fault if one is damaged.
pub fn configured(dir: &Path) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for path in companions(dir) {
        let found: Map<String, Value> = read_json(&path)?;
        found.into_iter().for_each(|(key, value)| {
            all.entry(key).or_insert(value);
        });
    }
    Ok(all)
}

/// A token's name: itself, or the `content` of its description.
pub fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Reads a JSON file.
///
/// # Errors
/// An input fault if it cannot be read.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs_err::read(path)
        .map_err(|error| Fault::input(error.to_string()).remedy("fetch or write it again"))?;
    // Some editors put a byte-order mark in front.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::input(format!("{}: not what it should be ({error})", path.display()))
            .remedy("fetch or write it again")
            .into()
    })
}

/// Files beside the tokenizer that name special tokens, as far as they are there.
pub(super) fn companions(dir: &Path) -> Vec<PathBuf> {
    let names = ["tokenizer_config.json", "special_tokens_map.json"];
    names.iter().map(|name| dir.join(name)).filter(|path| path.is_file()).collect()
}

/// Files of tokenizers in formats that are not read, or half of one, and what has a tokenizer's name and is no file.
const UNREAD: [&str; 7] = [
    "tokenizer.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// Fails when the folder, in which no tokenizer was found, has one that is not read: its ids are not the corpus's.
pub(super) fn refuse_unread(dir: &Path) -> Result<()> {
    let Some(file) = UNREAD.iter().map(|name| dir.join(name)).find(|path| path.exists()) else {
        return Ok(());
    };
    Err(Fault::input(format!("{}: no tokenizer that is read", file.display())).remedy(complete(dir)).into())
}

/// The remedy where a tokenizer's files are in a format that is not read.
pub fn complete(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "write tokenizer.json beside it with transformers: \
         AutoTokenizer.from_pretrained('{dir}', use_fast=True).save_pretrained('{dir}')"
    )
}
