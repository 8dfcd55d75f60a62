//! What a tokenizer does to letters before it looks words up, found by trying.

use std::collections::HashMap;

use anyhow::anyhow;
use tokenizers::{NormalizedString, Normalizer, Tokenizer};

/// A pattern that keeps case and accents.
const KEEPS_ACCENTS: &str = "data/tokenizers/cased-pattern";

/// Share of the letters that may lose their accents without a word: English has fewer, in names.
const FEW: f64 = 0.001;

/// Letters after which the share is known well enough.
const ENOUGH: u64 = 1 << 24;

/// What the tokenizer does to letters, in words.
pub(crate) fn describe(tokenizer: &Tokenizer) -> anyhow::Result<String> {
    let case = if normalized(tokenizer, "A")?.contains('a') { "lower-cases" } else { "keeps case" };
    let accents = if strips(tokenizer, 'é')? { "strips accents" } else { "keeps accents" };
    let splits = normalized(tokenizer, "中文")?.contains("中 ");
    Ok([case, accents, "takes Chinese characters one by one"][..2 + usize::from(splits)].join(", "))
}

/// The letters at the beginning of a corpus.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    all: u64,
    /// Those that may have an accent, and accents on their own.
    beyond_ascii: HashMap<char, u64>,
}

impl Letters {
    pub(crate) fn count(&mut self, text: &str) {
        if self.all >= ENOUGH {
            return;
        }
        for c in text.chars().filter(|&c| c.is_alphabetic() || is_accent(c)) {
            self.all += 1;
            if !c.is_ascii() {
                *self.beyond_ascii.entry(c).or_default() += 1;
            }
        }
    }

    /// What is wrong if the tokenizer strips accents from more than few of the letters, and the remedy.
    pub(crate) fn doubt(&self, tokenizer: &Tokenizer) -> anyhow::Result<Option<String>> {
        let (mut all, mut most) = (0, (0, ' '));
        for (&c, &count) in &self.beyond_ascii {
            if strips(tokenizer, c)? {
                all += count;
                most = most.max((count, c));
            }
        }
        let share = all as f64 / self.all.max(1) as f64;
        let found = || {
            let (percent, (_, often)) = (100.0 * share, most);
            format!(
                "{percent:.1} % of the letters lose their accents, most often {often}; to keep case and accents, \
                 learn with `--like {KEEPS_ACCENTS}`"
            )
        };
        Ok((share > FEW).then(found))
    }
}

/// True if the letter loses a mark, or is one that is lost. What is composed of letters, as Hangul is, loses none.
fn strips(tokenizer: &Tokenizer, c: char) -> anyhow::Result<bool> {
    let characters = |text: &str| NormalizedString::from(text).nfd().get().chars().count();
    let text = c.to_string();
    Ok(characters(&normalized(tokenizer, &text)?) < characters(&text))
}

fn normalized(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<String> {
    let mut text = NormalizedString::from(text);
    let normalizer = tokenizer.get_normalizer();
    normalizer.map_or(Ok(()), |by| by.normalize(&mut text)).map_err(|error| anyhow!(error))?;
    Ok(text.get().to_owned())
}

/// An accent that follows its letter as a character of its own.
fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pattern(name: &str) -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tokenizers").join(name);
        Tokenizer::from_file(folder.join("tokenizer.json")).expect("it is committed")
    }

    #[test]
    fn a_language_that_would_lose_its_accents_is_noticed() -> anyhow::Result<()> {
        let [uncased, cased] = ["bert-base-uncased", "cased-pattern"].map(pattern);
        assert_eq!(describe(&uncased)?, "lower-cases, strips accents, takes Chinese characters one by one");
        assert_eq!(describe(&cased)?, "keeps case, keeps accents, takes Chinese characters one by one");
        let doubt = |text: &str, by: &Tokenizer| {
            let mut letters = Letters::default();
            letters.count(text);
            letters.doubt(by)
        };
        // Composed, with an accent of its own, and a script whose accents are part of its letters.
        for (text, often) in [("Müller über Äpfel", 'ü'), ("cafe\u{301}", '\u{301}'), ("мой", 'й')] {
            let found = doubt(text, &uncased)?.unwrap_or_default();
            assert!(found.contains(&format!("most often {often}")) && found.contains("--like"), "{found}");
            assert_eq!(doubt(text, &cased)?, None);
        }
        let english = "a café is a rare word ".to_owned() + &"in English ".repeat(200);
        for text in ["", "Straße", "한국어", "中文", &english] {
            assert_eq!(doubt(text, &uncased)?, None, "{text}");
        }
        Ok(())
    }
}
