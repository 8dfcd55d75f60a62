//! Long documents in pieces, so that memory stays bounded whatever a file holds.

use super::{Piece, Sink};

/// A document with more bytes is read in pieces, cut at a line feed, else at a space, else between two characters.
pub const MAX_DOCUMENT_BYTES: usize = 2 << 20;

/// Where to cut `bytes`, which are at least two: in their second half, behind the last line feed, else space; else
/// behind the last whole character.
pub(super) fn cut(bytes: &[u8]) -> usize {
    let half = bytes.len() / 2;
    let behind =
        |wanted: u8| bytes[half..].iter().rposition(|&byte| byte == wanted).map(|place| half + place + 1);
    let whole = || {
        let start = bytes.iter().rposition(|&byte| byte & 0xc0 != 0x80).unwrap_or(0);
        if start == 0 { bytes.len() } else { start }
    };
    behind(b'\n').or_else(|| behind(b' ')).unwrap_or_else(whole)
}

/// Hands `text` to `take`, in pieces if it is long; each has memory of its own, which is no larger than it is.
pub(super) fn split(text: String, take: Sink) -> anyhow::Result<()> {
    if text.len() <= MAX_DOCUMENT_BYTES {
        return take(text, Piece::Whole);
    }
    let mut rest = text.as_str();
    let mut piece = Piece::First;
    while rest.len() > MAX_DOCUMENT_BYTES {
        let window = rest.floor_char_boundary(MAX_DOCUMENT_BYTES);
        let (first, later) = rest.split_at(cut(&rest.as_bytes()[..window]));
        take(first.to_owned(), piece)?;
        (rest, piece) = (later, Piece::Later);
    }
    take(rest.to_owned(), piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_behind_lines_words_or_characters() {
        let at = |text: &'static str| text.split_at(cut(text.as_bytes()));
        assert_eq!(at("one and two\nthree"), ("one and two\n", "three"));
        assert_eq!(
            at("1\none and two three"),
            ("1\none and two ", "three"),
            "a short piece would say little"
        );
        assert_eq!(at("12345"), ("1234", "5"));
        assert_eq!(cut(&"中文".as_bytes()[..5]), 3, "the second character is not whole");
        assert_eq!(cut(&[0x80, 0x80]), 2);
    }

    #[test]
    fn long_documents_come_in_pieces_that_join_to_the_whole() -> anyhow::Result<()> {
        let text = "é".repeat(MAX_DOCUMENT_BYTES) + "\nend";
        let mut pieces = Vec::new();
        split(text.clone(), &mut |text, piece| {
            pieces.push((text, piece));
            Ok(())
        })?;
        let kinds: Vec<_> = pieces.iter().map(|(_, piece)| *piece).collect();
        assert_eq!(kinds, [Piece::First, Piece::Later, Piece::Later]);
        assert!(pieces.iter().all(|(piece, _)| piece.capacity() <= MAX_DOCUMENT_BYTES));
        assert!(pieces.into_iter().map(|(text, _)| text).collect::<String>() == text);
        Ok(())
    }
}
