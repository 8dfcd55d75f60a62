//! Text to tokens with word ids and byte spans.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use entromask_fault::Fault;
use entromask_tokenizer::{around, leave_dropout_out, put_around, whole_characters};
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::cache::Caches;
use crate::special::{SpecialTokens, companions};
use crate::traits::Traits;

/// Text is encoded in chunks of at least this size: small enough for the processor's caches, large enough for the
/// fixed cost of a call not to count.
const CHUNK_BYTES: usize = 4096;

/// Marks tokens of the text that are special ones; see [`Pieces::word`].
pub(crate) const NO_WORD: u32 = u32::MAX;

/// The tokens of a document, without those that the tokenizer puts around a text. All lists have the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Word that each token belongs to: ascending, but not contiguous; `u32::MAX` at special tokens.
    pub word: Vec<u32>,
    /// First byte of each token in the document.
    pub begin: Vec<u32>,
    /// Byte after each token in the document.
    pub end: Vec<u32>,
}

/// A tokenizer and what packing has to know about it.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    file: PathBuf,
    special: SpecialTokens,
    /// Special tokens before and behind a text.
    around: [Vec<u32>; 2],
    traits: Traits,
    once_overlooked: Option<&'static str>,
    without_dropout: bool,
    with_roles: bool,
    caches: Caches,
}

impl TextEncoder {
    /// Loads a `tokenizer.json`, or that of a folder.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is none, it cannot be read, or it has no mask token.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let file = tokenizer_file(path)?;
        let mut tokenizer = Tokenizer::from_file(&file).map_err(|error| {
            Fault::input(format!("{}: not a tokenizer: {error}", file.display()))
                .remedy("use a tokenizer.json as written by Hugging Face tokenizers")
        })?;
        tokenizer.with_truncation(None).map_err(|error| anyhow!(error))?.with_padding(None);
        let without_dropout = leave_dropout_out(&mut tokenizer);
        let special = SpecialTokens::find(&tokenizer, &file)?;
        let roles = [special.cls, special.sep];
        let with_roles = put_around(&mut tokenizer, roles).map_err(|error| anyhow!(error))?;
        let around = around(&tokenizer, roles).map_err(|error| anyhow!(error))?;
        let (traits, caches) = (Traits::default(), Caches::new());
        let mut encoder = Self {
            tokenizer,
            file,
            special,
            around,
            traits,
            once_overlooked: None,
            without_dropout,
            with_roles,
            caches,
        };
        (encoder.traits, encoder.once_overlooked) = crate::traits::probe(&encoder)?;
        Ok(encoder)
    }

    /// The files that decide what the tokenizer does.
    pub fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let file = tokenizer_file(path)?;
        let mut files = companions(&file);
        files.insert(0, file);
        Ok(files)
    }

    /// The tokenizer as it is used: without truncation and padding.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The special tokens by role.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Special tokens that stand before and behind a text.
    pub fn around(&self) -> &[Vec<u32>; 2] {
        &self.around
    }

    /// Number of ids, added tokens included: one more than the greatest.
    pub fn vocab_size(&self) -> usize {
        let greatest = self.tokenizer.get_vocab(true).into_values().max();
        greatest.map_or(0, |id| id as usize + 1)
    }

    /// `tokenizer.json` of what rows are encoded with and a `tokenizer_config.json` that names the special tokens.
    pub(crate) fn copies(&self) -> anyhow::Result<[(&'static str, String); 2]> {
        let tokenizer = self.tokenizer.to_string(false).map_err(|error| anyhow!(error))?;
        let config: Value = self.special.tokenizer_config(&self.tokenizer);
        Ok([
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", serde_json::to_string_pretty(&config)? + "\n"),
        ])
    }

    pub(crate) fn traits(&self) -> Traits {
        self.traits
    }

    /// Whether the tokenizer's file asks for dropout, which is left out.
    pub(crate) fn is_without_dropout(&self) -> bool {
        self.without_dropout
    }

    /// Whether the tokenizer puts nothing around a text, so that the tokens of two roles are put there.
    pub(crate) fn is_with_roles(&self) -> bool {
        self.with_roles
    }

    /// Rules of the tokenizer that an earlier version overlooked, which then may have made other tokens.
    pub(crate) fn once_overlooked(&self) -> Option<&'static str> {
        self.once_overlooked
    }

    /// Encodes documents on all cores; the result is that of encoding each at once.
    pub fn encode_all(&self, texts: &[&str]) -> anyhow::Result<Vec<Pieces>> {
        let least = if self.traits.chunks { CHUNK_BYTES } else { usize::MAX };
        let chunks: Vec<(usize, Range<usize>)> = texts
            .iter()
            .enumerate()
            .flat_map(|(index, text)| chunks(text, least).map(move |range| (index, range)))
            .collect();
        let encoded: Vec<Pieces> = chunks
            .par_iter()
            .map(|(index, range)| self.encode_words(&texts[*index][range.clone()]))
            .collect::<anyhow::Result<_>>()?;
        let mut documents = vec![(Pieces::default(), 0); texts.len()];
        for ((index, range), chunk) in chunks.into_iter().zip(encoded) {
            let (document, next_word) = &mut documents[index];
            document.extend(&chunk, 0..chunk.len(), range.start, next_word);
        }
        Ok(documents.into_iter().map(|(pieces, _)| pieces).collect())
    }

    /// Encodes a chunk word by word, if the tokenizer allows that.
    fn encode_words(&self, text: &str) -> anyhow::Result<Pieces> {
        if !self.traits.chunks {
            return self.encode_once(text);
        }
        let (mut pieces, mut next_word) = (Pieces::default(), 0);
        let mut cache = self.caches.lock();
        for range in chunks(text, 1) {
            let start = range.start;
            cache.add(&text[range], start, &mut pieces, &mut next_word, |word| self.encode_once(word))?;
        }
        Ok(pieces)
    }

    /// Encodes one text at once.
    pub(crate) fn encode_once(&self, text: &str) -> anyhow::Result<Pieces> {
        let encoding = self.tokenizer.encode(text, false).map_err(|error| self.failed(text, &*error))?;
        let spans = || encoding.get_offsets().iter().map(|&(begin, end)| whole_characters(text, begin, end));
        let mut pieces = Pieces {
            ids: encoding.get_ids().to_vec(),
            word: encoding.get_word_ids().iter().map(|word| word.unwrap_or(NO_WORD)).collect(),
            begin: spans().map(|(begin, _)| begin as u32).collect(),
            end: spans().map(|(_, end)| end as u32).collect(),
        };
        if self.traits.words_by_space {
            pieces.number_words_by_space(text);
        }
        for (word, &id) in pieces.word.iter_mut().zip(&pieces.ids) {
            if self.special.is_control(id) {
                *word = NO_WORD;
            }
        }
        Ok(pieces)
    }

    fn failed(&self, text: &str, error: &dyn std::error::Error) -> anyhow::Error {
        let start: String = text.chars().take(60).collect();
        Fault::input(format!("{}: cannot encode {start:?}…: {error}", self.file.display()))
            .remedy("the tokenizer lacks an unknown token; use another one")
            .into()
    }
}

