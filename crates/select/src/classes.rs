//! Classes of tokens, by what their entry in the vocabulary is made of.

use std::path::Path;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::config::refuse;

/// What a token consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The first piece of a word.
    Word,
    /// Another piece of a word.
    Piece,
    /// A word or piece whose first letter is upper case: many names, where the vocabulary has upper case.
    Capital,
    /// Digits and other numerals only.
    Digits,
    /// Neither letters nor digits.
    Punctuation,
    /// Bytes of a character, and what has no text.
    Other,
}

impl Class {
    /// All classes, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Word, Self::Piece, Self::Capital, Self::Digits, Self::Punctuation, Self::Other];

    /// The name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Piece => "piece",
            Self::Capital => "capital",
            Self::Digits => "digits",
            Self::Punctuation => "punctuation",
            Self::Other => "other",
        }
    }

    /// The class of an entry's text, as far as that decides it: pieces count as [`Class::Word`].
    pub fn of(text: &str) -> Self {
        if text.starts_with("<0x") && text.ends_with('>') {
            return Self::Other;
        }
        let text = text.strip_prefix("##").filter(|rest| !rest.is_empty()).unwrap_or(text);
        let text = text.trim_matches(|c: char| c == '▁' || c.is_whitespace());
        let mut letters = text.chars().filter(|c| c.is_alphanumeric()).peekable();
        match letters.peek() {
            None if text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) => Self::Other,
            None => Self::Punctuation,
            Some(_) if text.chars().all(char::is_numeric) => Self::Digits,
            Some(first) if first.is_uppercase() => Self::Capital,
            Some(_) => Self::Word,
        }
    }

    /// Only classes that the vocabulary alone decides, and that are not most of the text, can be left out.
    pub(crate) fn check_excludable(self) -> anyhow::Result<()> {
        if matches!(self, Self::Digits | Self::Punctuation) {
            return Ok(());
        }
        Err(refuse("exclude", self.name(), "\"punctuation\" or \"digits\""))
    }
}

/// The entries of a vocabulary: name and class of each id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    names: Vec<String>,
    classes: Vec<Class>,
}

impl Entries {
    /// Reads the vocabulary of a `tokenizer.json`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the file is missing or no tokenizer.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let tokenizer = Tokenizer::from_file(path).map_err(|error| {
            Fault::input(format!("{}: not a tokenizer: {error}", path.display()))
                .remedy("tokenize the corpus again")
        })?;
        Ok(Self::new(tokenizer.get_vocab(true).into_iter().collect()))
    }

    /// The entries of a vocabulary, in any order.
    pub fn new(vocabulary: Vec<(String, u32)>) -> Self {
        let byte_level = BYTE_LEVEL.iter().all(|space| vocabulary.iter().any(|(name, _)| name == space));
        let size = vocabulary.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0);
        let mut entries = Self { names: vec![String::new(); size], classes: vec![Class::Other; size] };
        for (name, id) in vocabulary {
            let id = id as usize;
            entries.classes[id] = if byte_level { Class::of(&text_of(&name)) } else { Class::of(&name) };
            entries.names[id] = name;
        }
        entries
    }

    /// The class of `id`; `None` if the vocabulary is not known.
    pub fn class(&self, id: u32) -> Option<Class> {
        self.classes.get(id as usize).copied()
    }

    /// The name of `id`; `None` if the vocabulary is not known.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// True if no vocabulary is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Space, line feed and tab in GPT-2's alphabet of bytes; a vocabulary that has entries for these is made of bytes.
const BYTE_LEVEL: [&str; 3] = ["Ġ", "Ċ", "ĉ"];

/// The text of a byte-level entry.
///
/// GPT-2's alphabet gives each byte a printable character: its own where it has one, else one from U+0100 on.
fn text_of(entry: &str) -> String {
    let bytes: Option<Vec<u8>> = entry.chars().map(byte_of).collect();
    bytes.map_or_else(|| entry.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn byte_of(letter: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(letter);
    match code {
        0..=255 => u8::try_from(code).ok().filter(|byte| printable(*byte)),
        256.. => (0..=255).filter(|byte| !printable(*byte)).nth(code as usize - 256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[&str]) -> Vec<Class> {
        let entries = Entries::new(names.iter().map(ToString::to_string).zip(0..).collect());
        (0..names.len() as u32).map(|id| entries.class(id).expect("known")).collect()
    }

    #[test]
    fn entries_of_word_pieces_and_unigrams_have_their_class() {
        let words = ["the", "##ing", "▁the", "é", "日", "3rd", "ġ"];
        assert_eq!(classes(&words), [Class::Word; 7]);
        assert_eq!(classes(&["▁'T", "Émile"]), [Class::Capital; 2]);
        assert_eq!(classes(&["1984", "##00", "▁42", "½"]), [Class::Digits; 4]);
        assert_eq!(classes(&[",", "##", "—", "▁(", "£"]), [Class::Punctuation; 5]);
        assert_eq!(classes(&["▁", "<0x0A>"]), [Class::Other; 2]);
    }

    #[test]
    fn entries_of_bytes_have_the_class_of_their_text() {
        let bytes = [&BYTE_LEVEL[..], &["Ġthe", "ĠcafÃ©", "ĠLondon", "Ġ42", "âĢĻ", "Ġ(", "âĢ"]].concat();
        let wanted = [
            [Class::Other; 3].as_slice(),
            &[
                Class::Word,
                Class::Word,
                Class::Capital,
                Class::Digits,
                Class::Punctuation,
                Class::Punctuation,
            ],
            &[Class::Other],
        ];
        assert_eq!(classes(&bytes), wanted.concat());
    }

    #[test]
    fn entries_are_found_by_id() {
        let entries = Entries::new(vec![("the".into(), 2), ("7".into(), 0)]);
        assert_eq!((entries.class(0), entries.class(2)), (Some(Class::Digits), Some(Class::Word)));
        assert_eq!((entries.class(3), entries.name(1), entries.name(2)), (None, None, Some("the")));
    }
}
