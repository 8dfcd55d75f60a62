//! The rows of a part in the teacher's tokens.

use anyhow::Result;
use entromask_fault::Fault;
use entromask_tables::Tokens;
use rayon::prelude::*;

use crate::tokenizer::{Piece, TeacherTokenizer};

/// The rows of a part as a teacher with another tokenizer reads them.
///
/// A row that is longer than the teacher can read is cut into overlapping windows. Each of its tokens is scored in one
/// window, where it has context on both sides; in the others it only is context.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Retokenized {
    /// One row a window, with `row`, `input_ids`, `word`, `begin` and `end`; `word` is null at special tokens and at
    /// tokens that are scored in another window.
    pub(crate) tokens: Tokens,
    /// Row of the part that each window is of; ascending.
    pub(crate) row_of: Vec<usize>,
    /// Tokens of each window that could be masked, with those that are scored in another one.
    pub(crate) readable: Vec<usize>,
}

impl Retokenized {
    /// Encodes the text of the rows whose numbers are `wanted`; the others have no window. A window has at most `longest`
    /// tokens, special ones included.
    ///
    /// # Errors
    /// An input fault if a text cannot be encoded, or the teacher cannot read even one token.
    pub(crate) fn new(
        part: &Tokens,
        tokenizer: &TeacherTokenizer,
        longest: usize,
        wanted: impl Fn(u64) -> bool + Sync,
    ) -> Result<Self> {
        let around = tokenizer.around.iter().map(Vec::len).sum();
        let room = longest.saturating_sub(around);
        if room == 0 {
            let file = tokenizer.file.display();
            let found = format!(
                "{file}: puts {around} special tokens around a text, and the model reads {longest} tokens with them"
            );
            return Err(Fault::input(found).remedy("use a model with more positions").into());
        }
        let rows = (0..part.rows()).into_par_iter().filter(|&row| wanted(part.row[row]));
        let encode = |row: usize| Ok((row, tokenizer.encode(&part.text[row])?));
        let rows: Vec<(usize, Vec<Piece>)> = rows.map(encode).collect::<Result<_>>()?;
        let mut windows = Self::default();
        for (row, pieces) in &rows {
            for window in windows_of(pieces.len(), room, |place| starts_word(pieces, place)) {
                windows.push(part.row[*row], *row, pieces, &window, tokenizer);
            }
        }
        Ok(windows)
    }

    fn push(&mut self, number: u64, row: usize, pieces: &[Piece], window: &Window, by: &TeacherTokenizer) {
        let read = &pieces[window.read.clone()];
        let scored = |place: usize| window.scored.contains(&(window.read.start + place));
        let [before, behind] = &by.around;
        let (head, tail) = (vec![None; before.len()], vec![None; behind.len()]);
        let words = read.iter().enumerate().map(|(place, piece)| piece.word.filter(|_| scored(place)));
        let (start, stop) = (vec![0; before.len()], vec![0; behind.len()]);
        let ids = read.iter().map(|piece| piece.id);
        self.row_of.push(row);
        self.readable.push(read.iter().filter(|piece| piece.word.is_some()).count());
        self.tokens.row.push(number);
        self.tokens.input_ids.push(before.iter().copied().chain(ids).chain(behind.iter().copied()));
        self.tokens.word.push(head.into_iter().chain(words).chain(tail));
        let spans = |of: fn(&Piece) -> u32| {
            start.clone().into_iter().chain(read.iter().map(of)).chain(stop.clone()).collect::<Vec<_>>()
        };
        self.tokens.begin.push(spans(|piece| piece.begin));
        self.tokens.end.push(spans(|piece| piece.end));
    }
}

/// Consecutive tokens of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// What the model sees.
    read: std::ops::Range<usize>,
    /// What is scored.
    scored: std::ops::Range<usize>,
}

/// Whether another word begins with the token at `place`, which is not the first one.
fn starts_word(pieces: &[Piece], place: usize) -> bool {
    pieces[place].word.is_none() || pieces[place].word != pieces[place - 1].word
}

