//! What all who encode text with Hugging Face tokenizers have to do around it, in one way.

mod around;

use tokenizers::{ModelWrapper, Tokenizer};

pub use around::{Around, around, put_around};

/// Turns dropout of merges off, and says whether there was any: splits of words by chance would give other tokens each time
/// under the same key.
pub fn leave_dropout_out(tokenizer: &mut Tokenizer) -> bool {
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return false };
    if bpe.dropout.is_none_or(|share| share == 0.0) {
        return false;
    }
    let mut exact = bpe.clone();
    exact.dropout = None;
    tokenizer.with_model(ModelWrapper::BPE(exact));
    true
}

/// A span that slices `text`. `tokenizers` trims whitespace off byte offsets by as many bytes as it is characters, so
/// that beside a no-break space, say, a span may begin or end within a character.
#[must_use]
pub fn whole_characters(text: &str, begin: usize, end: usize) -> (usize, usize) {
    let begin = (begin..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let end = (0..=end.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    (begin, end.max(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_cut_to_whole_characters() {
        let text = "aé\u{a0}b";
        assert_eq!(whole_characters(text, 0, 2), (0, 1));
        assert_eq!(whole_characters(text, 2, 6), (3, 6));
        assert_eq!(whole_characters(text, 4, 4), (5, 5));
        assert_eq!(whole_characters(text, 0, 99), (0, 6));
    }
}
