//! One row of the tokens table while it is filled.

use std::ops::Range;

use entromask_tables::Tokens;

use crate::encode::NO_WORD;
use crate::{Document, Pieces};

/// A row: special tokens, and tokens of one or more documents with their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Document that the row starts in.
    pub doc: u64,
    /// The text that the tokens were made from.
    pub text: String,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Word of each token, counted within the row; `None` at special tokens.
    pub word: Vec<Option<u16>>,
    /// First byte of each token in `text`.
    pub begin: Vec<u32>,
    /// Byte after each token in `text`.
    pub end: Vec<u32>,
    words: u16,
}

impl Row {
    /// Tokens that may be masked.
    pub fn maskable(&self) -> usize {
        self.word.iter().flatten().count()
    }

    /// Letters and digits of the text, and how many of them no token stands for.
    pub(crate) fn letters(&self) -> [u64; 2] {
        let (mut letters, mut lost, mut covered) = (0, 0, 0);
        let mut spans = self.begin.iter().zip(&self.end).peekable();
        for (place, _) in self.text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
            while let Some((_, &end)) = spans.next_if(|(begin, _)| **begin as usize <= place) {
                covered = covered.max(end as usize);
            }
            letters += 1;
            lost += u64::from(place >= covered);
        }
        [letters, lost]
    }

    /// Adds the row to a table as number `number`.
    pub(crate) fn push_to(&self, tokens: &mut Tokens, number: u64) {
        tokens.row.push(number);
        tokens.doc.push(self.doc);
        tokens.text.push(self.text.clone());
        tokens.input_ids.push(self.ids.iter().copied());
        tokens.word.push(self.word.iter().copied());
        tokens.begin.push(self.begin.iter().copied());
        tokens.end.push(self.end.iter().copied());
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ids.clear();
        self.word.clear();
        self.begin.clear();
        self.end.clear();
        self.words = 0;
    }

    /// Adds tokens that stand for no text, at the end of the text so far.
    pub(crate) fn push_special(&mut self, ids: &[u32]) {
        let place = self.text.len() as u32;
        for &id in ids {
            self.push(id, None, place, place);
        }
    }

    /// Adds the tokens `range` of a document and its bytes `slice`.
    pub(crate) fn push_tokens(
        &mut self,
        document: &Document,
        pieces: &Pieces,
        range: Range<usize>,
        slice: Range<usize>,
    ) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let (from, base) = (slice.start as u32, self.text.len() as u32);
        let mut previous = NO_WORD;
        for i in range {
            let word = pieces.word[i];
            let number = self.number(previous, word);
            self.push(pieces.ids[i], number, pieces.begin[i] - from + base, pieces.end[i] - from + base);
            previous = word;
        }
        self.text.push_str(&document.text[slice]);
    }

    fn push(&mut self, id: u32, word: Option<u16>, begin: u32, end: u32) {
        self.ids.push(id);
        self.word.push(word);
        self.begin.push(begin);
        self.end.push(end);
    }

    /// The row's number of a token's word, given that of the token before it.
    fn number(&mut self, previous: u32, word: u32) -> Option<u16> {
        if word == NO_WORD {
            return None;
        }
        self.words += u16::from(word != previous);
        Some(self.words - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_no_token_stands_for_are_counted() {
        let row = |spans: &[(u32, u32)]| Row {
            text: "ab, né 7".into(),
            begin: spans.iter().map(|span| span.0).collect(),
            end: spans.iter().map(|span| span.1).collect(),
            ..Row::default()
        };
        assert_eq!(row(&[(0, 0), (0, 2), (2, 3), (4, 7), (8, 9), (9, 9)]).letters(), [5, 0]);
        assert_eq!(row(&[(0, 1), (4, 5), (8, 9)]).letters(), [5, 2]);
        assert_eq!(row(&[]).letters(), [5, 5]);
    }
}