/// Windows of at most `room` tokens over `n`. The scored ranges partition the row; where two windows meet, near the middle
/// of what they share, each has an eighth of `room` or more as context. They meet between two words, so that none is
/// hidden half, if there is a place for it within an eighth of `room` from the middle.
fn windows_of(n: usize, room: usize, starts_word: impl Fn(usize) -> bool) -> Vec<Window> {
    let step = (room / 2).max(1);
    let count = 1 + n.saturating_sub(room).div_ceil(step);
    let start = |index: usize| (index * step).min(n.saturating_sub(room));
    let (mut windows, mut first) = (Vec::new(), 0);
    for index in 0..count {
        let read = start(index)..(start(index) + room).min(n);
        let last = if index + 1 == count {
            n
        } else {
            let middle = usize::midpoint(start(index + 1), start(index) + room);
            let places = (0..=room / 8).flat_map(|away| [middle + away, middle.saturating_sub(away)]);
            places
                .filter(|&place| place > first && place < n)
                .find(|&place| starts_word(place))
                .unwrap_or(middle)
        };
        windows.push(Window { read, scored: first..last });
        first = last;
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_rows_are_one_window() {
        for n in [0, 1, 10] {
            assert_eq!(windows_of(n, 10, |_| true), [Window { read: 0..n, scored: 0..n }]);
        }
    }

    #[test]
    fn long_rows_are_cut_in_the_middle_of_the_overlap() {
        let windows = windows_of(18, 8, |_| true);
        let reads: Vec<_> = windows.iter().map(|window| window.read.clone()).collect();
        let scored: Vec<_> = windows.iter().map(|window| window.scored.clone()).collect();
        assert_eq!(reads, [0..8, 4..12, 8..16, 10..18]);
        assert_eq!(scored, [0..6, 6..10, 10..13, 13..18]);
    }

    #[test]
    fn rows_that_are_not_wanted_are_not_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tokenizers/bert-base-uncased");
        let tokenizer = TeacherTokenizer::load(&dir).expect("a tokenizer");
        let text = ["one", "two words", "three"].map(str::to_owned).to_vec();
        let part = Tokens { row: vec![7, 8, 9], doc: vec![0; 3], text, ..Tokens::default() };
        let whole = Retokenized::new(&part, &tokenizer, 64, |_| true).expect("encodes");
        let some = Retokenized::new(&part, &tokenizer, 64, |row| row == 8).expect("encodes");
        assert_eq!((whole.row_of.len(), some.row_of, some.tokens.row), (3, vec![1], vec![8]));
        assert_eq!(some.tokens.input_ids.row(0), whole.tokens.input_ids.row(1));
    }

    #[test]
    fn a_model_without_room_for_a_text_is_named() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tokenizers/bert-base-uncased");
        let tokenizer = TeacherTokenizer::load(&dir).expect("a tokenizer");
        let error = Retokenized::new(&Tokens::default(), &tokenizer, 2, |_| true).expect_err("no room");
        let found = "tokenizer.json: puts 2 special tokens around a text, and the model reads 2 tokens";
        assert!(error.to_string().contains(found), "{error}");
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_with_context(n in 0usize..600, room in 1usize..70, letters in 1usize..9) {
            let windows = windows_of(n, room, |place| place % letters == 0);
            let mut next = 0;
            for window in &windows {
                prop_assert!(window.read.len() <= room && window.read.end <= n);
                prop_assert_eq!(window.scored.start, next);
                prop_assert!(window.scored.start >= window.read.start && window.scored.end <= window.read.end);
                let (before, behind) =
                    (window.scored.start - window.read.start, window.read.end - window.scored.end);
                prop_assert!(window.read.start == 0 || before >= room / 8);
                prop_assert!(window.read.end == n || behind >= room / 8);
                prop_assert!(letters > room / 8 || window.scored.end == n || window.scored.end % letters == 0);
                next = window.scored.end;
            }
            prop_assert_eq!(next, n);
        }
    }
}
