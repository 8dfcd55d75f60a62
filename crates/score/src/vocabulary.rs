//! A tokenizer from its files: as `tokenizer.json` describes it, or as that of older checkpoints with vocabulary files.

use std::path::Path;

use anyhow::{Result, anyhow};
use entromask_encoder::tokenizer::{Source, complete, content, read_json};
use entromask_fault::Fault;
use serde_json::{Map, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The tokenizer of `source`; `config` is what `tokenizer_config.json` says.
///
/// # Errors
/// An input fault if a file cannot be read, or vocabulary files are those of another class than the usual one.
pub(crate) fn build(source: &Source, config: &Map<String, Value>) -> Result<Tokenizer> {
    check_class(source, config)?;
    let built = match source {
        Source::Complete(file) => Tokenizer::from_file(file),
        Source::WordPiece(file) => word_piece(file, config),
        Source::ByteLevel(vocab, merges) => byte_level(vocab, merges, config),
    };
    built.map_err(|error| {
        let file = source.files().swap_remove(0);
        Fault::input(format!("{}: not a tokenizer: {error}", file.display()))
            .remedy("use the tokenizer files as Hugging Face writes them")
            .into()
    })
}

/// Classes of `transformers` whose vocabulary files are read as that of the first one.
const WORD_PIECE: [&str; 5] =
    ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer", "ConvBertTokenizer"];
const BYTE_LEVEL: [&str; 3] = ["RobertaTokenizer", "LongformerTokenizer", "BartTokenizer"];

/// Vocabulary files do not say how a text becomes tokens; that is in the code of the class. Nor do they have added tokens.
fn check_class(source: &Source, config: &Map<String, Value>) -> Result<()> {
    let known: &[&str] = match source {
        Source::Complete(_) => return Ok(()),
        Source::WordPiece(_) => &WORD_PIECE,
        Source::ByteLevel(..) => &BYTE_LEVEL,
    };
    let file = source.files().swap_remove(0);
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    let named = config.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned);
    let class = match named {
        Some(class) => Some(class),
        None => class_of_model(dir)?,
    };
    let is_known = |class: &String| known.contains(&class.trim_end_matches("Fast"));
    let problem = if config.contains_key("auto_map") {
        "code of its own (auto_map in tokenizer_config.json)".to_owned()
    } else if let Some(class) = class.filter(|class| !is_known(class)) {
        format!("{class}, which is not read without its tokenizer.json")
    } else if let Some(token) = added(dir, config)?.into_iter().find(|token| !has(source, token)) {
        format!("an added token, {token:?}, which is not in it")
    } else {
        return Ok(());
    };
    Err(Fault::input(format!("{}: the vocabulary of a tokenizer with {problem}", file.display()))
        .remedy(complete(dir))
        .into())
}

/// As older checkpoints name it.
fn class_of_model(dir: &Path) -> Result<Option<String>> {
    let config = dir.join("config.json");
    if !config.is_file() {
        return Ok(None);
    }
    let config: Value = read_json(&config)?;
    Ok(config["tokenizer_class"].as_str().map(str::to_owned))
}

fn added(dir: &Path, config: &Map<String, Value>) -> Result<Vec<String>> {
    let file = dir.join("added_tokens.json");
    let listed: Map<String, Value> = if file.is_file() { read_json(&file)? } else { Map::new() };
    let described = config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let described = described.filter_map(|(_, token)| content(token)).map(str::to_owned);
    Ok(listed.into_iter().map(|(token, _)| token).chain(described).collect())
}

fn has(source: &Source, token: &str) -> bool {
    source.ids().is_ok_and(|ids| ids.contains_key(token))
}

/// The fault of a folder without any of these files.
pub(crate) fn missing(dir: &Path) -> anyhow::Error {
    Fault::input(format!("{}: no tokenizer.json, vocab.txt, or vocab.json with merges.txt", dir.display()))
        .remedy("put the tokenizer of the model into its folder")
        .into()
}

/// As `BertTokenizer`: lower-cased unless the configuration says otherwise, `[CLS] … [SEP]`.
fn word_piece(file: &Path, config: &Map<String, Value>) -> tokenizers::Result<Tokenizer> {
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let model = WordPiece::from_file(&file.to_string_lossy()).unk_token("[UNK]".into()).build()?;
    let normalizer = BertNormalizer::new(
        true,
        flag("tokenize_chinese_chars").unwrap_or(true),
        flag("strip_accents"),
        flag("do_lower_case").unwrap_or(true),
    );
    let mut tokenizer = Tokenizer::new(model);
    add_special(&mut tokenizer, &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])?;
    let around = BertProcessing::new(named(&tokenizer, "[SEP]")?, named(&tokenizer, "[CLS]")?);
    tokenizer.with_normalizer(Some(normalizer))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer)).with_post_processor(Some(around));
    Ok(tokenizer)
}

/// As `RobertaTokenizer`: `<s> … </s>`, the mask takes the space before it.
fn byte_level(vocab: &Path, merges: &Path, config: &Map<String, Value>) -> tokenizers::Result<Tokenizer> {
    let prefix_space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    add_special(&mut tokenizer, &["<pad>", "<unk>", "<s>", "</s>"])?;
    if tokenizer.token_to_id("<mask>").is_some() {
        tokenizer.add_special_tokens([AddedToken::from("<mask>", true).lstrip(true)])?;
    }
    let around = RobertaProcessing::new(named(&tokenizer, "</s>")?, named(&tokenizer, "<s>")?);
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)))
        .with_post_processor(Some(around.trim_offsets(true).add_prefix_space(prefix_space)));
    Ok(tokenizer)
}

