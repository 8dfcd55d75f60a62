//! The tokenizer in a model's folder, and whether it is that of a corpus.

mod files;

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_fault::Fault;
use serde_json::Value;

pub use self::files::{Source, complete, configured, content, read_json};
use self::files::{companions, refuse_unread};

/// Names that tokenizers without a configuration beside them give their special tokens.
pub const USUAL_NAMES: [(&str, [&str; 2]); 5] = [
    ("pad_token", ["[PAD]", "<pad>"]),
    ("unk_token", ["[UNK]", "<unk>"]),
    ("cls_token", ["[CLS]", "<s>"]),
    ("sep_token", ["[SEP]", "</s>"]),
    ("mask_token", ["[MASK]", "<mask>"]),
];

/// Roles that tokenizers in the manner of Llama have instead of `cls_token` and `sep_token`.
pub const ENDS: [&str; 2] = ["bos_token", "eos_token"];

/// Files of the tokenizer in the folder `model`, if it is another than that of the tokens in `tokens`: with another
/// vocabulary, without a token that was added to the corpus's, or with another token for the mask, the unknown or the ends of a text. `special` has the ids of the corpus's.
///
/// A folder without a tokenizer is taken to have the corpus's.
///
/// # Errors
/// An input fault if a file that is there cannot be read, or is in a format that is not.
pub fn foreign(model: &Path, tokens: &Path, special: &Value) -> Result<Option<Vec<PathBuf>>> {
    let Some(theirs) = Source::find(model) else {
        refuse_unread(model)?;
        return Ok(None);
    };
    let Some(ours) = Source::find(tokens) else { return Ok(None) };
    let same = same_bytes(&theirs, &ours)?
        || (theirs.vocabulary()? == ours.vocabulary()? && same_added(&theirs, &ours, special)?);
    if same && same_special(model, &theirs, special)? {
        return Ok(None);
    }
    let mut files = theirs.files();
    files.extend(companions(model));
    Ok(Some(files))
}

