//! The tokenizer's special tokens by role, and where it puts them.

use std::path::{Path, PathBuf};

use entromask_fault::Fault;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

/// Ids of the special tokens; `None` where the tokenizer has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Padding.
    pub pad: Option<u32>,
    /// Stands for what the vocabulary cannot express.
    pub unk: Option<u32>,
    /// Starts a text.
    pub cls: Option<u32>,
    /// Ends a text.
    pub sep: Option<u32>,
    /// Stands for a token to be predicted.
    pub mask: u32,
}

/// Names that tokenizers without a configuration beside them give their special tokens.
const USUAL_NAMES: [(&str, [&str; 2]); 5] = [
    ("pad_token", ["[PAD]", "<pad>"]),
    ("unk_token", ["[UNK]", "<unk>"]),
    ("cls_token", ["[CLS]", "<s>"]),
    ("sep_token", ["[SEP]", "</s>"]),
    ("mask_token", ["[MASK]", "<mask>"]),
];

impl SpecialTokens {
    /// Finds the special tokens in the configuration files beside `file`, else by their usual names.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is no mask token.
    pub(crate) fn find(tokenizer: &Tokenizer, file: &Path) -> anyhow::Result<Self> {
        let configured = configured(file)?;
        let id = |role: &str, usual: [&str; 2]| match configured.get(role).and_then(content) {
            Some(name) => tokenizer.token_to_id(name),
            None => usual.into_iter().find_map(|name| tokenizer.token_to_id(name)),
        };
        let [pad, unk, cls, sep, mask] = USUAL_NAMES.map(|(role, usual)| id(role, usual));
        let missing = || {
            Fault::input(format!("{}: the tokenizer has no mask token", file.display()))
                .remedy("use the tokenizer of a masked language model, or name its `mask_token` in tokenizer_config.json")
        };
        Ok(Self { pad, unk, cls, sep, mask: mask.ok_or_else(missing)? })
    }

    /// True for tokens that structure a row; the unknown token stands for text instead.
    pub fn is_control(&self, id: u32) -> bool {
        id == self.mask || [self.pad, self.cls, self.sep].contains(&Some(id))
    }

    /// A `tokenizer_config.json` with which `transformers` finds the roles again.
    pub(crate) fn tokenizer_config(&self, tokenizer: &Tokenizer) -> Value {
        let mut map = Map::from_iter([("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast"))]);
        let ids = [self.pad, self.unk, self.cls, self.sep, Some(self.mask)];
        for ((role, _), id) in USUAL_NAMES.iter().zip(ids) {
            if let Some(name) = id.and_then(|id| tokenizer.id_to_token(id)) {
                map.insert((*role).to_string(), Value::String(name));
            }
        }
        Value::Object(map)
    }
}

/// Files beside `tokenizer.json` that name special tokens, as far as they are there.
pub(crate) fn companions(file: &Path) -> Vec<PathBuf> {
    let names = ["tokenizer_config.json", "special_tokens_map.json"];
    names.iter().map(|name| file.with_file_name(name)).filter(|path| path.is_file()).collect()
}

/// What the companions say, the first one first.
fn configured(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let mut all = Map::new();
    for path in companions(file) {
        let found: Map<String, Value> = serde_json::from_slice(&fs::read(&path)?).map_err(|error| {
            Fault::input(format!("{}: not a JSON object: {error}", path.display()))
                .remedy("get the tokenizer again, or delete this file")
        })?;
        found.into_iter().for_each(|(key, value)| {
            all.entry(key).or_insert(value);
        });
    }
    Ok(all)
}

/// A token's name: itself, or the `content` of its description.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
