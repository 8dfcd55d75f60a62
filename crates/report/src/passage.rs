//! One row as readable text, token by token, with what is known about each token.

use entromask_tables::Tokens;
use serde::Serialize;

use crate::corpus::Names;

/// A row of the corpus, cut into its tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Passage {
    /// Number of the row.
    pub row: u64,
    /// Its tokens without the special ones.
    pub pieces: Vec<Piece>,
}

/// One token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Piece {
    /// White space (and whatever else no token covers) before it.
    pub gap: String,
    /// The text that it covers.
    pub text: String,
    /// Its name in the vocabulary.
    pub token: String,
    /// Entropy of the prediction in nats, if scored.
    pub entropy: Option<f32>,
    /// −ln q(token), nats, if scored.
    pub surprisal: Option<f32>,
    /// What the model sees in its place, if it is masked.
    pub masked: Option<String>,
}

impl Piece {
    /// Whether white space lies before it, or is where it begins.
    pub(crate) fn begins_word(&self) -> bool {
        self.gap.contains(char::is_whitespace) || self.text.starts_with(char::is_whitespace)
    }
}

impl Passage {
    /// Row `index` of `tokens`, which needs all columns.
    pub fn new(tokens: &Tokens, index: usize, names: &Names) -> Self {
        let mut cutter = Cutter { text: tokens.text.get(index).map_or("", String::as_str), at: 0 };
        let ids = tokens.input_ids.row(index);
        let (word, begin, end) = (tokens.word.row(index), tokens.begin.row(index), tokens.end.row(index));
        let pieces = ids.iter().enumerate().map(|(i, &id)| {
            let token = names.name(id);
            let (gap, text) = match word[i] {
                Some(_) => cutter.cut(begin[i] as usize, end[i] as usize, &token),
                None => Default::default(),
            };
            Piece { gap, text, token, ..Piece::default() }
        });
        // Special tokens stay as placeholders until scores and masks, which count them, are filled in.
        Self { row: tokens.row[index], pieces: pieces.collect() }
    }

    /// Fills in the scores of the row, one per token with special tokens.
    pub fn scored(&mut self, entropy: &[Option<f32>], surprisal: &[Option<f32>]) {
        for (piece, (&entropy, &surprisal)) in self.pieces.iter_mut().zip(entropy.iter().zip(surprisal)) {
            (piece.entropy, piece.surprisal) = (entropy, surprisal);
        }
    }

    /// Marks the masked positions, with what the model sees there.
    pub fn masked(&mut self, positions: &[u16], inputs: &[u32], names: &Names) {
        for (&position, &input) in positions.iter().zip(inputs) {
            if let Some(piece) = self.pieces.get_mut(position as usize) {
                piece.masked = Some(names.name(input));
            }
        }
    }

    /// Drops the special tokens and the white space at the start.
    #[must_use]
    pub fn finished(mut self) -> Self {
        self.pieces.retain(|piece| !piece.text.is_empty());
        if let Some(first) = self.pieces.first_mut() {
            first.gap.clear();
        }
        self
    }

    /// The text.
    pub fn text(&self) -> String {
        self.pieces.iter().flat_map(|piece| [piece.gap.as_str(), piece.text.as_str()]).collect()
    }
}

/// Walks through the text from token to token.
struct Cutter<'a> {
    text: &'a str,
    at: usize,
}

impl Cutter<'_> {
    /// What lies before `begin..end`, and what it covers.
    ///
    /// Tokens of bytes may share a character: the first one shows it, the others show their own name. Without the
    /// text, every token does.
    fn cut(&mut self, begin: usize, end: usize, token: &str) -> (String, String) {
        let (from, to) = (self.boundary(begin.max(self.at)), self.boundary(end));
        if to <= from {
            let gap = if self.text.is_empty() { " " } else { "" };
            return (gap.into(), token.into());
        }
        let gap = self.text[self.at..from].to_string();
        self.at = to;
        (gap, self.text[from..to].to_string())
    }

    /// The end of the character that `at` lies in, or the end of the text.
    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use entromask_tables::Ragged;

    use super::*;

    fn tokens(text: &str, spans: &[(u32, u32)]) -> Tokens {
        let n = spans.len();
        Tokens {
            row: vec![7],
            doc: vec![0],
            text: vec![text.into()],
            input_ids: Ragged::from_rows([(0..n as u32).collect::<Vec<_>>()]),
            word: Ragged::from_rows([spans
                .iter()
                .map(|(begin, end)| (begin < end).then_some(0))
                .collect::<Vec<_>>()]),
            begin: Ragged::from_rows([spans.iter().map(|span| span.0).collect::<Vec<_>>()]),
            end: Ragged::from_rows([spans.iter().map(|span| span.1).collect::<Vec<_>>()]),
        }
    }

    #[test]
    fn the_pieces_are_the_text_again() {
        let text = "  Ein Bär, süß.";
        let spans = [(0, 0), (2, 5), (6, 10), (10, 11), (12, 17), (17, 18), (18, 18)];
        let passage = Passage::new(&tokens(text, &spans), 0, &Names::default()).finished();
        assert_eq!(passage.text(), text.trim_start());
        assert_eq!(passage.pieces.len(), 5);
    }

    #[test]
    fn scores_and_masks_count_special_tokens() {
        let mut passage =
            Passage::new(&tokens("a b", &[(0, 0), (0, 1), (2, 3), (3, 3)]), 0, &Names::default());
        passage.scored(&[None, Some(1.0), Some(2.0), None], &[None, Some(3.0), Some(4.0), None]);
        passage.masked(&[2], &[103], &Names::default());
        let pieces = passage.finished().pieces;
        assert_eq!([pieces[0].entropy, pieces[1].entropy], [Some(1.0), Some(2.0)]);
        assert_eq!((pieces[0].masked.as_deref(), pieces[1].masked.as_deref()), (None, Some("#103")));
    }

    #[test]
    fn tokens_that_share_a_character_and_spans_that_lie_do_no_harm() {
        let passage =
            Passage::new(&tokens("é!", &[(0, 1), (1, 2), (2, 99)]), 0, &Names::default()).finished();
        let shown: Vec<_> = passage.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(shown, ["é", "#1", "!"]);
        let bare = Passage::new(&tokens("", &[(0, 1), (1, 2)]), 0, &Names::default()).finished();
        assert_eq!(bare.text(), "#0 #1");
    }
}