/// Marks those of `names` as special that the vocabulary has.
fn add_special(tokenizer: &mut Tokenizer, names: &[&str]) -> tokenizers::Result<()> {
    let known = names.iter().filter(|name| tokenizer.token_to_id(name).is_some());
    let tokens: Vec<_> = known.map(|&name| AddedToken::from(name, true)).collect();
    tokenizer.add_special_tokens(tokens).map(drop)
}

fn named(tokenizer: &Tokenizer, name: &str) -> tokenizers::Result<(String, u32)> {
    let id = tokenizer.token_to_id(name).ok_or_else(|| anyhow!("the vocabulary has no {name}"))?;
    Ok((name.to_owned(), id))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
    }

    /// A thousand lines of many scripts.
    fn lines() -> Vec<String> {
        let text = fs_err::read_to_string(repository("tests/fixtures/tokens/lines.jsonl")).expect("reads");
        text.split_terminator('\n').map(|line| serde_json::from_str(line).expect("a string")).collect()
    }

    fn assert_same(complete: &Path, dir: &Path) -> Result<()> {
        let complete = build(&Source::Complete(complete.into()), &Map::new())?;
        let built = build(&Source::find(dir).expect("vocabulary files"), &Map::new())?;
        for line in lines() {
            let [found, expected] =
                [&built, &complete].map(|by| by.encode(line.as_str(), true).expect("encodes"));
            assert_eq!(found.get_ids(), expected.get_ids(), "{line:?}");
            assert_eq!(found.get_offsets(), expected.get_offsets(), "{line:?}");
            assert_eq!(found.get_word_ids(), expected.get_word_ids(), "{line:?}");
        }
        Ok(())
    }

    #[test]
    fn vocab_txt_makes_berts_tokenizer() -> Result<()> {
        let (dir, file) =
            (tempfile::tempdir()?, repository("data/tokenizers/bert-base-uncased/tokenizer.json"));
        let vocabulary = Source::Complete(file.clone()).vocabulary()?;
        let mut tokens: Vec<(&String, u64)> = vocabulary
            .as_object()
            .expect("a map")
            .iter()
            .filter_map(|(token, id)| Some((token, id.as_u64()?)))
            .collect();
        tokens.sort_by_key(|(_, id)| *id);
        let lines: Vec<&str> = tokens.iter().map(|(token, _)| token.as_str()).collect();
        fs_err::write(dir.path().join("vocab.txt"), lines.join("\n") + "\n")?;
        let source = Source::find(dir.path()).expect("a vocabulary");
        assert_eq!(source.vocabulary()?, vocabulary);
        assert_same(&file, dir.path())
    }

    #[test]
    fn vocabulary_files_of_other_classes_are_refused() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"].join("\n");
        fs_err::write(dir.path().join("vocab.txt"), vocabulary)?;
        let problem = |config: Value| -> Option<String> {
            let config = config.as_object().expect("an object");
            let source = Source::find(dir.path()).expect("a vocabulary");
            build(&source, config).err().map(|error| error.to_string())
        };
        let added = |token: &str| json!({"added_tokens_decoder": {"5": {"content": token}}});
        for known in [json!({}), json!({"tokenizer_class": "DistilBertTokenizerFast"}), added("a")] {
            assert_eq!(problem(known.clone()), None, "{known}");
        }
        for (other, words) in [
            (json!({"tokenizer_class": "BertJapaneseTokenizer"}), "BertJapaneseTokenizer"),
            (json!({"tokenizer_class": "RobertaTokenizer"}), "RobertaTokenizer"),
            (json!({"auto_map": {"AutoTokenizer": ["tokenization.Mine", null]}}), "auto_map"),
            (added("<new>"), "\"<new>\""),
        ] {
            assert!(problem(other.clone()).is_some_and(|problem| problem.contains(words)), "{other}");
        }
        // Older checkpoints name it there.
        fs_err::write(dir.path().join("config.json"), r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#)?;
        assert!(
            problem(json!({})).is_some() && problem(json!({"tokenizer_class": "BertTokenizer"})).is_none()
        );
        Ok(())
    }

    #[test]
    fn vocab_json_and_merges_make_robertas_tokenizer() -> Result<()> {
        let (dir, file) =
            (tempfile::tempdir()?, repository("tests/fixtures/tokenizers/byte_bpe/tokenizer.json"));
        let mut whole: Value = read_json(&file)?;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let pair = |merge: &Value| {
            merge.as_array().map_or_else(|| text(merge), |pair| text(&pair[0]) + " " + &text(&pair[1]))
        };
        let merges: Vec<String> =
            whole["model"]["merges"].as_array().expect("a list").iter().map(pair).collect();
        fs_err::write(dir.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))?;
        fs_err::write(dir.path().join("vocab.json"), whole["model"]["vocab"].take().to_string())?;
        assert_same(&file, dir.path())
    }

    #[test]
    fn what_is_no_tokenizer_is_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(Source::find(dir.path()), None);
        fs_err::write(dir.path().join("vocab.txt"), "a\nb\n")?;
        let error = build(&Source::find(dir.path()).expect("a vocabulary"), &Map::new()).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        assert!(error.to_string().contains("vocab.txt"), "{error}");
        Ok(())
    }
}
