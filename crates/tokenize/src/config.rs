//! The corpus configuration.

use std::path::PathBuf;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::MAX_DOCUMENT_BYTES;

/// Most tokens of a part whose rows the user does not choose; about 0.5 GB of memory.
const SHARD_TOKENS: usize = 1 << 23;

/// Longest documents that can be told from longer ones: one of more than 2 MiB is read in pieces of at least 1 MiB, and a
/// character has up to four bytes.
const MOST_CHARS: usize = MAX_DOCUMENT_BYTES / 4;

/// Most rows of such a part: a row of few tokens takes memory too.
const MAX_SHARD_ROWS: usize = 1 << 16;

/// How the corpus files are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A paragraph a line, a blank line between documents.
    #[default]
    Text,
    /// A JSON object a line; one of its strings is the document.
    Jsonl,
    /// A Parquet table; one of its columns has a document a row.
    Parquet,
}

/// What a document of a text file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Documents {
    /// The lines up to a blank one.
    #[default]
    BlankLine,
    /// The whole file, with its blank lines.
    File,
}

/// What to do with bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidUtf8 {
    /// Replace each invalid sequence by U+FFFD and count it.
    #[default]
    Replace,
    /// Fail, naming file and line.
    Fail,
}

/// Which texts make up a corpus and how they become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files or globs, relative to the working folder, in this order; the files of a glob in the order of their names. A
    /// wildcard stands for no hidden name, and a file that several of them name is read once.
    pub files: Vec<String>,
    /// Layout of the files; absent: text, and files of JSON lines are refused. Compression (none, gzip, zstd) is recognised
    /// by content.
    pub format: Option<Format>,
    /// What a document of text is. Not written while it is the default.
    #[serde(skip_serializing_if = "is_default")]
    pub documents: Documents,
    /// Name of the string in each object of JSON lines.
    pub field: String,
    /// Name of the column of Parquet tables.
    pub column: String,
    /// A `tokenizer.json`, or a folder with one.
    pub tokenizer: PathBuf,
    /// Most tokens in a row, special tokens included.
    pub seq_len: usize,
    /// Most documents that a row may hold text of; 1 never crosses documents, 0 is no limit.
    pub max_documents_per_row: usize,
    /// Rows with fewer tokens (special ones not counted) are dropped; 1 keeps all.
    pub min_row_tokens: usize,
    /// Documents with fewer characters are skipped.
    pub min_chars: usize,
    /// Documents with more characters are skipped; at most 524,288; absent: no limit.
    pub max_chars: Option<usize>,
    /// Skip documents whose text has been read before, except for those of more than 2 MiB, which are read in pieces and
    /// never compared. Takes about 40 bytes of memory a document.
    pub deduplicate: bool,
    /// What to do with bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Share of the documents that is held out, chosen by a hash of the text.
    pub valid_fraction: f64,
    /// Share of the other documents that is trained on, chosen by a hash of the text, so that a smaller share is part of a
    /// larger one, and what is held out is the same for all. Not written while it is 1.
    #[serde(skip_serializing_if = "is_whole")]
    pub train_fraction: f64,
    /// Rows of a part; absent: 65,536, or fewer where rows are longer than 128 tokens, see [`Config::shard_rows`].
    pub shard_rows: Option<usize>,
    /// What changes speed and memory only.
    pub run: Run,
}

/// Settings that do not change the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Text that is encoded at a time, in bytes.
    pub batch_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            format: None,
            documents: Documents::BlankLine,
            field: "text".into(),
            column: "text".into(),
            tokenizer: PathBuf::new(),
            seq_len: 128,
            max_documents_per_row: 1,
            min_row_tokens: 1,
            min_chars: 0,
            max_chars: None,
            deduplicate: false,
            invalid_utf8: InvalidUtf8::Replace,
            valid_fraction: 0.05,
            train_fraction: 1.0,
            shard_rows: None,
            run: Run::default(),
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { batch_bytes: 4 << 20 }
    }
}

