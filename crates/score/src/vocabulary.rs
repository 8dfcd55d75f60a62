//! A tokenizer from its files: as `tokenizer.json` describes it, or as that of older checkpoints with vocabulary files.

use std::path::Path;

use anyhow::{Result, anyhow};
use entromask_encoder::tokenizer::Source;
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
pub(crate) fn build(source: &Source, config: &Map<String, Value>) -> Result<Tokenizer> {
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

    use entromask_encoder::tokenizer::read_json;

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
