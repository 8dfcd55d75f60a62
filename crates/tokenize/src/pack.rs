//! Documents into rows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::encode::NO_WORD;
use crate::traits::{Cut, Traits};
use crate::{Config, Document, Pieces, Row, TextEncoder};

/// How rows are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Most tokens in a row, special tokens included.
    pub seq_len: usize,
    /// Most documents in a row; 0 is no limit.
    pub max_documents_per_row: usize,
    /// Rows with fewer tokens are dropped, special ones not counted.
    pub min_row_tokens: usize,
}

/// Fills rows with the tokens of documents, in order.
#[derive(Debug)]
pub struct Packer<'a> {
    encoder: &'a TextEncoder,
    packing: Packing,
    row: Row,
    /// Tokens of documents and documents in `row`.
    filled: usize,
    documents: usize,
    place: Place,
}

/// Where the next row begins, at which another packer can go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Documents, or pieces of such, that are packed.
    pub documents: u64,
    /// Tokens of the next one that are packed.
    pub tokens: usize,
    /// Rows and tokens that were dropped for being too short.
    pub dropped: [u64; 2],
}

/// What takes finished rows, and the place behind each.
type Take<'a> = &'a mut dyn FnMut(&Row, Place) -> anyhow::Result<()>;

impl From<&Config> for Packing {
    fn from(config: &Config) -> Self {
        Self {
            seq_len: config.seq_len,
            max_documents_per_row: config.max_documents_per_row,
            min_row_tokens: config.min_row_tokens,
        }
    }
}

impl<'a> Packer<'a> {
    /// A packer with an empty row.
    pub fn new(encoder: &'a TextEncoder, packing: Packing) -> Self {
        Self { encoder, packing, row: Row::default(), filled: 0, documents: 0, place: Place::default() }
    }

    /// The packer that goes on at `place`: documents that are packed must not be added again.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Where the packer is, which is within a row but behind [`Packer::finish`].
    pub fn place(&self) -> Place {
        self.place
    }

    /// Adds a document's tokens; rows that are full go to `take`.
    pub fn add(&mut self, document: &Document, pieces: &Pieces, take: Take) -> anyhow::Result<()> {
        let cutter = Cutter { text: &document.text, pieces, traits: self.encoder.traits() };
        let mut start = self.place.tokens;
        while start < pieces.len() {
            let end = cutter.cut(start, self.room(), self.filled == 0);
            if end > start {
                self.begin_document(document);
                self.row.push_tokens(document, pieces, start..end, cutter.slice(start..end));
                self.filled += end - start;
            }
            self.place.tokens = end;
            if end < pieces.len() {
                self.finish(take)?;
            }
            start = end;
        }
        if self.documents == self.packing.max_documents_per_row {
            self.finish(take)?;
        }
        self.place = Place { documents: self.place.documents + 1, tokens: 0, ..self.place };
        Ok(())
    }

    /// Ends the current row.
    pub fn finish(&mut self, take: Take) -> anyhow::Result<()> {
        if self.filled >= self.packing.min_row_tokens.max(1) {
            self.row.push_special(&self.encoder.around()[1]);
            take(&self.row, self.place)?;
        } else if self.filled > 0 {
            self.place.dropped[0] += 1;
            self.place.dropped[1] += self.filled as u64;
        }
        self.row.clear();
        (self.filled, self.documents) = (0, 0);
        Ok(())
    }

    /// Starts a row, or separates a document from the one before it in the row.
    fn begin_document(&mut self, document: &Document) {
        let [before, _] = self.encoder.around();
        if self.documents == 0 {
            self.row.doc = document.number;
            self.row.push_special(before);
        } else {
            self.row.push_special(self.separator());
        }
        self.documents += 1;
    }

    /// How many more tokens of a document the row can take.
    fn room(&self) -> usize {
        let [before, behind] = self.encoder.around();
        let separators = self.documents * self.separator().len();
        self.packing.seq_len.saturating_sub(before.len() + behind.len() + separators + self.filled)
    }

    fn separator(&self) -> &'a [u32] {
        separator(self.encoder)
    }
}

/// What stands between two documents: what stands behind one, or else before one, but once.
fn separator(encoder: &TextEncoder) -> &[u32] {
    let [before, behind] = encoder.around();
    let tokens = if behind.is_empty() { before } else { behind };
    &tokens[..tokens.len().min(1)]
}

/// Finds where a document may be cut.
#[derive(Clone, Copy)]
pub(crate) struct Cutter<'a> {
    pub(crate) text: &'a str,
    pub(crate) pieces: &'a Pieces,
    pub(crate) traits: Traits,
}

impl Cutter<'_> {
    /// The end of a row that starts at token `start` and has `room`; `start` itself if a fresh row would do better.
    fn cut(self, start: usize, room: usize, fresh: bool) -> usize {
        let most = start + room;
        if most >= self.pieces.len() {
            return self.pieces.len();
        }
        let mut places = (start + 1..=most).rev();
        let found = places.clone().find(|&place| self.clean(place));
        if found.is_some() || !fresh {
            return found.unwrap_or(start);
        }
        let between_words = places.clone().find(|&place| self.between_words(place));
        between_words.or_else(|| places.find(|&place| self.between_characters(place))).unwrap_or(most)
    }

    /// True if what follows token `place` is encoded alike on its own.
    pub(crate) fn clean(self, place: usize) -> bool {
        self.between_words(place)
            && (self.traits.cut == Cut::BetweenWords || self.pieces.space_before(place, self.text))
    }

    fn between_words(self, place: usize) -> bool {
        let [left, right] = [self.pieces.word[place - 1], self.pieces.word[place]];
        (left != right || right == NO_WORD) && self.between_characters(place)
    }

    /// Tokens of a byte-level tokenizer may be parts of one character, and then have the same span.
    fn between_characters(self, place: usize) -> bool {
        self.pieces.begin[place] >= self.pieces.end[place - 1]
    }

    /// The bytes of the document that the tokens `range` stand for, with what the tokenizer left out between them.
    pub(crate) fn slice(self, range: Range<usize>) -> Range<usize> {
        let begin = self.pieces.begin[range.clone()].iter().min().map_or(0, |&begin| begin as usize);
        let end = self.end(range.end);
        if !self.traits.leading_space_counts {
            return begin..end.max(begin);
        }
        let previous = if range.start == 0 { 0 } else { self.end(range.start) };
        previous.min(begin)..end
    }

    /// Where the slice of a row whose last token is `place - 1` ends: a mark that the tokenizer merged into the last
    /// letter belongs to it; spaces do not, nor invisible characters, which some tokenizers turn into spaces.
    fn end(self, place: usize) -> usize {
        let end = self.pieces.end[place - 1] as usize;
        let next = self.pieces.begin.get(place).map_or(self.text.len(), |&begin| begin as usize).max(end);
        let gap = &self.text[end..next];
        end + gap.find(blank).unwrap_or(gap.len())
    }
}

/// White, control and format characters, and the one that stands for a space in Metaspace tokenizers.
fn blank(c: char) -> bool {
    let format =
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    format || c.is_whitespace() || c.is_control() || matches!(c, '▁' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}
