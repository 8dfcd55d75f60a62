//! What a run found and made.

use std::fmt;
use std::path::PathBuf;

use entromask_artifact::Manifest;
use serde::{Deserialize, Serialize};

use crate::SpecialTokens;
use crate::filter::Skipped;

/// What is shown of a row.
const SAMPLE_CHARS: usize = 300;

/// What hashing and publishing take in addition is less, or does not matter.
const INTERRUPTED_SECONDS: f64 = 1.0;

/// Rows and tokens of one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCounts {
    /// Rows.
    pub rows: u64,
    /// Tokens, special ones included.
    pub tokens: u64,
    /// Tokens that may be masked.
    pub maskable: u64,
    /// Tokens of the text that the vocabulary cannot express.
    pub unknown: u64,
    /// Letters and digits of the text, where the vocabulary has no unknown token; else they are not counted.
    pub letters: u64,
    /// Of these such as no token stands for.
    pub lost_letters: u64,
    /// Documents with a token.
    pub docs: u64,
    /// Documents without one.
    pub empty: u64,
}

/// The manifest's `stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows of the training split.
    pub rows: u64,
    /// Its tokens, special ones included.
    pub tokens: u64,
    /// Its tokens that may be masked.
    pub maskable: u64,
    /// Of these the unknown tokens, which say nothing of their text. Manifests of earlier versions do not count them.
    #[serde(default)]
    pub unknown: u64,
    /// Its documents.
    pub docs: u64,
    /// Rows of the held-out split.
    pub valid_rows: u64,
    /// Its tokens, special ones included.
    pub valid_tokens: u64,
    /// Its tokens that may be masked.
    pub valid_maskable: u64,
    /// Of these the unknown tokens.
    #[serde(default)]
    pub valid_unknown: u64,
    /// Its documents.
    pub valid_docs: u64,
    /// One more than the greatest token id.
    pub vocab_size: usize,
    /// Special tokens by role.
    pub special: SpecialTokens,
    /// Letters and digits in the rows of both splits that no token stands for, in percent of all; counted where the vocabulary has no unknown
    /// token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_letters_percent: Option<f64>,
    /// Invalid UTF-8 sequences that were replaced.
    pub replaced_invalid_utf8: u64,
    /// Documents read.
    pub documents_read: u64,
    /// Documents of more than 2 MiB, packed in pieces.
    pub long_documents: u64,
    /// Documents that were not taken, by reason.
    pub skipped: Skipped,
    /// Rows that were dropped for being shorter than `min_row_tokens`.
    pub dropped_rows: u64,
    /// Their tokens.
    pub dropped_tokens: u64,
}

/// The outcome of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The artifact's folder.
    pub out: PathBuf,
    /// The artifact's key.
    pub key: String,
    /// True if there was nothing to do.
    pub up_to_date: bool,
    /// What the artifact holds.
    pub stats: Counts,
    /// Wall-clock seconds that making it took.
    pub seconds: f64,
    /// Tokens in parts that an earlier run had finished, behind which this one went on.
    pub resumed_tokens: u64,
    /// Other tokens of both splits a second, in this run; absent if there was nothing to do.
    pub tokens_per_second: Option<f64>,
    /// Wall-clock seconds of this run; absent if there was nothing to do.
    pub seconds_now: Option<f64>,
    /// A training row drawn at random: its number and its tokens as text; absent if there was nothing to do.
    pub sample: Option<(u64, String)>,
}

impl Report {
    pub(crate) fn new(out: PathBuf, manifest: &Manifest) -> anyhow::Result<Self> {
        Ok(Self {
            out,
            key: manifest.key.clone(),
            up_to_date: true,
            stats: serde_json::from_value(manifest.stats.clone())?,
            seconds: manifest.cost.seconds,
            resumed_tokens: 0,
            tokens_per_second: None,
            seconds_now: None,
            sample: None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        let outcome = if self.up_to_date { "up to date" } else { "tokenized" };
        writeln!(f, "{}: {outcome}", self.out.display())?;
        writeln!(f, "  train  {}", split(stats.rows, stats.tokens, stats.docs))?;
        write!(f, "  valid  {}", split(stats.valid_rows, stats.valid_tokens, stats.valid_docs))?;
        stats.oddities().try_for_each(|oddity| write!(f, "\n  {oddity}"))?;
        if let (Some(speed), Some(seconds)) = (self.tokens_per_second, self.seconds_now) {
            write!(f, "\n  {seconds:.1} s, {:.0} k tokens/s", speed / 1e3)?;
            // Publishing is not part of the speed.
            if self.seconds > seconds + INTERRUPTED_SECONDS {
                write!(f, "; {:.1} s with runs that were interrupted", self.seconds)?;
            }
        }
        if let Some((row, text)) = &self.sample {
            let more = if text.chars().nth(SAMPLE_CHARS).is_some() { " …" } else { "" };
            write!(f, "\n  row {row}: {}{more}", text.chars().take(SAMPLE_CHARS).collect::<String>())?;
        }
        Ok(())
    }
}

fn split(rows: u64, tokens: u64, docs: u64) -> String {
    let [row, token, doc] =
        [(rows, "row"), (tokens, "token"), (docs, "doc")].map(|(n, noun)| plural(n, noun));
    format!("{rows:>9} {row:<4} {tokens:>12} {token:<6} {docs:>8} {doc}")
}

/// A number of things, in words.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

fn plural(count: u64, noun: &str) -> String {
    noun.to_owned() + if count == 1 { "" } else { "s" }
}

impl Counts {
    /// What was left out or changed, in words, as far as there is any.
    pub(crate) fn oddities(&self) -> impl Iterator<Item = String> {
        let counts = [
            (self.skipped.too_short, "document", "too short"),
            (self.skipped.too_long, "document", "too long"),
            (self.skipped.duplicate, "document", "skipped as duplicates"),
            (self.skipped.left_out, "document", "left out by train_fraction"),
            (self.skipped.empty, "document", "without a token"),
            (self.long_documents, "document", "packed in pieces"),
            (self.dropped_rows, "row", "too short"),
            (self.unknown + self.valid_unknown, "token", "unknown to the tokenizer"),
            (self.replaced_invalid_utf8, "invalid UTF-8 sequence", "replaced"),
        ];
        let found = counts.into_iter().filter(|(count, ..)| *count > 0);
        found.map(|(count, noun, what)| format!("{} {what}", counted(count, noun)))
    }
}
