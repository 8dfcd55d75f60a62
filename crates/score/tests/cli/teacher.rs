//! A teacher whose tokenizer is another than the corpus's.

use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use entromask_artifact::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};
use entromask_encoder::{Batch, MaskedLm};
use entromask_kernels::head_entropy_reference;
use entromask_tables::{Entropies, Ragged, Tokens};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::world::{World, write_model_without_tokenizer};

/// Text with accents, an emoji, runs of spaces, punctuation, and a line feed between two documents.
const ROWS: [&str; 5] = [
    "One evening I was lounging in an easy chair in my bedroom and thinking lazily of the condition of womanhood.",
    "Café naïve: “déjà vu”, she said — twice!   Then 😀 nothing.",
    "first document\nsecond document",
    "short",
    "",
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A corpus in the word pieces of BERT and a teacher with byte-level BPE.
fn world(positions: usize) -> World {
    let world = World::new();
    fs_err::remove_dir_all(world.path("tokens")).expect("removes");
    write_corpus(&world.path("tokens"));
    fs_err::remove_dir_all(world.path("model")).expect("removes");
    write_model_without_tokenizer(&world.path("model"), 4096, positions);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let from = repository("tests/fixtures/tokenizers/byte_bpe").join(file);
        fs_err::copy(from, world.path("model").join(file)).expect("copies");
    }
    world
}

