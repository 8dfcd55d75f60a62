//! Ids, word ids and byte offsets equal those of Python's `tokenizers`; the reference values were exported by
//! `tests/parity/export_tokens.py`.

mod support;

use std::io::Read;

use entromask_tokenize::Pieces;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    ids: Vec<u32>,
    words: Vec<Option<u32>>,
    offsets: Vec<(u32, u32)>,
}

fn lines() -> Vec<String> {
    let text = std::fs::read_to_string(support::workspace("tests/fixtures/tokens/lines.jsonl")).unwrap();
    text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn references(family: &str) -> Vec<Reference> {
    let path = support::workspace("tests/fixtures/tokens").join(format!("{family}.jsonl.zst"));
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Special tokens that the text spells out have no word here, so that they are never masked; Python gives them one.
fn word_of(pieces: &Pieces, index: usize, reference: &Reference) -> Option<u32> {
    let word = pieces.word[index];
    if word == u32::MAX { reference.words[index] } else { Some(word) }
}

#[test]
fn all_families_agree_with_python() {
    let lines = lines();
    assert_eq!(lines.len(), 1000);
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    for family in support::FAMILIES {
        let encoder = support::encoder(family);
        let documents = encoder.encode_all(&texts).unwrap();
        assert_eq!(references(family).len(), lines.len(), "{family}");
        for ((pieces, reference), line) in documents.iter().zip(references(family)).zip(&lines) {
            let words: Vec<_> = (0..pieces.len()).map(|index| word_of(pieces, index, &reference)).collect();
            let offsets: Vec<_> = pieces.begin.iter().copied().zip(pieces.end.iter().copied()).collect();
            assert_eq!(pieces.ids, reference.ids, "{family}: {line:?}");
            assert_eq!(words, reference.words, "{family}: {line:?}");
            assert_eq!(offsets, reference.offsets, "{family}: {line:?}");
        }
    }
}

#[test]
fn special_tokens_spelled_out_have_no_word() {
    for (family, mask) in [("wordpiece", "[MASK]"), ("byte_bpe", "<mask>"), ("unigram", "<mask>")] {
        let encoder = support::encoder(family);
        let pieces = &encoder.encode_all(&[&format!("a {mask} b")]).unwrap()[0];
        let masks: Vec<_> = (0..pieces.len()).filter(|&index| pieces.word[index] == u32::MAX).collect();
        assert_eq!(masks.len(), 1, "{family}");
        assert_eq!(pieces.ids[masks[0]], encoder.special().mask);
        assert!(pieces.begin[masks[0]] < pieces.end[masks[0]]);
    }
}
