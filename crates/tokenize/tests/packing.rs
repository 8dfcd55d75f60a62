//! Properties of packing, for each family of tokenizers, on documents made of what tokenizers find difficult.

mod support;

use std::sync::LazyLock;

use entromask_tokenize::{Config, Document, Packer, Packing, Piece, Pieces, Place, Row, TextEncoder, recipe};
use proptest::prelude::*;
use serde_json::json;

static ENCODERS: LazyLock<Vec<TextEncoder>> =
    LazyLock::new(|| support::FAMILIES.iter().map(|family| support::encoder(family)).collect());

const FRAGMENTS: [&str; 40] = [
    "the",
    "The",
    "Antidisestablishmentarianism",
    "don't",
    "e-mail",
    "U.S.A.",
    "3.14",
    "(",
    ")",
    "\"",
    "'s",
    "…",
    "—",
    "中文字",
    "日本語のテキスト",
    "한국어",
    "ещё",
    "café",
    "cafe\u{301}",
    "İstanbul",
    "ẞ",
    "ﬁne",
    "½",
    "🙂",
    "👩‍👩‍👧",
    "\u{200b}",
    "\u{ad}",
    "\u{301}",
    "\u{feff}",
    "\0",
    "\u{fffd}",
    "##s",
    "▁",
    "Ġ",
    "a",
    "x.y",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "[UNK]",
    "1,024",
    "naïve",
];
const GAPS: [&str; 12] = [" ", " ", " ", " ", "", "  ", "   ", "\n", "\n\n", " \n", "\t", "\u{a0}"];
const LITERALS: [&str; 6] = ["[MASK]", "[SEP]", "<mask>", "</s>", "<pad>", "[CLS]"];

/// A text of fragments, with special tokens spelled out in it if asked.
fn text(literals: bool) -> impl Strategy<Value = String> {
    let known = FRAGMENTS.len() + if literals { LITERALS.len() } else { 0 };
    prop::collection::vec((0..known, 0..GAPS.len()), 0..60).prop_map(|parts| {
        let word = |n: usize| FRAGMENTS.get(n).copied().unwrap_or_else(|| LITERALS[n - FRAGMENTS.len()]);
        parts.into_iter().flat_map(|(fragment, gap)| [word(fragment), GAPS[gap]]).collect()
    })
}

fn packing() -> impl Strategy<Value = Packing> {
    (8..40usize, 0..4usize).prop_map(|(seq_len, max_documents_per_row)| Packing {
        seq_len,
        max_documents_per_row,
        min_row_tokens: 1,
    })
}

