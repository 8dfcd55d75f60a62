//! What all who encode text with Hugging Face tokenizers have to do around it, in one way.

use tokenizers::{Encoding, ModelWrapper, Token, Tokenizer};

/// Special tokens before and behind a text.
pub type Around = [Vec<u32>; 2];

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

/// What the post-processor puts around a text of one token, whatever that is: a letter may be none in some vocabularies. For
/// a tokenizer that puts nothing there, the tokens of these `roles`.
///
/// # Errors
/// If the post-processor fails.
pub fn around(tokenizer: &Tokenizer, roles: [Option<u32>; 2]) -> tokenizers::Result<Around> {
    let text = Encoding::from_tokens(vec![Token::new(0, "a".to_owned(), (0, 1))], 0);
    let with = tokenizer.post_process(text, None, true)?;
    let added = with.get_special_tokens_mask().iter().take_while(|&&special| special == 1).count();
    let (before, rest) = with.get_ids().split_at(added);
    let behind = rest.get(1..).unwrap_or_default();
    if before.is_empty() && behind.is_empty() {
        return Ok(roles.map(|id| id.into_iter().collect()));
    }
    Ok([before.to_vec(), behind.to_vec()])
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

    /// Which knows no Latin letter and has no unknown token.
    const GREEK: &str = r#"{"version": "1.0", "added_tokens": [
        {"id": 0, "content": "[CLS]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
        {"id": 1, "content": "[SEP]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [0], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [1], "tokens": ["[SEP]"]}}},
        "model": {"type": "BPE", "vocab": {"[CLS]": 0, "[SEP]": 1, "β": 2}, "merges": []}}"#;

    #[test]
    fn what_stands_around_a_text_needs_no_letter() {
        let tokenizer = Tokenizer::from_bytes(GREEK).expect("loads");
        assert!(tokenizer.encode("a", false).expect("encodes").is_empty());
        assert_eq!(around(&tokenizer, [None, None]).expect("processes"), [vec![0], vec![1]]);
    }

    #[test]
    fn without_a_post_processor_roles_decide() {
        let mut tokenizer = Tokenizer::from_bytes(GREEK).expect("loads");
        tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        assert_eq!(around(&tokenizer, [Some(7), None]).expect("processes"), [vec![7], vec![]]);
    }

    #[test]
    fn spans_are_cut_to_whole_characters() {
        let text = "aé\u{a0}b";
        assert_eq!(whole_characters(text, 0, 2), (0, 1));
        assert_eq!(whole_characters(text, 2, 6), (3, 6));
        assert_eq!(whole_characters(text, 4, 4), (5, 5));
        assert_eq!(whole_characters(text, 0, 99), (0, 6));
    }
}
