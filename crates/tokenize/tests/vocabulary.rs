//! Learning vocabularies: what comes out, and that it is always the same.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use entromask_tokenize::{Config, SpecialTokens, TextEncoder, learn};
use serde_json::Value;
use support::{encoder, tokenizer};

const SIZE: usize = 400;

/// Sentences of words that are made of few syllables, some in capitals and with accents, and a rare letter.
fn corpus(folder: &Path) -> Config {
    let syllables = ["ma", "ri", "TO", "né", "lu", "sha", "Ki", "ven"];
    let word = |n: usize| -> String {
        (0..=n % 4).map(|i| syllables[(n * 7 + i * i + n / 11) % syllables.len()]).collect()
    };
    let document = |n: usize| (0..60).map(|i| word(n * 31 + i * 5) + " ").collect::<String>() + "ǂ.";
    let text = (0..80).map(document).collect::<Vec<_>>().join("\n\n");
    let file = folder.join("corpus.txt");
    std::fs::write(&file, text).unwrap();
    // It need not be there, nor be named.
    let tokenizer = PathBuf::new();
    Config { valid_fraction: 0.1, tokenizer, ..support::config(&[file]) }
}

fn learned(family: &str, out: &Path) -> (TextEncoder, Config) {
    let config = corpus(out.parent().unwrap());
    let learned = learn(&config, &tokenizer(family), SIZE, out).unwrap();
    let loaded = TextEncoder::load(out).unwrap();
    assert_eq!(learned.vocab_size, loaded.vocab_size());
    // About a tenth of the documents is held out.
    assert!((60..80).contains(&learned.documents), "{}", learned.documents);
    (loaded, config)
}

#[test]
fn special_tokens_come_first_and_stand_where_they_did() {
    for family in ["wordpiece", "byte_bpe"] {
        let folder = tempfile::tempdir().unwrap();
        let (new, _) = learned(family, &folder.path().join("new"));
        let old = encoder(family);
        let names = |encoder: &TextEncoder, ids: Vec<u32>| -> Vec<String> {
            ids.into_iter().map(|id| encoder.tokenizer().id_to_token(id).unwrap()).collect()
        };
        let special = |encoder: &TextEncoder| {
            let tokens = encoder.special().clone();
            let ids = [tokens.pad, tokens.unk, tokens.cls, tokens.sep, Some(tokens.mask)];
            ids.into_iter().flatten().collect::<BTreeSet<u32>>()
        };
        assert_eq!(special(&new), (0..special(&old).len() as u32).collect());
        assert_eq!(
            names(&new, special(&new).into_iter().collect()),
            names(&old, special(&old).into_iter().collect())
        );
        let pair = |encoder: &TextEncoder| {
            let encoding = encoder.tokenizer().encode(("ma", "ri"), true).unwrap();
            let control = |id: &&u32| special(encoder).contains(*id);
            names(encoder, encoding.get_ids().iter().filter(control).copied().collect())
        };
        assert_eq!(pair(&new), pair(&old), "{family}");
    }
}

#[test]
fn words_of_the_corpus_become_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (new, _) = learned("wordpiece", &folder.path().join("new"));
    let tokens = |text: &str| new.tokenizer().encode(text, false).unwrap().get_tokens().to_vec();
    // In lower case and without accents, as the model tokenizer has it.
    assert_eq!(tokens("TO né"), ["to", "ne"]);
    assert_eq!(new.vocab_size(), new.tokenizer().get_vocab(false).len());
    let old = encoder("wordpiece");
    let length = |encoder: &TextEncoder, text: &str| encoder.tokenizer().encode(text, false).unwrap().len();
    let text = std::fs::read_to_string(folder.path().join("corpus.txt")).unwrap();
    assert!(3 * length(&new, &text) < 2 * length(&old, &text));
}

#[test]
fn the_cased_pattern_keeps_accents() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("corpus.txt");
    std::fs::write(&file, "Müller über Äpfel\n\n".repeat(3)).unwrap();
    let out = folder.path().join("new");
    learn(&support::config(&[file]), &support::workspace("data/tokenizers/cased-pattern"), 100, &out)
        .unwrap();
    let new = TextEncoder::load(&out).unwrap();
    let encoding = new.tokenizer().encode("Müller über Äpfel", true).unwrap();
    assert_eq!(encoding.get_tokens(), ["[CLS]", "Müller", "über", "Äpfel", "[SEP]"]);
}