fn pack(encoder: &TextEncoder, packing: Packing, texts: &[String]) -> (Vec<Pieces>, Vec<Row>) {
    let documents = encoder.encode_all(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let (rows, _) = pack_from(Place::default(), encoder, packing, texts, &documents);
    (documents, rows.into_iter().map(|(row, _)| row).collect())
}

/// The rows behind `place` with the place behind each, and the place at the end.
fn pack_from(
    place: Place,
    encoder: &TextEncoder,
    packing: Packing,
    texts: &[String],
    documents: &[Pieces],
) -> (Vec<(Row, Place)>, Place) {
    let mut packer = Packer::new(encoder, packing).at(place);
    let mut rows = Vec::new();
    let mut take = |row: &Row, place: Place| {
        rows.push((row.clone(), place));
        Ok(())
    };
    for (number, (text, pieces)) in texts.iter().zip(documents).enumerate().skip(place.documents as usize) {
        let document = Document { number: number as u64, text: text.clone(), piece: Piece::Whole };
        packer.add(&document, pieces, &mut take).unwrap();
    }
    packer.finish(&mut take).unwrap();
    let end = packer.place();
    (rows, end)
}

fn check_every_place(encoder: &TextEncoder, packing: Packing, texts: &[String]) {
    let documents = encoder.encode_all(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let pack_from = |place| pack_from(place, encoder, packing, texts, &documents);
    let (rows, end) = pack_from(Place::default());
    for (index, &(_, place)) in rows.iter().enumerate() {
        assert_eq!(pack_from(place), (rows[index + 1..].to_vec(), end), "behind row {index}");
    }
}

/// Indices of the tokens that stand for text.
fn body(row: &Row) -> Vec<usize> {
    (0..row.ids.len()).filter(|&i| row.word[i].is_some() || row.begin[i] < row.end[i]).collect()
}

/// (id, text) of a token.
fn tokens_of(ids: &[u32], begin: &[u32], end: &[u32], text: &str) -> Vec<(u32, String)> {
    let slice =
        |i: usize| text.get(begin[i] as usize..end[i] as usize).expect("a span slices the text").to_string();
    (0..ids.len()).map(|i| (ids[i], slice(i))).collect()
}

fn check_every_token_once(documents: &[Pieces], rows: &[Row], texts: &[String]) {
    let expected: Vec<_> = documents
        .iter()
        .zip(texts)
        .flat_map(|(pieces, text)| tokens_of(&pieces.ids, &pieces.begin, &pieces.end, text))
        .collect();
    let found: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            let all = tokens_of(&row.ids, &row.begin, &row.end, &row.text);
            body(row).into_iter().map(move |i| all[i].clone()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(found, expected);
}

fn check_special_tokens(encoder: &TextEncoder, packing: Packing, rows: &[Row]) {
    let [before, behind] = encoder.around();
    for row in rows {
        let control: Vec<_> = (0..row.ids.len()).filter(|i| !body(row).contains(i)).collect();
        assert!(row.ids.len() <= packing.seq_len, "{} tokens", row.ids.len());
        assert!(row.ids.starts_with(before) && row.ids.ends_with(behind));
        assert!(control.iter().all(|&i| row.begin[i] == row.end[i] && row.word[i].is_none()));
        let inner = control.len() - before.len() - behind.len();
        assert!(
            packing.max_documents_per_row == 0 || inner < packing.max_documents_per_row,
            "{inner} separators"
        );
        let body = body(row);
        assert!(!body.is_empty());
        let numbers: Vec<u16> = body.iter().filter_map(|&i| row.word[i]).collect();
        assert!(numbers.first().is_none_or(|&first| first == 0));
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
    }
}

/// Rows end between words, unless the word is longer than a row.
fn check_words_are_whole(encoder: &TextEncoder, packing: Packing, pieces: &Pieces, rows: &[Row]) {
    let room = packing.seq_len - encoder.around().iter().map(Vec::len).sum::<usize>();
    let mut place = 0;
    for row in rows.iter().take(rows.len().saturating_sub(1)) {
        place += body(row).len();
        let word = pieces.word[place];
        if word != u32::MAX && pieces.word[place - 1] == word {
            let length = pieces.word.iter().filter(|&&other| other == word).count();
            assert!(length > room, "a word of {length} tokens is cut, rows have room for {room}");
        }
    }
}

fn ids(encoder: &TextEncoder, text: &str) -> Vec<u32> {
    encoder.tokenizer().encode(text, true).unwrap().get_ids().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_hold_every_token_once(
        family in 0..3usize,
        packing in packing(),
        texts in prop::collection::vec(text(true), 1..5),
    ) {
        let encoder = &ENCODERS[family];
        let (documents, rows) = pack(encoder, packing, &texts);
        check_every_token_once(&documents, &rows, &texts);
        check_special_tokens(encoder, packing, &rows);
    }

    #[test]
    fn rows_behind_any_row_follow_from_its_place(
        family in 0..3usize,
        packing in packing(),
        min_row_tokens in 1..6usize,
        texts in prop::collection::vec(text(true), 1..5),
    ) {
        check_every_place(&ENCODERS[family], Packing { min_row_tokens, ..packing }, &texts);
    }

    #[test]
    fn words_are_whole_and_rows_start_in_their_document(
        family in 0..3usize,
        seq_len in 8..40usize,
        texts in prop::collection::vec(text(true), 1..4),
    ) {
        let encoder = &ENCODERS[family];
        let packing = Packing { seq_len, max_documents_per_row: 1, min_row_tokens: 1 };
        let (documents, rows) = pack(encoder, packing, &texts);
        for (number, pieces) in documents.iter().enumerate() {
            let own: Vec<Row> = rows.iter().filter(|row| row.doc == number as u64).cloned().collect();
            check_words_are_whole(encoder, packing, pieces, &own);
            assert!(own.iter().all(|row| texts[number].contains(&row.text)), "text is a slice of the document");
        }
    }

    #[test]
    fn encoding_a_rows_text_gives_its_ids(family in 0..3usize, text in text(false), seq_len in 24..64usize) {
        let encoder = &ENCODERS[family];
        let packing = Packing { seq_len, max_documents_per_row: 1, min_row_tokens: 1 };
        let (documents, rows) = pack(encoder, packing, std::slice::from_ref(&text));
        let longest = longest_run(&documents[0], &text);
        prop_assume!(longest + 2 <= seq_len);
        for row in rows {
            prop_assert_eq!(ids(encoder, &row.text), row.ids, "{}: {:?} in {:?}", support::FAMILIES[family], row.text, text);
        }
    }

    #[test]
    fn long_documents_are_encoded_as_a_whole(family in 0..3usize, text in text(true), times in 1..40usize) {
        let encoder = &ENCODERS[family];
        let text = vec![text; times].join(" and ");
        let pieces = &encoder.encode_all(&[&text]).unwrap()[0];
        let whole = encoder.tokenizer().encode(text.as_str(), false).unwrap();
        prop_assert_eq!(&pieces.ids[..], whole.get_ids());
        let slice = |(begin, end): (usize, usize)| text.get(begin..end);
        for (i, &span) in whole.get_offsets().iter().enumerate() {
            // Some spans of `tokenizers` lie within a character.
            let own = slice((pieces.begin[i] as usize, pieces.end[i] as usize));
            prop_assert!(own.is_some() && (own == slice(span) || slice(span).is_none()));
        }
        let words: Vec<_> = whole.get_word_ids().iter().zip(&pieces.word).filter(|(_, word)| **word != u32::MAX).collect();
        prop_assert!(words.windows(2).all(|pair| (pair[0].0 == pair[1].0) == (pair[0].1 == pair[1].1)));
    }
}

/// The most tokens between two places where every family may be cut: whitespace.
fn longest_run(pieces: &Pieces, text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for i in 0..pieces.len() {
        let (end, begin) = (if i == 0 { 0 } else { pieces.end[i - 1] as usize }, pieces.begin[i] as usize);
        let space = |gap: &str| gap.contains(char::is_whitespace);
        let cut = begin >= end && (space(&text[end..begin]) || text[end..].starts_with(char::is_whitespace));
        run = if cut { 1 } else { run + 1 };
        longest = longest.max(run);
    }
    longest
}

fn check_encoded_as_a_whole(encoder: &TextEncoder, text: &str) {
    let whole = encoder.tokenizer().encode(text, false).unwrap();
    let pieces = &encoder.encode_all(&[text]).unwrap()[0];
    assert_eq!(pieces.ids, whole.get_ids(), "{:?}", &text[..text.len().min(60)]);
}

#[test]
fn added_tokens_that_reach_across_spaces_are_found() {
    for (content, rstrip) in [("  ", false), ("<x>", true)] {
        let encoder = support::changed("byte_bpe", |tokenizer| {
            let id = tokenizer["model"]["vocab"].as_object().unwrap().len();
            let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": rstrip, "normalized": false, "special": false});
            tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
        });
        for text in ["", "a", "some text", "one  two <x> three.\nfour  <x>\nfive "] {
            check_encoded_as_a_whole(&encoder, text);
            check_encoded_as_a_whole(&encoder, &text.repeat(1000));
        }
    }
}

#[test]
fn rules_for_digits_that_reach_across_spaces_are_found() {
    for pattern in [r"(?<=\d) (?=\d{3})", r"(?<=\d) (?=\d)"] {
        let encoder = support::changed("byte_bpe", |tokenizer| tokenizer["normalizer"] = taken_out(pattern));
        check_encoded_as_a_whole(&encoder, "a million is 1 000 000, and a row of numbers 1 2 3 4 5");
    }
}

/// No text for trying has all that a rule may be about.
#[test]
fn rules_that_rewrite_spaces_between_letters_are_found() {
    let replaced = |pattern, content| json!({"type": "Replace", "pattern": pattern, "content": content});
    let rules = [
        vec![taken_out(r"(?<=\p{Han}) (?=\p{Han})")],
        vec![taken_out("(?<=q)[^a-z](?=q)")],
        vec![taken_out(r"(?<=q)\W(?=q)")],
        vec![taken_out(r"q\p{Print}q")],
        vec![taken_out("q[\u{1}-~]q")],
        vec![replaced(json!({"String": "q q"}), "qq")],
        // The space that the first one makes lies beside that of the text.
        vec![replaced(json!({"String": ","}), " "), replaced(json!({"Regex": " {2,}"}), " ")],
    ];
    for rules in rules {
        let encoder = support::changed("byte_bpe", |tokenizer| {
            tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": rules});
        });
        check_encoded_as_a_whole(&encoder, "he said 中文 字 中文 and so on, q q q or aq qa, he said");
    }
}

/// A rule that takes what `pattern` matches out of the text.
fn taken_out(pattern: &str) -> serde_json::Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": ""})
}

/// The first version overlooked them, and its tokens must not pass for those of now.
#[test]
fn only_rules_that_reach_across_spaces_are_told_in_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.txt");
    std::fs::write(&corpus, "one").unwrap();
    let mut config = support::config(&[corpus]);
    let marker = |config: &Config| recipe(config).unwrap().config.get("probe").cloned();
    for family in support::FAMILIES {
        config.tokenizer = support::tokenizer(family);
        assert_eq!(marker(&config), None, "{family}");
    }
    config.tokenizer = folder.path().into();
    let between = "(?<=q) (?=q)";
    for (pattern, expected) in [
        (r"(?<=\d) (?=\d)", Some("digits")),
        (between, Some("rewriting")),
        (r"\d(?=x)", None),
        (r" {2,}", None),
    ] {
        let change = |tokenizer: &mut serde_json::Value| tokenizer["normalizer"] = taken_out(pattern);
        support::write_changed("byte_bpe", folder.path(), change);
        assert_eq!(marker(&config), expected.map(Into::into), "{pattern}");
    }
}

/// Metaspace puts a space before a chunk that begins with a line feed, unless a normalizer makes that a space.
#[test]
fn line_feeds_that_are_no_spaces_to_a_tokenizer_begin_no_chunk() {
    for scheme in ["always", "first", "never"] {
        let encoder = support::changed("unigram", |tokenizer| {
            tokenizer["normalizer"] = json!(null);
            tokenizer["pre_tokenizer"]["prepend_scheme"] = scheme.into();
        });
        let text = "One line.\nNext line and more,\nthe end";
        check_encoded_as_a_whole(&encoder, text);
        let words = &encoder.encode_all(&[text]).unwrap()[0].word;
        let words = words.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(words, text.split(' ').count(), "{scheme}");
    }
}

/// `DeBERTa`'s normalizer strips the space that a chunk begins with, and Metaspace puts one before it again.
#[test]
fn spans_are_those_of_the_whole_where_the_space_before_a_word_is_stripped() {
    let strip = |tokenizer: &mut serde_json::Value| {
        let replaced = |pattern, by| json!({"type": "Replace", "pattern": pattern, "content": by});
        tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": true, "strip_right": true},
            replaced(json!({"String": "\n"}), " "), replaced(json!({"Regex": " {2,}"}), " ")]});
        tokenizer["pre_tokenizer"]["prepend_scheme"] = "always".into();
    };
    let encoder = support::changed("unigram", strip);
    let text = "Some words in a line, and more of them.\nThe next line. ";
    check_encoded_as_a_whole(&encoder, text);
    let (pieces, whole) =
        (&encoder.encode_all(&[text]).unwrap()[0], encoder.tokenizer().encode(text, false).unwrap());
    let spans = pieces.begin.iter().zip(&pieces.end).map(|(&begin, &end)| (begin as usize, end as usize));
    assert_eq!(spans.collect::<Vec<_>>(), whole.get_offsets());
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.txt");
    std::fs::write(&corpus, "one").unwrap();
    support::write_changed("unigram", folder.path(), strip);
    let mut config = support::config(&[corpus]);
    config.tokenizer = folder.path().into();
    assert_eq!(recipe(&config).unwrap().config["probe"], "spans");
}

