//! The entries of a vocabulary and their classes.

use std::fmt::Display;
use std::path::Path;

use entromask_fault::Fault;
use entromask_policy::Class;
use serde_json::Value;
use tokenizers::Tokenizer;

/// The entries of a vocabulary: name and class of each id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    names: Vec<String>,
    classes: Vec<Class>,
    /// The first versions found the same classes.
    pub(crate) told_by_names: bool,
    /// A mark that belongs to a letter is an entry of its own, as Hindi's virama.
    pub(crate) has_marks: bool,
}

impl Entries {
    /// Reads the vocabulary of a `tokenizer.json`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the file is missing or no tokenizer.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let no_tokenizer = |error: &dyn Display| {
            Fault::input(format!("{}: not a tokenizer: {error}", path.display()))
                .remedy("tokenize the corpus again")
        };
        let tokenizer = Tokenizer::from_file(path).map_err(|error| no_tokenizer(&error))?;
        let description = serde_json::to_value(&tokenizer).map_err(|error| no_tokenizer(&error))?;
        Ok(Self::new(tokenizer.get_vocab(true).into_iter().collect(), &description))
    }

    /// The entries of a vocabulary, in any order; `tokenizer`, as its JSON describes it, says how they are spelled.
    pub fn new(vocabulary: Vec<(String, u32)>, tokenizer: &Value) -> Self {
        let spelling = Spelling::of(tokenizer);
        let size = vocabulary.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0);
        let mut entries = Self {
            told_by_names: spelling == Spelling::told_by(&vocabulary),
            has_marks: false,
            names: vec![String::new(); size],
            classes: vec![Class::Other; size],
        };
        for (name, id) in vocabulary {
            let (id, text) = (id as usize, spelling.text_of(&name));
            entries.classes[id] = Class::of(&text);
            entries.has_marks |=
                entries.classes[id] == Class::Word && !text.chars().any(char::is_alphanumeric);
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

/// How the entries of a vocabulary are written. Of prefixes, [`Class::of`] knows `##`.
#[derive(Debug, PartialEq, Eq)]
struct Spelling {
    /// In GPT-2's alphabet, a letter a byte.
    byte_level: bool,
    /// Before pieces that go on with a word.
    prefix: Option<String>,
    /// Behind pieces that end a word.
    suffix: Option<String>,
}

impl Spelling {
    fn of(tokenizer: &Value) -> Self {
        let parts = ["normalizer", "pre_tokenizer", "decoder"].map(|part| tokenizer[part].to_string());
        let affix = |key: &str| tokenizer["model"][key].as_str().map(str::to_owned);
        Self {
            byte_level: parts.iter().any(|part| part.contains("\"ByteLevel\"")),
            prefix: affix("continuing_subword_prefix")
                .filter(|prefix| !["", "##"].contains(&prefix.as_str())),
            suffix: affix("end_of_word_suffix").filter(|suffix| !suffix.is_empty()),
        }
    }

    /// What the first versions read off the vocabulary alone: one with space, line feed and tab in GPT-2's alphabet is
    /// made of bytes.
    fn told_by(vocabulary: &[(String, u32)]) -> Self {
        let known = |space: &&str| vocabulary.iter().any(|(name, _)| name == space);
        Self { byte_level: ["Ġ", "Ċ", "ĉ"].iter().all(known), prefix: None, suffix: None }
    }

    /// The text of an entry.
    fn text_of(&self, entry: &str) -> String {
        let bare = self.suffix.as_ref().and_then(|suffix| entry.strip_suffix(suffix)).unwrap_or(entry);
        let rest = self.prefix.as_ref().and_then(|prefix| bare.strip_prefix(prefix));
        let bare = rest.filter(|rest| !rest.is_empty()).unwrap_or(bare);
        if self.byte_level { decoded(bare) } else { bare.into() }
    }
}

/// The text of letters that stand for bytes.
///
/// GPT-2's alphabet gives each byte a printable character: its own where it has one, else one from U+0100 on.
fn decoded(letters: &str) -> String {
    let bytes: Option<Vec<u8>> = letters.chars().map(byte_of).collect();
    bytes.map_or_else(|| letters.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
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
    use serde_json::json;

    use super::*;

    fn classes(names: &[&str], tokenizer: &Value) -> Vec<Class> {
        let entries = Entries::new(names.iter().map(ToString::to_string).zip(0..).collect(), tokenizer);
        (0..names.len() as u32).map(|id| entries.class(id).expect("known")).collect()
    }

    #[test]
    fn entries_of_word_pieces_and_unigrams_have_their_class() {
        let words = ["the", "##ing", "▁the", "é", "日", "3rd", "ġ"];
        let classes = |names: &[&str]| classes(names, &Value::Null);
        assert_eq!(classes(&words), [Class::Word; 7]);
        assert_eq!(classes(&["▁'T", "Émile"]), [Class::Capital; 2]);
        assert_eq!(classes(&["1984", "##00", "▁42", "½"]), [Class::Digits; 4]);
        assert_eq!(classes(&[",", "##", "—", "▁(", "£"]), [Class::Punctuation; 5]);
        assert_eq!(classes(&["▁", "<0x0A>"]), [Class::Other; 2]);
        let maltese = ["Ġ", "Ċ", "ĉ"];
        assert_eq!(classes(&maltese), [Class::Capital, Class::Capital, Class::Word]);
        assert_eq!(classes(&["##\u{94d}", "\u{301}", "\u{e49}"]), [Class::Word; 3], "parts of letters");
    }

    #[test]
    fn entries_of_bytes_have_the_class_of_their_text() {
        // Without the tab, as where a vocabulary was learned from text that has none.
        let bytes = ["Ġ", "Ċ", "Ġthe", "ĠcafÃ©", "ĠLondon", "Ġ42", "âĢĻ", "Ġ(", "âĢ"];
        let wanted = [
            Class::Other,
            Class::Other,
            Class::Word,
            Class::Word,
            Class::Capital,
            Class::Digits,
            Class::Punctuation,
            Class::Punctuation,
            Class::Other,
        ];
        for part in ["pre_tokenizer", "decoder"] {
            let nested = json!({part: {"type": "Sequence", "decoders": [{"type": "ByteLevel"}]}});
            assert_eq!(classes(&bytes, &nested), wanted, "{part}");
        }
    }

    #[test]
    fn affixes_are_no_part_of_a_text() {
        let tokenizer = json!({"model": {"end_of_word_suffix": "</w>", "continuing_subword_prefix": "@@"}});
        let names = [",</w>", "@@!</w>", "42</w>", "@@the", "</w>", "@@"];
        let wanted = [
            Class::Punctuation,
            Class::Punctuation,
            Class::Digits,
            Class::Word,
            Class::Other,
            Class::Punctuation,
        ];
        assert_eq!(classes(&names, &tokenizer), wanted);
    }

    #[test]
    fn what_the_first_versions_read_off_the_vocabulary_is_told() {
        let told = |names: &[&str], tokenizer: &Value| {
            Entries::new(names.iter().map(ToString::to_string).zip(0..).collect(), tokenizer).told_by_names
        };
        let model = json!({"continuing_subword_prefix": "", "end_of_word_suffix": ""});
        let bytes = json!({"model": model, "decoder": {"type": "ByteLevel"}});
        assert!(told(&["Ġ", "Ċ", "ĉ"], &bytes) && !told(&["Ġ", "Ċ"], &bytes));
        let pieces = json!({"model": {"continuing_subword_prefix": "##"}});
        assert!(told(&["the", "##s"], &pieces) && !told(&["Ġ", "Ċ", "ĉ"], &pieces));
    }

    #[test]
    fn marks_alone_are_found_in_any_spelling() {
        let has_marks = |names: &[&str], tokenizer: &Value| {
            Entries::new(names.iter().map(ToString::to_string).zip(0..).collect(), tokenizer).has_marks
        };
        let bytes = json!({"decoder": {"type": "ByteLevel"}});
        assert!(has_marks(&["##\u{94d}"], &Value::Null) && has_marks(&["à¥į"], &bytes));
        assert!(!has_marks(&["é", "##ing", "-"], &Value::Null) && !has_marks(&["Ã©", "é"], &bytes));
    }

    #[test]
    fn entries_are_found_by_id() {
        let entries = Entries::new(vec![("the".into(), 2), ("7".into(), 0)], &Value::Null);
        assert_eq!((entries.class(0), entries.class(2)), (Some(Class::Digits), Some(Class::Word)));
        assert_eq!((entries.class(3), entries.name(1), entries.name(2)), (None, None, Some("the")));
    }
}
