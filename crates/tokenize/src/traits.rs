//! How a tokenizer treats text that is taken out of its context.

use serde_json::Value;

use crate::encode::chunks;
use crate::pack::Cutter;
use crate::{Pieces, TextEncoder};

/// Text with what tokenizers treat differently: punctuation inside words, digits, other scripts, accents, several lines.
const PROBE: &str = "The well-known \"Café (d'été)\" isn't open; it's 3.5% of 1,024 or 10 000 3, yes. So – 中文字 中文 и ещё?\n\
                     Next line.\nThe end";

/// What the text was in the first version; tokens by which it decides otherwise have another key now.
const FIRST_PROBE: &str =
    "The well-known \"Café (d'été)\" isn't open; it's 3.5% of 1,024 – 中文字 и ещё?\nNext line.\nThe end";

/// How a tokenizer treats text that is taken out of its context; found by trying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// A word's tokens depend on a space before it (byte-level BPE).
    pub(crate) leading_space_counts: bool,
    /// Where a text may be cut so that its halves are encoded like the whole.
    pub(crate) cut: Cut,
    /// Encoding two halves that meet at a space gives the tokens of the whole.
    pub(crate) chunks: bool,
    /// The tokenizer does not split text into words itself.
    pub(crate) words_by_space: bool,
}

/// Where a text may be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Between any two words.
    #[default]
    BetweenWords,
    /// Between two words with whitespace between them.
    AtSpace,
}

/// How the tokenizer treats text out of its context, and which rules the versions before overlooked, if it has such.
pub(crate) fn probe(encoder: &TextEncoder) -> anyhow::Result<(Traits, Option<&'static str>)> {
    let mut traits = probe_by(encoder, PROBE)?;
    let first = probe_by(encoder, FIRST_PROBE)?;
    let overlooked = (traits != first).then_some("digits");
    let hidden = if rewrites_across_spaces(encoder)? {
        Some("rewriting")
    } else {
        (!spans_make_up(PROBE, encoder)?).then_some("spans")
    };
    if traits.chunks && hidden.is_some() {
        traits.chunks = false;
        return Ok((traits, hidden));
    }
    Ok((traits, overlooked))
}

