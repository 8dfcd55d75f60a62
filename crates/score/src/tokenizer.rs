//! The tokenizer of a teacher that reads the text in other tokens than the corpus has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_encoder::tokenizer::{ENDS, Source, USUAL_NAMES, configured, content};
use entromask_fault::Fault;
use entromask_tokenizer::{around, leave_dropout_out, whole_characters};
use tokenizers::{Encoding, Tokenizer};

use crate::vocabulary;

/// A tokenizer with what scoring has to know about it.
#[derive(Debug)]
pub(crate) struct TeacherTokenizer {
    tokenizer: Tokenizer,
    pub(crate) file: PathBuf,
    /// Id of the mask token.
    pub(crate) mask_id: u32,
    /// Special tokens before and behind a text.
    pub(crate) around: [Vec<u32>; 2],
    /// Tokens that structure a row and are never scored.
    controls: BTreeSet<u32>,
    pub(crate) once: Once,
    /// It does not split text into words itself.
    words_by_space: bool,
}

/// What the versions before treated in another way, so that values by such a tokenizer have another key now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Once {
    /// Some special tokens are of other roles than the usual ones, and a text might spell them out.
    pub(crate) special: bool,
    /// Words were split by chance.
    pub(crate) dropout: bool,
    /// What stands around a text was found by a letter that the vocabulary lacks.
    pub(crate) around: bool,
}

/// One token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    /// Number of its word; `None` at a special token that the text spells out.
    pub(crate) word: Option<u16>,
    /// Bytes `begin .. end` of the text.
    pub(crate) begin: u32,
    pub(crate) end: u32,
}

impl TeacherTokenizer {
    /// Loads the tokenizer of the folder `dir`.
    ///
    /// # Errors
    /// An input fault if it cannot be read or has no mask token.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let source = Source::find(dir).ok_or_else(|| vocabulary::missing(dir))?;
        let file = source.files().swap_remove(0);
        let configured = configured(dir)?;
        let mut tokenizer = vocabulary::build(&source, &configured)?;
        let unusable =
            |error| Fault::input(format!("{}: {error}", file.display())).remedy("fetch the tokenizer again");
        tokenizer.with_truncation(None).map_err(unusable)?.with_padding(None);
        let without_dropout = leave_dropout_out(&mut tokenizer);
        let id = |(role, usual): (&str, [&str; 2])| match configured.get(role).and_then(content) {
            Some(name) => tokenizer.token_to_id(name),
            None => usual.into_iter().find_map(|name| tokenizer.token_to_id(name)),
        };
        let [pad, unk, cls, sep, mask] = USUAL_NAMES.map(id);
        let mask_id = mask.ok_or_else(|| no_mask(&file))?;
        let around = around(&tokenizer, [cls, sep]).map_err(unusable)?;
        let knows_no_letter = encode(&tokenizer, &file, "a", false)?.is_empty();
        let usual: BTreeSet<u32> = [pad, cls, sep, mask].into_iter().flatten().collect();
        let ends = ENDS.map(|role| configured.get(role).and_then(content));
        let mut controls = marked(&tokenizer, ends);
        controls.extend(usual.iter().chain(around.iter().flatten()));
        controls.retain(|&id| Some(id) != unk);
        let has_others = controls.len() > usual.len();
        let words_by_space = !splits(&tokenizer, &file)?;
        let once = Once { special: has_others, dropout: without_dropout, around: knows_no_letter };
        Ok(Self { tokenizer, file, mask_id, around, controls, once, words_by_space })
    }

    /// The tokens of `text`, without those around it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<Piece>> {
        let encoding = encode(&self.tokenizer, &self.file, text, false)?;
        let spans = encoding.get_offsets().iter().map(|&(begin, end)| whole_characters(text, begin, end));
        let spans: Vec<(usize, usize)> = spans.collect();
        let words = encoding.get_word_ids();
        let starts = |place: usize| {
            if self.words_by_space {
                space_before(text, spans[place - 1], spans[place])
            } else {
                is_next(words, place)
            }
        };
        let numbers = numbered(spans.len(), starts);
        let tokens = encoding.get_ids().iter().zip(numbers).zip(&spans);
        let piece = |((&id, word), &(begin, end)): ((&u32, u16), &(usize, usize))| {
            let word = (!self.controls.contains(&id)).then_some(word);
            Piece { id, word, begin: begin as u32, end: end as u32 }
        };
        Ok(tokens.map(piece).collect())
    }
}

/// The tokens of `text` by the tokenizer of `file`, with those around it or without.
fn encode(tokenizer: &Tokenizer, file: &Path, text: &str, around: bool) -> Result<Encoding> {
    tokenizer.encode(text, around).map_err(|error| {
        let start: String = text.chars().take(60).collect();
        Fault::input(format!("{}: cannot encode {start:?}…: {error}", file.display()))
            .remedy("the tokenizer lacks an unknown token; use another model")
            .into()
    })
}

