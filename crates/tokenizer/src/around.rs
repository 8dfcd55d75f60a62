//! What stands around a text.

use serde_json::{Value, json};
use tokenizers::{Encoding, PostProcessorWrapper, Result, Token, Tokenizer};

/// Special tokens before and behind a text.
pub type Around = [Vec<u32>; 2];

/// What the post-processor puts around a text of one token, whatever that is: a letter may be none in some vocabularies. For
/// a tokenizer that puts nothing there, the tokens of these `roles`.
///
/// # Errors
/// If the post-processor fails.
pub fn around(tokenizer: &Tokenizer, roles: [Option<u32>; 2]) -> Result<Around> {
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

/// Lets a tokenizer that puts nothing around a text put there what [`around`] says, and says whether it was one: whoever gets
/// the tokenizer with a model has to encode text as the model has read it.
///
/// # Errors
/// If the post-processor fails, or a token of the `roles` is not in the vocabulary.
pub fn put_around(tokenizer: &mut Tokenizer, roles: [Option<u32>; 2]) -> Result<bool> {
    let none = [None, None];
    if roles == none || around(tokenizer, none)?.iter().any(|tokens| !tokens.is_empty()) {
        return Ok(false);
    }
    let (mut processors, template) = (kept(tokenizer)?, template(tokenizer, roles)?);
    let processor = if processors.is_empty() {
        template
    } else {
        processors.push(template);
        json!({"type": "Sequence", "processors": processors})
    };
    let processor: PostProcessorWrapper = serde_json::from_value(processor)?;
    tokenizer.with_post_processor(Some(processor));
    Ok(true)
}

/// The processors that stay: what a template does for pairs only, another one does too, and two of them cannot follow each other.
fn kept(tokenizer: &Tokenizer) -> Result<Vec<Value>> {
    let Some(processor) = tokenizer.get_post_processor() else { return Ok(Vec::new()) };
    let processor = json!(processor);
    let mut all = match processor.get("processors") {
        Some(all) => serde_json::from_value(all.clone())?,
        None => vec![processor],
    };
    all.retain(|processor| processor["type"] != "TemplateProcessing");
    Ok(all)
}

/// The first token, a text, the last token; and with a second text that and the last token again.
fn template(tokenizer: &Tokenizer, roles: [Option<u32>; 2]) -> Result<Value> {
    let names =
        roles.map(|id| id.map(|id| tokenizer.id_to_token(id).ok_or("a token without a name")).transpose());
    let [first, last] = [names[0].clone()?, names[1].clone()?];
    let token = |name: &Option<String>, part: u32| {
        name.as_ref().map(|name| json!({"SpecialToken": {"id": name, "type_id": part}}))
    };
    let text = |name: &str, part: u32| Some(json!({"Sequence": {"id": name, "type_id": part}}));
    let single: Vec<Value> =
        [token(&first, 0), text("A", 0), token(&last, 0)].into_iter().flatten().collect();
    let second = [text("B", 1), token(&last, 1)].into_iter().flatten();
    let pair: Vec<Value> = single.iter().cloned().chain(second).collect();
    let known = [first, last].into_iter().zip(roles);
    let special: serde_json::Map<String, Value> = known
        .filter_map(|(name, id)| {
            name.map(|name| (name.clone(), json!({"id": name, "ids": [id], "tokens": [name]})))
        })
        .collect();
    Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}))
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

    fn greek(processor: Option<Value>) -> Tokenizer {
        let mut tokenizer = Tokenizer::from_bytes(GREEK).expect("loads");
        let processor =
            processor.map(|processor| serde_json::from_value::<PostProcessorWrapper>(processor).unwrap());
        tokenizer.with_post_processor(processor);
        tokenizer
    }

    #[test]
    fn what_stands_around_a_text_needs_no_letter() {
        let tokenizer = Tokenizer::from_bytes(GREEK).expect("loads");
        assert!(tokenizer.encode("a", false).expect("encodes").is_empty());
        assert_eq!(around(&tokenizer, [None, None]).expect("processes"), [vec![0], vec![1]]);
    }

    #[test]
    fn without_a_post_processor_roles_decide() {
        assert_eq!(around(&greek(None), [Some(7), None]).expect("processes"), [vec![7], vec![]]);
    }

    #[test]
    fn what_roles_decide_is_handed_on() {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let for_pairs = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {}});
        let both = json!({"type": "Sequence", "processors": [byte_level, for_pairs]});
        for processor in [None, Some(byte_level), Some(for_pairs), Some(both)] {
            let ids = |roles, pair: bool| {
                let mut tokenizer = greek(processor.clone());
                let changed = put_around(&mut tokenizer, roles).expect("is put");
                let again = Tokenizer::from_bytes(tokenizer.to_string(false).unwrap()).expect("loads");
                let encoding =
                    if pair { again.encode(("β", "ββ"), true) } else { again.encode("β", true) }.unwrap();
                (changed, encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec())
            };
            let both = [Some(0), Some(1)];
            assert_eq!(ids(both, false), (true, vec![0, 2, 1], vec![0, 0, 0]));
            assert_eq!(ids(both, true), (true, vec![0, 2, 1, 2, 2, 1], vec![0, 0, 0, 1, 1, 1]));
            assert_eq!(ids([Some(0), None], false), (true, vec![0, 2], vec![0, 0]));
            assert_eq!(ids([None, None], false), (false, vec![2], vec![0]));
        }
        let mut as_it_is = Tokenizer::from_bytes(GREEK).expect("loads");
        assert!(!put_around(&mut as_it_is, [Some(1), Some(0)]).expect("is asked"));
        assert_eq!(around(&as_it_is, [None, None]).expect("processes"), [vec![0], vec![1]]);
    }
}