/// Finds it out by cutting `text` and encoding both sides.
fn probe_by(encoder: &TextEncoder, text: &str) -> anyhow::Result<Traits> {
    let ids = |part: &str| encoder.encode_once(part).map(|pieces| pieces.ids);
    let leading_space_counts = ids(" the")? != ids("the")? || ids(" 1")? != ids("1")?;
    let pieces = encoder.encode_once(text)?;
    let words_by_space = pieces.word.iter().all(|word| *word == pieces.word[0]);
    let between_words = Traits { leading_space_counts, words_by_space, ..Traits::default() };
    // Chunks start with the space before their first word, whether it counts or not.
    let chunked = Traits { cut: Cut::AtSpace, leading_space_counts: true, ..between_words };
    let holds = |traits: Traits| -> anyhow::Result<bool> {
        let cutter = Cutter { text, pieces: &pieces, traits };
        for place in (1..pieces.len()).filter(|&place| cutter.clean(place)) {
            let [left, right] = [0..place, place..pieces.len()].map(|range| ids(&text[cutter.slice(range)]));
            if [left?, right?].concat() != pieces.ids {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let chunks = !words_by_space
        && !reaches_across_spaces(encoder)
        && holds(chunked)?
        && chunks_make_up(text, &pieces, encoder)?;
    let cut = if holds(between_words)? { Cut::BetweenWords } else { Cut::AtSpace };
    Ok(Traits { cut, chunks, ..between_words })
}

/// True if the chunks that `text` is encoded in have the tokens and the words of the whole. They begin at line feeds, too,
/// which may lie within a word of the tokenizer's, or get a space before them that is not in the text.
fn chunks_make_up(text: &str, whole: &Pieces, encoder: &TextEncoder) -> anyhow::Result<bool> {
    let joined = in_chunks(text, encoder)?;
    let same_word =
        |pieces: &Pieces| -> Vec<bool> { pieces.word.windows(2).map(|pair| pair[0] == pair[1]).collect() };
    Ok(joined.ids == whole.ids && same_word(&joined) == same_word(whole))
}

/// True if the tokens of the chunks have the spans of those of the whole, too. A chunk begins with a space, which a normalizer may strip
/// and the tokenizer put before the first word again: then that is of no place in the text.
fn spans_make_up(text: &str, encoder: &TextEncoder) -> anyhow::Result<bool> {
    let (joined, whole) = (in_chunks(text, encoder)?, encoder.encode_once(text)?);
    Ok(joined.begin == whole.begin && joined.end == whole.end)
}

fn in_chunks(text: &str, encoder: &TextEncoder) -> anyhow::Result<Pieces> {
    let (mut joined, mut next_word) = (Pieces::default(), 0);
    for range in chunks(text, 1) {
        let chunk = encoder.encode_once(&text[range.clone()])?;
        joined.extend(&chunk, 0..chunk.len(), range.start, &mut next_word);
    }
    Ok(joined)
}

/// True if an added token contains whitespace or swallows it behind itself.
fn reaches_across_spaces(encoder: &TextEncoder) -> bool {
    let added = encoder.tokenizer().get_added_tokens_decoder();
    added.values().any(|token| token.rstrip || token.content.contains(char::is_whitespace))
}

/// True if the normalizer may rewrite a space together with what is beside it, or make one beside another. There are as many
/// such rules as scripts; no text for trying has them all, so they are read.
fn rewrites_across_spaces(encoder: &TextEncoder) -> anyhow::Result<bool> {
    let normalizer = serde_json::to_value(encoder.tokenizer().get_normalizer())?;
    Ok(replacing(&normalizer).into_iter().any(|rule| {
        let makes_space = rule["content"].as_str().is_some_and(|text| text.contains(char::is_whitespace));
        match (rule["pattern"]["String"].as_str(), rule["pattern"]["Regex"].as_str()) {
            (Some(text), _) if text.trim().is_empty() => false,
            (Some(text), _) => makes_space || text.contains(char::is_whitespace),
            (_, Some(regex)) => !is_of_spaces(regex) && (makes_space || may_meet_space(regex)),
            _ => true,
        }
    }))
}

/// All `Replace` rules in a normalizer.
fn replacing(normalizer: &Value) -> Vec<&Value> {
    if normalizer["type"] == "Replace" {
        return vec![normalizer];
    }
    normalizer["normalizers"].as_array().into_iter().flatten().flat_map(replacing).collect()
}

/// True of a regular expression for nothing but whitespace, as ` {2,}`: a chunk begins at one that stands alone.
fn is_of_spaces(regex: &str) -> bool {
    let plain = regex.replace("\\s", " ");
    let mut outside_counts = plain.split(['{', '}']).step_by(2).flat_map(str::chars);
    outside_counts.all(|c| c.is_whitespace() || "+[]|".contains(c))
}

/// False only of a regular expression that certainly does not look at whitespace.
fn may_meet_space(regex: &str) -> bool {
    // A range over the space begins at it or at a control character.
    regex.contains(|c: char| c.is_whitespace() || c.is_control() || ".^$".contains(c))
        || ["(?!", "(?<!", "[:"].iter().any(|part| regex.contains(part))
        || !regex.split('\\').skip(1).all(is_blind)
}

/// True of what follows a backslash if that is no whitespace: an escaped mark, digits, a letter of a word, or a class of
/// Unicode's without any.
fn is_blind(escaped: &str) -> bool {
    let Some(class) = escaped.strip_prefix("p{").and_then(|rest| Some(rest.split_once('}')?.0)) else {
        return escaped.starts_with(['d', 'w']) || !escaped.starts_with(char::is_alphanumeric);
    };
    let is_category = class.len() <= 2 && class.starts_with(['L', 'M', 'N', 'P']);
    is_category
        || ["Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic"].contains(&class)
}
