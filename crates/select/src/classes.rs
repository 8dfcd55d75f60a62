//! The entries of a vocabulary and their classes.

use std::path::Path;

use entromask_fault::Fault;
use entromask_policy::Class;
use tokenizers::Tokenizer;

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