#[test]
fn an_alphabet_grows_where_much_of_the_text_would_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("corpus.txt");
    // 2,500 Chinese characters, one of which is as frequent as all others.
    let text: Vec<String> = ('一'..).take(2500).map(|c| format!("{c}的")).collect();
    std::fs::write(&file, text.concat()).unwrap();
    let size = |size: usize| {
        let out = folder.path().join(size.to_string());
        let pattern = support::workspace("data/tokenizers/cased-pattern");
        learn(&support::config(std::slice::from_ref(&file)), &pattern, size, &out).unwrap().vocab_size
    };
    // All but one character in a thousand, and then as many as there is room for.
    assert_eq!(size(8192), 2496 + 5);
    assert_eq!(size(2000), 1500 + 5);
    assert_eq!(size(1100), 1000 + 5);
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    for family in ["wordpiece", "byte_bpe"] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |name: &str| {
            let out = folder.path().join(name);
            learned(family, &out);
            std::fs::read(out.join("tokenizer.json")).unwrap()
        };
        let first = bytes("0");
        // Hashes differ from map to map.
        assert!((1..5).all(|n| bytes(&n.to_string()) == first), "{family}");
    }
}

/// The tokenizer of a family, alone in a folder, after `change` of its `tokenizer.json`.
fn alone(family: &str, folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let file = tokenizer(family).join("tokenizer.json");
    let mut json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut json);
    let copy = folder.join(family);
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("tokenizer.json"), json.to_string()).unwrap();
    copy
}

#[test]
fn older_files_that_do_not_name_the_kind_are_patterns_too() {
    for family in ["wordpiece", "byte_bpe"] {
        let folder = tempfile::tempdir().unwrap();
        let (_, config) = learned(family, &folder.path().join("new"));
        let nameless = |json: &mut Value| {
            json["model"].as_object_mut().unwrap().remove("type").expect("it is named");
        };
        let pattern = alone(family, folder.path(), nameless);
        learn(&config, &pattern, SIZE, &folder.path().join("again")).unwrap();
        let tokens = |name: &str| std::fs::read(folder.path().join(name).join("tokenizer.json")).unwrap();
        assert_eq!(tokens("new"), tokens("again"), "{family}");
    }
}

#[test]
fn roles_that_no_configuration_names_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = alone("wordpiece", folder.path(), |_| ());
    let out = folder.path().join("new");
    learn(&corpus(folder.path()), &pattern, SIZE, &out).unwrap();
    let config = std::fs::read(out.join("tokenizer_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    for (role, name) in [("mask_token", "[MASK]"), ("cls_token", "[CLS]"), ("unk_token", "[UNK]")] {
        assert_eq!(config[role], name);
    }
}

#[test]
fn a_pattern_that_puts_nothing_around_a_text_is_one_too() {
    for family in ["wordpiece", "byte_bpe"] {
        let folder = tempfile::tempdir().unwrap();
        let pattern = alone(family, folder.path(), |json| json["post_processor"] = Value::Null);
        let out = folder.path().join("new");
        learn(&corpus(folder.path()), &pattern, SIZE, &out).unwrap();
        let written: Value =
            serde_json::from_slice(&std::fs::read(out.join("tokenizer.json")).unwrap()).unwrap();
        assert_eq!(written["post_processor"], Value::Null, "{family}");
    }
}

#[test]
fn special_tokens_that_only_stand_in_the_vocabulary_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = alone("wordpiece", folder.path(), |json| json["added_tokens"] = serde_json::json!([]));
    let out = folder.path().join("new");
    learn(&corpus(folder.path()), &pattern, SIZE, &out).unwrap();
    let new = TextEncoder::load(&out).unwrap();
    let encoding = new.tokenizer().encode("ma", true).unwrap();
    assert_eq!(encoding.get_tokens(), ["[CLS]", "ma", "[SEP]"]);
    assert_eq!(new.special(), &encoder_in_order(&new));
}