/// `tokenizers` counts the characters that it trims off a span as bytes.
#[test]
fn spans_lie_between_characters() {
    let text = "the\u{a0}<mask> ";
    let pieces = &ENCODERS[1].encode_all(&[text]).unwrap()[0];
    let spans = tokens_of(&pieces.ids, &pieces.begin, &pieces.end, text);
    assert_eq!(spans.last().unwrap(), &(225, String::new()));
    assert_eq!(spans[spans.len() - 2], (ENCODERS[1].special().mask, "<mask>".to_string()));
}

#[test]
fn short_rows_are_dropped_only_if_asked() {
    let encoder = &ENCODERS[0];
    let texts = ["one two three four five six seven".to_string(), "eight".to_string()];
    let packing = Packing { seq_len: 8, max_documents_per_row: 1, min_row_tokens: 2 };
    let lengths =
        |packing| pack(encoder, packing, &texts).1.iter().map(|row| row.ids.len()).collect::<Vec<_>>();
    assert_eq!(lengths(packing), [8]);
    assert_eq!(lengths(Packing { min_row_tokens: 1, ..packing }), [8, 3, 3]);
}

#[test]
fn what_stands_before_texts_separates_them_where_nothing_stands_behind() {
    let encoder = support::changed("wordpiece", |json| {
        let single = json["post_processor"]["single"].as_array_mut().unwrap();
        single.truncate(2);
    });
    let texts = ["one two", "three"].map(String::from);
    let (_, rows) =
        pack(&encoder, Packing { seq_len: 16, max_documents_per_row: 0, min_row_tokens: 1 }, &texts);
    let shown = encoder.tokenizer().decode(&rows[0].ids, false).unwrap();
    assert_eq!(shown, "[CLS] one two [CLS] three");
}

#[test]
fn documents_share_rows_with_a_separator_between_them() {
    let encoder = &ENCODERS[0];
    let texts = ["one two", "three", "four"].map(String::from);
    let packing = Packing { seq_len: 16, max_documents_per_row: 2, min_row_tokens: 1 };
    let (_, rows) = pack(encoder, packing, &texts);
    let shown: Vec<_> = rows.iter().map(|row| encoder.tokenizer().decode(&row.ids, false).unwrap()).collect();
    assert_eq!(shown, ["[CLS] one two [SEP] three [SEP]", "[CLS] four [SEP]"]);
    assert_eq!((rows[0].text.as_str(), rows[0].doc, rows[1].doc), ("one two\nthree", 0, 2));
    assert_eq!(rows[0].word, [None, Some(0), Some(1), None, Some(2), None]);
}
