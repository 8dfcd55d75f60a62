//! Classes of tokens, by what their entry in the vocabulary is made of.

use serde::{Deserialize, Serialize};

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
    /// Neither letters, nor marks that belong to letters, nor digits.
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
            None if text.chars().all(is_mark) => Self::Word,
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

/// A mark that belongs to the letter before it, as a virama: the standard library escapes it only where nothing is before it.
fn is_mark(c: char) -> bool {
    let is_escaped = |text: &str| text.escape_debug().count() > text.chars().count();
    is_escaped(&c.to_string()) && !is_escaped(&format!("a{c}"))
}
