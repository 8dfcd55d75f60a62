//! Special tokens of other roles than BERT's, as tokenizers in the manner of Llama have them.

mod support;

use std::path::Path;

use entromask_artifact::{Kind, Manifest};
use entromask_tokenize::{Config, TextEncoder, recipe};
use serde_json::{Value, json};

/// The byte-level tokenizer with tokens named in Llama's manner, a reserved one among them.
fn tokenizer(folder: &Path) {
    let text = std::fs::read_to_string(support::tokenizer("byte_bpe").join("tokenizer.json")).unwrap();
    let mut json: Value =
        serde_json::from_str(&text.replace("<s>", "<|begin|>").replace("</s>", "<|end|>")).unwrap();
    let id = json["model"]["vocab"].as_object().unwrap().len();
    let reserved = json!({"id": id, "content": "<|reserved|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    json["added_tokens"].as_array_mut().unwrap().push(reserved);
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
    let config =
        json!({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}, "mask_token": "<mask>"});
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

fn config(folder: &Path) -> Config {
    let file = folder.join("corpus.txt");
    std::fs::write(&file, "one <|end|> two <|reserved|> three <unk>").unwrap();
    support::config(&[file])
}

#[test]
fn tokens_of_all_roles_are_special() {
    let folder = tempfile::tempdir().unwrap();
    tokenizer(folder.path());
    let config = Config { tokenizer: folder.path().into(), ..config(folder.path()) };
    let out = folder.path().join("out");
    let special = support::tokenize(&config, &out).unwrap().stats.special;
    let reserved = TextEncoder::load(folder.path()).unwrap().vocab_size() as u32 - 1;
    assert_eq!((special.cls, special.sep, special.unk), (None, None, Some(3)));
    assert_eq!((special.bos, special.eos, &special.other), (Some(0), Some(2), &vec![reserved]));
    let rows = &support::rows(&out, "part")[0];
    for (&id, word) in rows.input_ids.row(0).iter().zip(rows.word.row(0)) {
        assert_eq!(word.is_none(), [0, 2, reserved].contains(&id), "{id}");
    }
    assert_eq!(rows.input_ids.row(0).iter().filter(|&&id| id == 2).count(), 2, "spelled out, and at the end");
    let copy: Value =
        serde_json::from_slice(&std::fs::read(out.join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!((&copy["bos_token"], &copy["eos_token"]), (&json!("<|begin|>"), &json!("<|end|>")));
    assert_eq!(copy["additional_special_tokens"], json!(["<|reserved|>"]));
    assert_eq!(TextEncoder::load(&out).unwrap().special(), &special);
    assert_eq!(Manifest::load(&out, Kind::Tokens).unwrap().config["special"], "all");
}

/// As `Tokenizer.save` writes it where nobody has set a post-processor.
#[test]
fn a_tokenizer_that_puts_nothing_around_a_text_is_handed_on_with_what_rows_have_there() {
    for processor in [
        Value::Null,
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    ] {
        let folder = tempfile::tempdir().unwrap();
        support::write_changed("byte_bpe", folder.path(), |json| json["post_processor"] = processor);
        let config = Config { tokenizer: folder.path().into(), ..config(folder.path()) };
        let out = folder.path().join("out");
        support::tokenize(&config, &out).unwrap();
        let rows = &support::rows(&out, "part")[0];
        let ids = rows.input_ids.row(0);
        assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&2)));
        let copy = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
        let text = std::fs::read_to_string(folder.path().join("corpus.txt")).unwrap();
        assert_eq!(copy.encode(text, true).unwrap().get_ids(), ids);
        assert_eq!(Manifest::load(&out, Kind::Tokens).unwrap().config["around"], "roles");
    }
}

#[test]
fn where_there_are_no_others_nothing_is_said_of_them() {
    for family in support::FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { tokenizer: support::tokenizer(family), ..config(folder.path()) };
        let out = folder.path().join("out");
        support::tokenize(&config, &out).unwrap();
        let manifest = Manifest::load(&out, Kind::Tokens).unwrap();
        assert!(manifest.config.get("special").is_none(), "{family}");
        assert_eq!(manifest.stats["special"].as_object().unwrap().len(), 5, "{family}");
    }
}

/// Where a usual name is an ordinary piece of the vocabulary, the added token with the other usual name has no role.
#[test]
fn a_token_that_a_piece_took_the_role_from_is_told_in_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut piece = 0;
    support::write_changed("byte_bpe", folder.path(), |tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        piece = vocabulary.len();
        vocabulary.insert("[CLS]".into(), piece.into());
    });
    let config = Config { tokenizer: folder.path().into(), ..config(folder.path()) };
    let special = TextEncoder::load(folder.path()).unwrap().special().clone();
    assert_eq!((special.cls, &special.other), (Some(piece as u32), &vec![0]));
    assert_eq!(recipe(&config).unwrap().config["special"], "all");
}

/// The letter that a text of Greek does not have is no token of it.
#[test]
fn what_stands_around_a_text_needs_no_letter() {
    let encoder = support::changed("byte_bpe", |json| {
        json["model"]["vocab"] = json!({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "b": 5});
        json["model"]["merges"] = json!([]);
        json["model"]["unk_token"] = Value::Null;
    });
    assert!(encoder.encode_all(&["a"]).unwrap()[0].ids.is_empty());
    assert_eq!(encoder.around(), &[vec![0], vec![2]]);
}

#[test]
fn words_are_not_split_by_chance() {
    let text = "some words that merges would leave whole, one after the other, again and again";
    let ids = |encoder: &TextEncoder| encoder.encode_all(&[text]).unwrap()[0].ids.clone();
    let by_chance = support::changed("byte_bpe", |json| json["model"]["dropout"] = json!(0.5));
    assert_eq!(ids(&by_chance), ids(&support::encoder("byte_bpe")));
}