/// Numbers the words of `n` tokens from 0, where each token but the first says whether it starts one.
fn numbered(n: usize, starts: impl Fn(usize) -> bool) -> Vec<u16> {
    let numbers = (0..n).scan(0u16, |number, place| {
        *number = number.saturating_add(u16::from(place > 0 && starts(place)));
        Some(*number)
    });
    numbers.collect()
}

/// Whether the token at `place` is of another word than the one before it. A token without a word is one of its own.
fn is_next(words: &[Option<u32>], place: usize) -> bool {
    words[place].is_none() || words[place] != words[place - 1]
}

/// Whether the tokenizer splits text into words before it looks for tokens.
fn splits(tokenizer: &Tokenizer, file: &Path) -> Result<bool> {
    let encoding = encode(tokenizer, file, "one two three", false)?;
    let words = encoding.get_word_ids();
    Ok(words.len() < 2 || words.iter().any(|word| *word != words[0]))
}

/// Whether whitespace lies between a token and the one before it, or the token starts with it. Pieces of one character
/// share its span.
fn space_before(text: &str, (_, end): (usize, usize), (begin, _): (usize, usize)) -> bool {
    begin >= end
        && (text[end..].starts_with(char::is_whitespace) || text[end..begin].contains(char::is_whitespace))
}

/// Added tokens that are special by themselves or because they are the `ends` of a text.
fn marked(tokenizer: &Tokenizer, ends: [Option<&str>; 2]) -> BTreeSet<u32> {
    let added = tokenizer.get_added_tokens_decoder().into_iter();
    let special = added.filter(|(_, token)| token.special || ends.contains(&Some(&token.content)));
    special.map(|(id, _)| id).collect()
}

fn no_mask(file: &Path) -> anyhow::Error {
    Fault::input(format!("{}: the tokenizer has no mask token", file.display()))
        .remedy("use a masked language model, or name its `mask_token` in tokenizer_config.json")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_from_0_without_gaps() {
        let words = [Some(3), Some(3), None, None, Some(9), Some(9), Some(10)];
        assert_eq!(numbered(words.len(), |place| is_next(&words, place)), [0, 0, 1, 2, 3, 3, 4]);
        assert_eq!(numbered(0, |_| true), [0u16; 0]);
    }

    #[test]
    fn words_are_what_spaces_separate_where_the_tokenizer_splits_none() -> Result<()> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/unigram");
        let folder = tempfile::tempdir()?;
        let mut description: serde_json::Value =
            entromask_encoder::tokenizer::read_json(&from.join("tokenizer.json"))?;
        let companion = "tokenizer_config.json";
        fs_err::copy(from.join(companion), folder.path().join(companion))?;
        let text = "One evening I was lounging, thinking lazily.";
        for split in [true, false] {
            description["pre_tokenizer"]["split"] = split.into();
            fs_err::write(folder.path().join("tokenizer.json"), description.to_string())?;
            let pieces = TeacherTokenizer::load(folder.path())?.encode(text)?;
            let words: BTreeSet<Option<u16>> = pieces.iter().map(|piece| piece.word).collect();
            assert_eq!(words.len(), 7, "split = {split}: {pieces:?}");
            assert!(pieces.len() > words.len(), "words of several pieces");
        }
        Ok(())
    }

    #[test]
    fn special_tokens_of_all_roles_have_no_word() -> Result<()> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/byte_bpe");
        let folder = tempfile::tempdir()?;
        let text = fs_err::read_to_string(from.join("tokenizer.json"))?.replace("</s>", "<|end|>");
        fs_err::write(folder.path().join("tokenizer.json"), text)?;
        fs_err::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "<|end|>"}"#)?;
        let of = |dir: &Path| -> Result<(bool, Vec<bool>)> {
            let tokenizer = TeacherTokenizer::load(dir)?;
            let pieces = tokenizer.encode("<unk><|end|>")?;
            Ok((tokenizer.once.special, pieces.iter().map(|piece| piece.word.is_some()).collect()))
        };
        assert_eq!(of(folder.path())?, (true, vec![true, false]));
        assert!(!of(&from)?.0);
        Ok(())
    }

    #[test]
    fn merges_are_not_dropped_by_chance() -> Result<()> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/byte_bpe");
        let folder = tempfile::tempdir()?;
        let mut description: serde_json::Value =
            entromask_encoder::tokenizer::read_json(&from.join("tokenizer.json"))?;
        description["model"]["dropout"] = 0.5.into();
        fs_err::write(folder.path().join("tokenizer.json"), description.to_string())?;
        let [plain, dropping] = [&from, folder.path()].map(TeacherTokenizer::load);
        let (plain, dropping) = (plain?, dropping?);
        let text = "One evening I was lounging, thinking lazily of nothing in particular.";
        assert_eq!(dropping.encode(text)?, plain.encode(text)?);
        assert!(dropping.once.dropout && !plain.once.dropout, "what was scored before has another key");
        Ok(())
    }
}
