//! What the integration tests share.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, Manifest};
use entromask_tables::{TokenColumns, Tokens};
use entromask_tokenize::{Config, Options, Report, TextEncoder, run};
use serde_json::Value;

/// The three families of tokenizers, small except for the first.
pub const FAMILIES: [&str; 3] = ["wordpiece", "byte_bpe", "unigram"];

/// A path below the workspace's folder.
pub fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub fn tokenizer(family: &str) -> PathBuf {
    if family == "wordpiece" {
        return workspace("data/tokenizers/bert-base-uncased");
    }
    workspace("tests/fixtures/tokenizers").join(family)
}

pub fn encoder(family: &str) -> TextEncoder {
    TextEncoder::load(&tokenizer(family)).unwrap()
}

/// The tokenizer of a family after `change` of its `tokenizer.json`.
pub fn changed(family: &str, change: impl FnOnce(&mut Value)) -> TextEncoder {
    let folder = tempfile::tempdir().unwrap();
    write_changed(family, folder.path(), change);
    TextEncoder::load(folder.path()).unwrap()
}

/// Writes the `tokenizer.json` of a family to `folder` after a `change`.
pub fn write_changed(family: &str, folder: &Path, change: impl FnOnce(&mut Value)) {
    let file = tokenizer(family).join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
}

/// A configuration for short tests: small rows, no held-out split.
pub fn config(files: &[PathBuf]) -> Config {
    Config {
        files: files.iter().map(|file| file.display().to_string()).collect(),
        tokenizer: tokenizer("byte_bpe"),
        seq_len: 32,
        valid_fraction: 0.0,
        ..Config::default()
    }
}

pub fn tokenize(config: &Config, out: &Path) -> anyhow::Result<Report> {
    run(config, &Options { out: out.into(), min_free_bytes: 0 })
}

/// All rows of a split, part after part.
pub fn rows(out: &Path, prefix: &str) -> Vec<Tokens> {
    let manifest = Manifest::load(out, Kind::Tokens).unwrap();
    manifest.verify(out).unwrap();
    manifest
        .parts(prefix)
        .map(|part| Tokens::read(&out.join(&part.file), TokenColumns::ALL).unwrap())
        .collect()
}

/// Names of the files in a folder, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
