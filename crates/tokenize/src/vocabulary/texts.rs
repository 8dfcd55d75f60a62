//! The texts that a vocabulary is learned from.

use std::sync::mpsc::{IntoIter, SendError, SyncSender, sync_channel};
use std::thread;

use anyhow::anyhow;
use rayon::prelude::*;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer,
};

use crate::alphabet::Characters;
use crate::filter::{Fate, Filter};
use crate::{Config, Corpus, Document, Source};

/// A longer word is no word: an encoded file, say. No WordPiece tokenizer in use knows words of more than some hundred letters, and
/// the time that a word takes to learn from grows with the square of its length.
pub(super) const LONGEST_WORD: usize = 1024;

/// The training documents.
pub(super) struct Texts<'a> {
    pub(super) config: &'a Config,
    pub(super) corpus: &'a Corpus,
    pub(super) words: &'a Words,
}

/// What was read of them.
#[derive(Default)]
pub(super) struct TextsRead {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// Words that were left out.
    pub(super) long_words: u64,
}

impl Texts<'_> {
    pub(super) fn count_characters(&self) -> anyhow::Result<Characters> {
        let (counted, _) = self.read_by(|texts| {
            let counts = texts.par_bridge().map(|text| self.words.of(text));
            let counts = counts.try_fold(Characters::default, |counts, words| Ok(counts.with(&words?)));
            counts.try_reduce(Characters::default, |some, more| Ok(some.and(more)))
        })?;
        counted.map_err(|error: tokenizers::Error| anyhow!(error))
    }

    /// What `consume` makes of the texts.
    pub(super) fn read_by<T>(
        &self,
        consume: impl FnOnce(IntoIter<String>) -> T,
    ) -> anyhow::Result<(T, TextsRead)> {
        let (texts, to_consume) = sync_channel(64);
        thread::scope(|scope| {
            let read = scope.spawn(move || self.read(&texts));
            let result = consume(to_consume.into_iter());
            let read = read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((result, read))
        })
    }

    fn read(&self, texts: &SyncSender<String>) -> anyhow::Result<TextsRead> {
        let (mut filter, mut read) = (Filter::new(self.config), TextsRead::default());
        let outcome = self.corpus.read(&Source::default(), &mut |document: Document| {
            if filter.decide(&document) == Fate::Train {
                read.documents += 1;
                read.bytes += document.text.len() as u64;
                let (text, long_words) = self.words.without_long_ones(document.text)?;
                read.long_words += long_words;
                texts.send(text)?;
            }
            Ok(())
        });
        match outcome {
            // Who consumes hung up, and says why.
            Err(error) if !error.is::<SendError<String>>() => Err(error),
            _ => Ok(read),
        }
    }
}

/// Splits texts as a tokenizer does.
pub(super) struct Words(pub(super) Tokenizer);

impl Words {
    fn of(&self, text: String) -> tokenizers::Result<PreTokenizedString> {
        let mut normalized = NormalizedString::from(text);
        self.0.get_normalizer().map_or(Ok(()), |by| by.normalize(&mut normalized))?;
        let mut words = PreTokenizedString::from(normalized);
        self.0.get_pre_tokenizer().map_or(Ok(()), |by| by.pre_tokenize(&mut words))?;
        Ok(words)
    }

    /// The text, and how many words of more than [`LONGEST_WORD`] bytes were left out of it.
    fn without_long_ones(&self, text: String) -> anyhow::Result<(String, u64)> {
        if text.split_whitespace().all(|run| run.len() <= LONGEST_WORD) {
            return Ok((text, 0));
        }
        let words = self.of(text.clone()).map_err(|error| anyhow!(error))?;
        let spans = words.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
        let long = spans.map(|(_, (start, end), _)| start..end).filter(|span| span.len() > LONGEST_WORD);
        let (mut rest, mut kept, mut count) = (0, String::new(), 0);
        for span in long {
            kept += text.get(rest..span.start).unwrap_or_default();
            (rest, count) = (span.end, count + 1);
        }
        Ok((kept + text.get(rest..).unwrap_or_default(), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_words_are_left_out() {
        let mut tokenizer = Tokenizer::new(tokenizers::models::wordpiece::WordPiece::default());
        tokenizer.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::bert::BertPreTokenizer));
        let words = Words(tokenizer);
        let found = |text: &str| words.without_long_ones(text.to_owned()).expect("splits");
        let (long, usual) = ("ü".repeat(LONGEST_WORD), "a".repeat(LONGEST_WORD));
        assert_eq!(found(&format!("ein {long} und {usual}")), (format!("ein  und {usual}"), 1));
        assert_eq!(found(&format!("{long}.{long}")), (".".to_owned(), 2));
        let many = format!("{usual},").repeat(5);
        assert_eq!(found(&many), (many.clone(), 0), "words of usual length without spaces");
    }
}