/// The special tokens of BERT, numbered from 0 in their old order.
fn encoder_in_order(new: &TextEncoder) -> SpecialTokens {
    let id = |name: &str| new.tokenizer().token_to_id(name);
    let ids = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(id);
    assert_eq!(ids, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    let [pad, unk, cls, sep, _] = ids;
    SpecialTokens { pad, unk, cls, sep, mask: 4, ..SpecialTokens::default() }
}

#[test]
fn what_cannot_be_learned_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (corpus(folder.path()), folder.path().join("new"));
    let fails = |config: &Config, like: &Path, size: usize, class: i32, named: &str| {
        let error = learn(config, like, size, &out).unwrap_err();
        assert!(format!("{error:#}").contains(named), "{error:#}");
        assert_eq!(i32::from(entromask_fault::class_of(error.as_ref()).exit_code()), class, "{error:#}");
        assert!(!out.exists() || support::files(&out).is_empty());
    };
    fails(&config, &tokenizer("unigram"), SIZE, 2, "Unigram");
    fails(&config, &tokenizer("wordpiece"), 5, 2, "5 tokens");
    fails(&config, &tokenizer("byte_bpe"), 261, 2, "256 letters and 5 special tokens");
    fails(&config, &tokenizer("byte_bpe"), (1 << 24) + 1, 2, "--size 16777217; choose some thousands");
    fails(&config, &tokenizer("wordpiece"), usize::MAX, 2, "--size");
    fails(&config, Path::new("nowhere"), SIZE, 3, "nowhere");
    let missing = Config { files: vec!["nowhere.txt".into()], ..config.clone() };
    fails(&missing, &tokenizer("wordpiece"), SIZE, 3, "nowhere.txt");
    let short = Config { min_chars: 100_000, ..config.clone() };
    fails(&short, &tokenizer("wordpiece"), SIZE, 3, "no training documents");

    // Looked at before the text is, which here is none.
    let below = folder.path().join("corpus.txt/below");
    let error = learn(&short, &tokenizer("byte_bpe"), SIZE, &below).unwrap_err();
    assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2, "{error:#}");
    assert!(error.to_string().contains("choose another --out"), "{error:#}");

    std::fs::write(out.join("special_tokens_map.json"), "{}").unwrap();
    let error = learn(&config, &tokenizer("byte_bpe"), SIZE, &PathBuf::from(&out)).unwrap_err();
    assert!(error.to_string().contains("there is a tokenizer already"), "{error}");
    std::fs::remove_file(out.join("special_tokens_map.json")).unwrap();

    learned("byte_bpe", &out);
    let error = learn(&config, &tokenizer("byte_bpe"), SIZE, &PathBuf::from(&out)).unwrap_err();
    assert!(error.to_string().contains("there is a tokenizer already"), "{error}");
}

/// `entromask-tokenize vocabulary` for a `corpus.txt` in `folder`.
fn command(folder: &Path, like: &str, out: &str) -> Command {
    let files = format!("files=['{}']", folder.join("corpus.txt").display());
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("entromask-tokenize"));
    command.args(["vocabulary", "--size", "60", "--set", &files, "--like"]);
    command.arg(support::workspace("data/tokenizers").join(like)).arg("--out").arg(folder.join(out));
    command
}

#[test]
fn a_vocabulary_says_what_becomes_of_accents() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("corpus.txt"), "Müller über Äpfel\n\n".repeat(20)).unwrap();
    for (like, manner, warned) in [
        ("bert-base-uncased", "lower-cases, strips accents", true),
        ("cased-pattern", "keeps case, keeps accents", false),
    ] {
        let output = command(folder.path(), like, like).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains(manner), "{stderr}");
        let doubts = stderr.contains("lose their accents") && stderr.contains("cased-pattern");
        assert_eq!(doubts, warned, "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_vocabulary_does_not_promise_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let text: Vec<String> = (0..400_000).map(|n| format!("Document {n} says: so be it.")).collect();
    std::fs::write(folder.path().join("corpus.txt"), text.join("\n\n")).unwrap();
    let out = folder.path().join("out");
    let mut command = command(folder.path(), "bert-base-uncased", "out");
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    while !out.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it read");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("which begins anew") && !stderr.contains("to resume"), "{stderr}");
    assert!(support::files(&out).is_empty());
}