impl Config {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key and its value.
    pub fn validate(&self) -> anyhow::Result<()> {
        self.validate_without_tokenizer()?;
        if self.tokenizer.as_os_str().is_empty() {
            return Err(Fault::usage("tokenizer = \"\"")
                .remedy("name a tokenizer.json or its folder")
                .into());
        }
        Ok(())
    }

    /// As [`Config::validate`], for what needs no tokenizer.
    pub(crate) fn validate_without_tokenizer(&self) -> anyhow::Result<()> {
        let check = |fine: bool, found: String, remedy: &str| {
            if fine { Ok(()) } else { Err(Fault::usage(found).remedy(remedy)) }
        };
        check(!self.files.is_empty(), "files = []".into(), "name at least one file or glob")?;
        let is_known = self.format() == Format::Text || self.documents == Documents::BlankLine;
        check(is_known, "documents = \"file\"".into(), "leave it out: it is for `format = \"text\"`")?;
        let length = format!("seq_len = {}", self.seq_len);
        check((8..=32_768).contains(&self.seq_len), length, "choose 8 to 32768 tokens")?;
        let share = format!("valid_fraction = {}", self.valid_fraction);
        check(
            (0.0..1.0).contains(&self.valid_fraction),
            share,
            "choose a share from 0 up to, not including, 1",
        )?;
        let share = format!("train_fraction = {}", self.train_fraction);
        let some = self.train_fraction > 0.0 && self.train_fraction <= 1.0;
        check(some, share, "choose a share above 0, at most 1")?;
        let rows = self.shard_rows();
        let fits = rows > 0 && rows.saturating_mul(self.seq_len) < 1 << 31;
        check(fits, format!("shard_rows = {rows}"), "choose 1 to 2^31 / seq_len rows, or leave it out")?;
        let shortest = format!("min_row_tokens = {}", self.min_row_tokens);
        check(self.min_row_tokens <= self.seq_len, shortest, "choose at most seq_len: no row is longer")?;
        self.check_chars()?;
        check(self.run.batch_bytes > 0, "run.batch_bytes = 0".into(), "choose some megabytes")?;
        Ok(())
    }

    fn check_chars(&self) -> Result<(), Fault> {
        let (least, most) = (self.min_chars, self.max_chars.unwrap_or(MOST_CHARS));
        let (min, max) = (format!("min_chars = {least}"), format!("max_chars = {most}"));
        if most > MOST_CHARS {
            return Err(Fault::usage(max).remedy(format!("choose at most {MOST_CHARS}, or leave it out")));
        }
        if least > MOST_CHARS / 2 {
            return Err(Fault::usage(min).remedy(format!("choose at most {}", MOST_CHARS / 2)));
        }
        if least > most {
            return Err(Fault::usage(format!("{min}, {max}")).remedy("no text is both"));
        }
        Ok(())
    }

    /// Layout of the files.
    pub fn format(&self) -> Format {
        self.format.unwrap_or_default()
    }

    /// Rows of a part. Memory goes with its tokens, so that without a choice of the user's there are at most 2^23 of
    /// them: 65,536 rows of 128 tokens, 16,384 of 512.
    pub fn shard_rows(&self) -> usize {
        self.shard_rows.unwrap_or_else(|| (SHARD_TOKENS / self.seq_len.max(1)).min(MAX_SHARD_ROWS))
    }