fn write_corpus(dir: &Path) {
    let file = repository("data/tokenizers/bert-base-uncased/tokenizer.json");
    let tokenizer = Tokenizer::from_file(&file).expect("a tokenizer");
    let recipe = Recipe { kind: Kind::Tokens, config: json!({"seq_len": 64}), inputs: vec![] };
    let bench = Workbench::open(dir, recipe, tool("handmade", "0", &[])).expect("opens");
    let part = bench.part_name("part", 0);
    bench.write(&part, |path| corpus(&tokenizer).write(path, &bench.footer())).expect("writes");
    bench.write_bytes("tokenizer.json", &fs_err::read(file).expect("reads")).expect("writes");
    let special = json!({"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103});
    let outputs = vec![OutputSpec::part(part, ROWS.len() as u64), OutputSpec::file("tokenizer.json")];
    let stats = json!({"vocab_size": 30522, "special": special});
    bench.publish(outputs, stats, Cost::default()).expect("publishes");
}

fn corpus(tokenizer: &Tokenizer) -> Tokens {
    let mut tokens = Tokens::default();
    for (number, text) in ROWS.into_iter().enumerate() {
        let encoding = tokenizer.encode(text, true).expect("encodes");
        tokens.row.push(number as u64);
        tokens.doc.push(number as u64);
        tokens.text.push(text.into());
        tokens.input_ids.push(encoding.get_ids().iter().copied());
        tokens.word.push(encoding.get_word_ids().iter().map(|word| word.map(|word| word as u16)));
        tokens.begin.push(encoding.get_offsets().iter().map(|offsets| offsets.0 as u32));
        tokens.end.push(encoding.get_offsets().iter().map(|offsets| offsets.1 as u32));
    }
    tokens
}

fn tokens(world: &World) -> Tokens {
    let dir = world.path("tokens");
    let manifest = entromask_artifact::Manifest::load(&dir, Kind::Tokens).expect("a manifest");
    let part = manifest.parts("part").next().expect("a part").file.clone();
    Tokens::read(&dir.join(part), entromask_tables::TokenColumns::ALL).expect("reads")
}

/// Sum over each word of a row.
fn word_sums(tokens: &Tokens, row: usize, values: &Ragged<Option<f32>>) -> Vec<f32> {
    let mut sums = Vec::new();
    for (word, value) in tokens.word.row(row).iter().zip(values.row(row)) {
        if let (Some(word), Some(value)) = (word, value) {
            sums.resize(usize::from(*word) + 1, 0.0);
            sums[usize::from(*word)] += value;
        }
    }
    sums
}

#[test]
fn every_token_of_the_corpus_gets_a_value() {
    let world = world(64);
    world.score("out", &["--set", r#"measures=["margin", "renyi2"]"#]).assert().success();
    let (tokens, scores) = (tokens(&world), &world.scores("out")[0]);
    assert_eq!(scores.entropy.offsets, tokens.input_ids.offsets);
    for (word, values) in tokens.word.iter().zip(scores.entropy.iter()) {
        let maskable: Vec<bool> = word.iter().map(Option::is_some).collect();
        assert_eq!(values.iter().map(Option::is_some).collect::<Vec<_>>(), maskable);
    }
    let manifest = world.manifest("out");
    assert_eq!(manifest.config["carry"], "sum");
    assert_eq!(manifest.inputs[2].role, "teacher_tokenizer");
    assert!(manifest.stats["max_entropy"].is_null());
    let file = world.path("out").join(&manifest.outputs[0].file);
    let margins = Entropies::read_measures(&file, &["margin"]).expect("reads").measures["margin"].clone();
    assert!(margins.values.iter().flatten().all(|margin| (0.0..=1.0).contains(margin)));
}

/// A teacher's token with its scores.
struct Exact {
    span: Range<usize>,
    entropy: f32,
    surprisal: f32,
}

/// One token masked at a time by hand, with the teacher's own mask and special tokens.
fn exact(world: &World, text: &str) -> Vec<Exact> {
    let tokenizer = Tokenizer::from_file(world.path("model").join("tokenizer.json")).expect("a tokenizer");
    let mask = tokenizer.token_to_id("<mask>").expect("a mask");
    let (model, _) = MaskedLm::from_pretrained(&world.path("model"), &Device::flex()).expect("loads");
    let encoding = tokenizer.encode(text, true).expect("encodes");
    let real = |&place: &usize| encoding.get_special_tokens_mask()[place] == 0;
    let score = |place: usize| {
        let mut ids = encoding.get_ids().to_vec();
        let target = Tensor::from_ints([ids[place] as i32], &Device::flex());
        ids[place] = mask;
        let hidden = model.hidden(&Batch::from_rows(&[ids], 0, &Device::flex()));
        let state = model.transform(hidden.slice([0..1, place..place + 1]).reshape([1, 16]));
        let (weight, bias) = model.decoder();
        let (entropy, surprisal) = head_entropy_reference(state, weight, bias, target);
        let (begin, end) = encoding.get_offsets()[place];
        Exact { span: begin..end, entropy: entropy.into_scalar(), surprisal: surprisal.into_scalar() }
    };
    (0..encoding.len()).filter(real).map(score).collect()
}

/// The bytes of each word of a row.
fn word_spans(tokens: &Tokens, row: usize) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let pieces = tokens.word.row(row).iter().zip(tokens.begin.row(row).iter().zip(tokens.end.row(row)));
    for (word, (&begin, &end)) in pieces {
        match word {
            Some(word) if usize::from(*word) < spans.len() => spans[usize::from(*word)].end = end as usize,
            Some(_) => spans.push(begin as usize..end as usize),
            None => {}
        }
    }
    spans
}

/// The words of this row are whole words of the BPE too.
#[test]
fn words_keep_the_sums_of_the_teachers_tokens() {
    let world = world(64);
    world.score("out", &["--set", "conditioning=mask-each"]).assert().success();
    let (tokens, scores) = (tokens(&world), &world.scores("out")[0]);
    let exact = exact(&world, ROWS[0]);
    let sums = [&scores.entropy, &scores.surprisal].map(|column| word_sums(&tokens, 0, column));
    let spans = word_spans(&tokens, 0);
    assert!(spans.len() > 15 && exact.len() > spans.len());
    for (number, span) in spans.iter().enumerate() {
        let inside: Vec<&Exact> = exact
            .iter()
            .filter(|token| token.span.start >= span.start && token.span.end <= span.end)
            .collect();
        let name = &ROWS[0][span.clone()];
        assert_eq!(inside.iter().map(|token| token.span.len()).sum::<usize>(), span.len(), "{name}");
        let entropy: f32 = inside.iter().map(|token| token.entropy).sum();
        let surprisal: f32 = inside.iter().map(|token| token.surprisal).sum();
        assert!((sums[0][number] - entropy).abs() < 1e-3, "{name}");
        assert!((sums[1][number] - surprisal).abs() < 1e-3, "{name}");
    }
}

#[test]
fn rows_that_are_too_long_are_read_in_windows() {
    let world = world(14);
    world.score("out", &["--set", "carry=mean"]).assert().success();
    let (tokens, scores) = (tokens(&world), &world.scores("out")[0]);
    for (word, values) in tokens.word.iter().zip(scores.entropy.iter()) {
        assert!(word.iter().zip(values).all(|(word, value)| word.is_some() == value.is_some()));
    }
    let limit = 4096f32.ln();
    assert!(scores.entropy.values.iter().flatten().all(|&value| (0.0..=limit + 1e-4).contains(&value)));
}

/// A window hides of what it reads what a whole row would, and so windows that read twice as much as they score take fewer
/// passes, not as many.
#[test]
fn windows_take_as_many_passes_as_hide_the_usual_share() {
    let cost = |positions, set: &str| {
        let world = world(positions);
        world.score("out", &["--set", set]).assert().success();
        world.manifest("out").cost.tokens as f64
    };
    let [folds, once] = ["folds=7", "conditioning=unmasked"].map(|set| cost(34, set));
    let [folds_of_whole_rows, whole_rows] = ["folds=7", "conditioning=unmasked"].map(|set| cost(64, set));
    assert!(once > 1.2 * whole_rows, "windows overlap: {once} and {whole_rows} tokens");
    assert!(folds < 1.2 * folds_of_whole_rows, "{folds} and {folds_of_whole_rows} tokens");
}

#[test]
fn a_sample_has_the_values_of_the_whole() {
    let world = world(14);
    world.score("whole", &[]).assert().success();
    world.score("rows", &["--rows", "2"]).assert().success();
    let (whole, rows) = (&world.scores("whole")[0].entropy, &world.scores("rows")[0].entropy);
    for row in 0..ROWS.len() {
        let expected = if row < 2 { whole.row(row).to_vec() } else { vec![None; whole.len_of(row)] };
        assert_eq!(rows.row(row), expected);
    }
}

#[test]
fn neither_threads_nor_batches_nor_shards_change_a_byte() {
    let world = world(14);
    world.score("usual", &[]).assert().success();
    world.score("other", &["--threads", "1", "--set", "run.batch_tokens=1"]).assert().success();
    world.score("shard", &["--shard", "1/1"]).assert().success();
    world.score("shard", &["--finalize"]).assert().success();
    for out in ["other", "shard"] {
        assert_eq!(world.manifest(out).content, world.manifest("usual").content);
        assert_eq!(world.manifest(out).cost.tokens, world.manifest("usual").cost.tokens);
    }
}

#[test]
fn the_tokenizer_and_the_rule_decide_the_key() {
    let world = world(64);
    world.score("out", &[]).assert().success();
    let again = world.score("out", &["--dry-run"]).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    let rule = world.score("out", &["--dry-run", "--set", "carry=mean"]).assert().success();
    assert!(String::from_utf8_lossy(&rule.get_output().stdout).contains(r#"carry: "sum" -> "mean""#));
    let config = world.path("model").join("tokenizer_config.json");
    let mut value: Value = serde_json::from_slice(&fs_err::read(&config).expect("reads")).expect("JSON");
    value["mask_token"] = json!("<unk>");
    fs_err::write(&config, value.to_string()).expect("writes");
    let changed = world.score("out", &["--dry-run"]).assert().success();
    assert!(String::from_utf8_lossy(&changed.get_output().stdout).contains("teacher_tokenizer"));
}

#[test]
fn special_tokens_of_other_roles_are_told_in_the_key() {
    let world = world(64);
    world.score("out", &[]).assert().success();
    assert!(world.manifest("out").config.get("special").is_none());
    world.edit_json("model/tokenizer.json", |tokenizer| {
        let mut added = tokenizer["added_tokens"][0].clone();
        (added["content"], added["id"]) = (json!("<|reserved|>"), json!(4096));
        tokenizer["added_tokens"].as_array_mut().expect("a list").push(added);
    });
    world.score("others", &[]).assert().success();
    assert_eq!(world.manifest("others").config["special"], "all");
}

#[test]
fn who_scores_is_told_of_another_tokenizer_and_who_needs_the_corpus_s_what_to_do() {
    let world = world(64);
    let told = world.score("out", &["--set", "carry=mean"]).assert().success();
    let stderr = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
    assert!(stderr.contains("another tokenizer") && stderr.contains(r#"carry = "mean""#), "{stderr}");
    let mut logits = world.command();
    logits.args(["logits", "--out", "logits.safetensors"]).arg("--tokens").arg(world.path("tokens"));
    let refused = logits.arg("--model").arg(world.path("model")).assert().code(3);
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("tokenize the corpus with this model's tokenizer"), "{stderr}");
}

#[test]
fn vocabulary_files_do_where_there_is_no_tokenizer_json() {
    let world = world(64);
    world.score("whole", &[]).assert().success();
    let model = world.path("model");
    let whole: Value =
        serde_json::from_slice(&fs_err::read(model.join("tokenizer.json")).expect("reads")).expect("JSON");
    let mut vocab = whole["model"]["vocab"].as_object().expect("a vocabulary").clone();
    for token in whole["added_tokens"].as_array().expect("a list") {
        vocab.insert(token["content"].as_str().expect("a name").into(), token["id"].clone());
    }
    let merges = whole["model"]["merges"].as_array().expect("a list").iter().map(|merge| match merge {
        Value::Array(pair) => {
            format!("{} {}\n", pair[0].as_str().expect("text"), pair[1].as_str().expect("text"))
        }
        merge => format!("{}\n", merge.as_str().expect("text")),
    });
    fs_err::write(model.join("vocab.json"), Value::Object(vocab).to_string()).expect("writes");
    fs_err::write(model.join("merges.txt"), format!("#version: 0.2\n{}", merges.collect::<String>()))
        .expect("writes");
    fs_err::remove_file(model.join("tokenizer.json")).expect("removes");
    let companion = model.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs_err::read(&companion).expect("reads")).expect("JSON");
    config["tokenizer_class"] = "RobertaTokenizer".into();
    fs_err::write(companion, config.to_string()).expect("writes");
    world.score("files", &[]).assert().success();
    assert_eq!(world.scores("whole"), world.scores("files"));
}

#[test]
fn without_a_tokenizer_a_smaller_vocabulary_is_refused() {
    let world = world(64);
    fs_err::remove_file(world.path("model").join("tokenizer.json")).expect("removes");
    let done = world.score("out", &[]).assert().code(3);
    let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    for word in ["30522", "4096", "put the tokenizer.json"] {
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn a_tokenizer_that_is_not_read_is_not_taken_for_the_corpus_s() {
    for file in ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.json"] {
        let world = World::new();
        fs_err::rename(world.path("model/tokenizer.json"), world.path("model").join(file)).expect("renames");
        let done = world.score("out", &[]).assert().code(3);
        let stderr = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        assert!(stderr.contains(file) && stderr.contains("use_fast=True).save_pretrained("), "{stderr}");
    }
}

/// The corpus's vocabulary, but the model was trained with a mask token that was added to it.
#[test]
fn a_mask_of_its_own_is_used_although_the_vocabulary_is_the_corpus_s() {
    let world = world(64);
    let file = "model/tokenizer.json";
    write_model_without_tokenizer(&world.path("model"), 30_523, 64);
    fs_err::copy(world.path("tokens/tokenizer.json"), world.path(file)).expect("copies");
    world.edit_json(file, |tokenizer| {
        let mut added = tokenizer["added_tokens"][0].clone();
        (added["content"], added["id"]) = (json!("<blank>"), json!(30_522));
        tokenizer["added_tokens"].as_array_mut().expect("a list").push(added);
    });
    fs_err::write(world.path("model/tokenizer_config.json"), r#"{"mask_token": "<blank>"}"#).expect("writes");
    world.score("own", &[]).assert().success();
    assert_eq!(world.manifest("own").inputs[2].role, "teacher_tokenizer");
    world.edit_json("tokens/manifest.json", |tokens| tokens["stats"]["special"]["mask"] = json!(30_522));
    world.score("same", &[]).assert().success();
    assert_eq!(world.manifest("same").inputs.len(), 2, "now the corpus says the same");
    let [own, same] = ["own", "same"].map(|out| world.scores(out)[0].entropy.clone());
    assert!(own.values.iter().flatten().count() > 30);
    for (own, same) in own.values.iter().zip(&same.values) {
        assert!((own.unwrap_or(-1.0) - same.unwrap_or(-1.0)).abs() < 1e-3, "{own:?} is not {same:?}");
    }
}

#[test]
fn a_tokenizer_without_a_mask_is_refused() {
    let world = world(64);
    let config = world.path("model").join("tokenizer_config.json");
    fs_err::write(config, r#"{"mask_token": "<blank>"}"#).expect("writes");
    let done = world.score("out", &[]).assert().code(3);
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("no mask token"));
}