fn same_bytes(theirs: &Source, ours: &Source) -> Result<bool> {
    match (theirs.files().as_slice(), ours.files().as_slice()) {
        ([theirs], [ours]) => Ok(bytes(theirs)? == bytes(ours)?),
        _ => Ok(false),
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |error: std::io::Error| Fault::input(error.to_string()).remedy("fetch the tokenizer again");
    fs_err::read(file).map_err(|error| unreadable(error).into())
}

/// Whether the tokens that were added to `ours` have the same ids in `theirs`, but for those of the five usual roles.
fn same_added(theirs: &Source, ours: &Source, special: &Value) -> Result<bool> {
    let theirs = theirs.ids()?;
    let is_usual = |id: u64| USUAL_NAMES.iter().any(|(role, _)| id_of(special, role) == Some(id));
    let known = |(token, id): (String, u64)| is_usual(id) || theirs.get(&token) == Some(&id);
    Ok(ours.ids()?.into_iter().all(known))
}

/// Whether the special tokens that stand in rows are those of the corpus. A role that either does not name is as good as
/// equal; one that names a token which is not there is not.
fn same_special(model: &Path, theirs: &Source, special: &Value) -> Result<bool> {
    let (configured, ids) = (configured(model)?, theirs.ids()?);
    let agree = |(role, usual): (&str, &[&str])| {
        let Some(ours) = id_of(special, role) else { return true };
        match configured.get(role).and_then(content) {
            Some(name) => ids.get(name) == Some(&ours),
            None => usual.iter().find_map(|&name| ids.get(name)).is_none_or(|&id| id == ours),
        }
    };
    let usual = USUAL_NAMES.iter().map(|(role, usual)| (*role, usual.as_slice()));
    let stand_in_rows = usual.filter(|(role, _)| *role != "pad_token");
    Ok(stand_in_rows.chain(ENDS.map(|role| (role, [].as_slice()))).all(agree))
}

/// The id of the token that `special` has for a role, which is named as in a `tokenizer_config.json`.
fn id_of(special: &Value, role: &str) -> Option<u64> {
    special[role.trim_end_matches("_token")].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokenizer of a folder with one more token, added at the end.
    fn with_added(token: Option<&str>) -> Result<tempfile::TempDir> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/byte_bpe");
        let mut description: Value = read_json(&from.join("tokenizer.json"))?;
        let next = Source::find(&from).expect("has one").ids()?.into_values().max().expect("tokens") + 1;
        let added = description["added_tokens"].as_array_mut().expect("a list");
        added.extend(token.map(|token| serde_json::json!({"content": token, "id": next, "special": false})));
        let folder = tempfile::tempdir()?;
        fs_err::write(folder.path().join("tokenizer.json"), description.to_string())?;
        Ok(folder)
    }

    #[test]
    fn a_token_that_was_added_to_the_corpus_must_be_the_model_s() -> Result<()> {
        let corpus = with_added(Some("duncan"))?;
        for (token, is_foreign) in [(Some("duncan"), false), (Some("bellona"), true), (None, true)] {
            let model = with_added(token)?;
            let files = foreign(model.path(), corpus.path(), &serde_json::json!({}))?;
            assert_eq!(files.is_some(), is_foreign, "{token:?}");
        }
        let (model, corpus) = (with_added(Some("duncan"))?, with_added(None)?);
        assert!(foreign(model.path(), corpus.path(), &serde_json::json!({}))?.is_none(), "no row has it");
        Ok(())
    }

    #[test]
    fn files_that_editors_have_touched_are_read() -> Result<()> {
        let (corpus, model) = (with_added(None)?, tempfile::tempdir()?);
        let written = |name: &str, text: String| fs_err::write(model.path().join(name), text);
        written("tokenizer.json", fs_err::read_to_string(corpus.path().join("tokenizer.json"))?)?;
        written("tokenizer_config.json", "\u{feff}{}".into())?;
        assert!(foreign(model.path(), corpus.path(), &serde_json::json!({}))?.is_none());
        let lines = |text: &str| -> Result<usize> {
            fs_err::write(model.path().join("vocab.txt"), text)?;
            Ok(Source::WordPiece(model.path().join("vocab.txt")).ids()?.len())
        };
        assert_eq!([lines("[PAD]\na\n")?, lines("[PAD]\r\na\r\n\r\n")?, lines("[PAD]\n\na")?], [2, 2, 3]);
        Ok(())
    }

    #[test]
    fn begin_and_end_must_not_be_exchanged() -> Result<()> {
        let (model, corpus) = (with_added(Some("<|end|>"))?, with_added(Some("<|end|>"))?);
        let ids = Source::find(corpus.path()).expect("has one").ids()?;
        let special = serde_json::json!({"bos": ids["<s>"], "eos": ids["<|end|>"]});
        for (bos, eos, is_foreign) in [("<s>", "<|end|>", false), ("<|end|>", "<s>", true)] {
            let config = serde_json::json!({"bos_token": bos, "eos_token": {"content": eos}});
            fs_err::write(model.path().join("tokenizer_config.json"), config.to_string())?;
            assert_eq!(foreign(model.path(), corpus.path(), &special)?.is_some(), is_foreign, "{bos}");
        }
        Ok(())
    }

    #[test]
    fn tokens_of_other_roles_must_have_the_same_ids() -> Result<()> {
        let (corpus, model) = (with_added(Some("<|end|>"))?, with_added(Some("<|begin|>"))?);
        let id = Source::find(corpus.path()).expect("has one").ids()?["<|end|>"];
        for special in [serde_json::json!({"eos": id}), serde_json::json!({"other": [id]})] {
            assert!(foreign(model.path(), corpus.path(), &special)?.is_some(), "{special}");
        }
        Ok(())
    }
}