    /// The part of the configuration that decides the content; files and tokenizer count by content instead.
    pub fn semantic(&self) -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(self)?;
        let map = value.as_object_mut().expect("a struct serialises to an object");
        for key in ["files", "tokenizer", "run"] {
            map.remove(key);
        }
        // Keys that this format does not read decide nothing.
        let usual = serde_json::to_value(Self::default())?;
        let unread = match self.format() {
            Format::Text => &["field", "column"][..],
            Format::Jsonl => &["column"],
            Format::Parquet => &["field"],
        };
        for &key in unread {
            map.insert(key.into(), usual[key].clone());
        }
        map.insert("format".into(), serde_json::to_value(self.format())?);
        map.insert("shard_rows".into(), self.shard_rows().into());
        Ok(value)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_whole(share: &f64) -> bool {
    *share >= 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_default(documents: &Documents) -> bool {
    *documents == Documents::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        Config { files: vec!["a".into()], tokenizer: "t".into(), ..Config::default() }
    }

    #[test]
    fn values_that_cannot_be_meant_are_usage_errors_with_the_value() {
        assert!(valid().validate().is_ok());
        let files = Config { documents: Documents::File, ..valid() };
        assert!(files.validate().is_ok());
        let cases = [
            (Config { format: Some(Format::Jsonl), ..files }, "documents = \"file\"; leave it out"),
            (Config { files: vec![], ..valid() }, "files = []"),
            (Config { tokenizer: PathBuf::new(), ..valid() }, "tokenizer = \"\""),
            (Config { seq_len: 7, ..valid() }, "seq_len = 7"),
            (Config { valid_fraction: 1.0, ..valid() }, "valid_fraction = 1"),
            (Config { valid_fraction: f64::NAN, ..valid() }, "valid_fraction = NaN"),
            (Config { train_fraction: 0.0, ..valid() }, "train_fraction = 0"),
            (Config { train_fraction: 1.1, ..valid() }, "train_fraction = 1.1"),
            (Config { shard_rows: Some(0), ..valid() }, "shard_rows = 0"),
            (Config { shard_rows: Some(1 << 30), ..valid() }, "shard_rows = 1073741824"),
            (Config { min_chars: 5, max_chars: Some(4), ..valid() }, "min_chars = 5, max_chars = 4"),
            (Config { max_chars: Some(600_000), ..valid() }, "max_chars = 600000; choose at most 524288"),
            (Config { min_chars: 300_000, ..valid() }, "min_chars = 300000; choose at most 262144"),
            (Config { min_row_tokens: 129, ..valid() }, "min_row_tokens = 129"),
            (Config { run: Run { batch_bytes: 0 }, ..valid() }, "run.batch_bytes = 0"),
        ];
        for (config, named) in cases {
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
        }
    }

    #[test]
    fn long_rows_make_parts_of_as_many_tokens() -> anyhow::Result<()> {
        let rows = |seq_len| Config { seq_len, ..valid() }.shard_rows();
        assert_eq!([8, 64, 128, 512, 32_768].map(rows), [65_536, 65_536, 65_536, 16_384, 256]);
        let chosen = Config { seq_len: 512, shard_rows: Some(7), ..valid() };
        assert_eq!(chosen.shard_rows(), 7);
        // The key knows the number, chosen or not.
        let same = Config { shard_rows: Some(65_536), ..valid() };
        assert_eq!(same.semantic()?, valid().semantic()?);
        assert_eq!(valid().semantic()?["shard_rows"], 65_536);
        Ok(())
    }

    #[test]
    fn places_and_speed_stay_out_of_the_key() -> anyhow::Result<()> {
        let moved = Config { files: vec!["b".into()], tokenizer: "u".into(), ..valid() };
        let faster = Config { run: Run { batch_bytes: 1 }, ..valid() };
        assert_eq!(moved.semantic()?, valid().semantic()?);
        assert_eq!(faster.semantic()?, valid().semantic()?);
        let text = Config { format: Some(Format::Text), ..valid() };
        assert_eq!(text.semantic()?, valid().semantic()?, "said or not");
        assert_eq!(text.semantic()?["format"], "text");
        assert_ne!(Config { seq_len: 64, ..valid() }.semantic()?, valid().semantic()?);
        assert!(valid().semantic()?.get("train_fraction").is_none(), "corpora without it keep their keys");
        assert!(valid().semantic()?.get("documents").is_none());
        assert_eq!(Config { train_fraction: 0.5, ..valid() }.semantic()?["train_fraction"], 0.5);
        Ok(())
    }
}