impl Pieces {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Starts a word at every token that begins with whitespace or has whitespace before it.
    fn number_words_by_space(&mut self, text: &str) {
        let mut word = 0;
        for place in 0..self.len() {
            word += u32::from(place > 0 && self.space_before(place, text));
            self.word[place] = word;
        }
    }

    /// True if whitespace lies between token `place` and the one before, or the token starts with it.
    pub(crate) fn space_before(&self, place: usize, text: &str) -> bool {
        let (end, begin) = (self.end[place - 1] as usize, self.begin[place] as usize);
        // The pieces of one character share its span.
        begin >= end
            && (text[end..].starts_with(char::is_whitespace)
                || text[end..begin].contains(char::is_whitespace))
    }

    /// Adds the tokens `range` of `next`, a text that starts at byte `start` and whose words are numbered from
    /// `next_word` on, which then is the number behind them.
    pub(crate) fn extend(&mut self, next: &Self, range: Range<usize>, start: usize, next_word: &mut u32) {
        let (first, start) = (*next_word, start as u32);
        self.ids.extend_from_slice(&next.ids[range.clone()]);
        self.begin.extend(next.begin[range.clone()].iter().map(|begin| begin + start));
        self.end.extend(next.end[range.clone()].iter().map(|end| end + start));
        for &word in &next.word[range] {
            self.word.push(if word == NO_WORD { NO_WORD } else { word + first });
            if word != NO_WORD {
                *next_word = first + word + 1;
            }
        }
    }
}

/// Splits `text` into ranges of at least `least` bytes that can be encoded on their own.
pub(crate) fn chunks(text: &str, least: usize) -> impl Iterator<Item = Range<usize>> + use<'_> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let range = start..chunk_end(text, start, least);
        start = range.end;
        (!range.is_empty()).then_some(range)
    })
}

/// Where the chunk that starts at `start` ends: before a space or line feed that stands alone between two words, so
/// that no tokenizer's pattern or normalisation reaches across. Other characters beside it might vanish or become
/// spaces when they are normalised, or belong to a special token.
fn chunk_end(text: &str, start: usize, least: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = start.saturating_add(least);
    while at.saturating_add(1) < bytes.len() {
        if matches!(bytes[at], b' ' | b'\n') && ends_word(&text[..at]) && starts_word(&text[at + 1..]) {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

fn ends_word(text: &str) -> bool {
    let last = text.chars().next_back();
    last.is_some_and(|c| c.is_alphanumeric() || ".,;:!?\"')”’。，、；：！？」』）》".contains(c))
}

fn starts_word(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphanumeric() || "\"'(“‘「『（《".contains(c))
}

fn tokenizer_file(path: &Path) -> anyhow::Result<PathBuf> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
    if file.is_file() {
        return Ok(file);
    }
    Err(Fault::input(format!("{}: no such file", file.display()))
        .remedy(
            "check `tokenizer` in the corpus config: a tokenizer.json or a folder with one, relative to the working folder; \
             data/tokenizers has some, and `hf download NAME --local-dir FOLDER` gets others",
        )
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_must_not_be_cut_is_one_chunk() {
        let of = |text, least| chunks(text, least).map(|range| (range.start, range.end)).collect::<Vec<_>>();
        assert_eq!(of("some text", usize::MAX), [(0, 9)]);
        assert_eq!(of("some text", 1), [(0, 4), (4, 9)]);
        assert!(of("", usize::MAX).is_empty());
    }
}
