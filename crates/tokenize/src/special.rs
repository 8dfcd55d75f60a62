//! The tokenizer's special tokens by role, and where it puts them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use entromask_fault::Fault;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

/// Ids of the special tokens; `None` where the tokenizer has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Begins a text where that is none of these, as with tokenizers in the manner of Llama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// Ends a text where that is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
    /// All others, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<u32>,
}

/// Names that tokenizers without a configuration beside them give their special tokens.
const USUAL_NAMES: [(&str, [&str; 2]); 5] = [
    ("pad_token", ["[PAD]", "<pad>"]),
    ("unk_token", ["[UNK]", "<unk>"]),
    ("cls_token", ["[CLS]", "<s>"]),
    ("sep_token", ["[SEP]", "</s>"]),
    ("mask_token", ["[MASK]", "<mask>"]),
];

/// Roles that tokenizers in the manner of Llama have instead of `cls_token` and `sep_token`.
const ENDS: [&str; 2] = ["bos_token", "eos_token"];

impl SpecialTokens {
    /// Finds the special tokens in the configuration files beside `file`, else by their usual names.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is no mask token.
    pub(crate) fn find(tokenizer: &Tokenizer, file: &Path) -> anyhow::Result<Self> {
        let configured = configured(file)?;
        let id = |name: &str| tokenizer.token_to_id(name);
        let roles = roles(&configured, |name| id(name).is_some()).map(|name| name.and_then(id));
        let [pad, unk, cls, sep, mask] = roles;
        let mut other: Vec<u32> =
            Described::read(file).names(&configured).into_iter().filter_map(id).collect();
        other.retain(|id| !roles.contains(&Some(*id)));
        let end = |role| {
            let end = configured.get(role).and_then(content).and_then(id)?;
            other.contains(&end).then_some(end)
        };
        let (bos, eos) = (end("bos_token"), end("eos_token"));
        other.retain(|id| ![bos, eos].contains(&Some(*id)));
        other.sort_unstable();
        other.dedup();
        let missing = || {
            Fault::input(format!("{}: the tokenizer has no mask token", file.display()))
                .remedy("use the tokenizer of a masked language model, or name its `mask_token` in tokenizer_config.json")
        };
        Ok(Self { pad, unk, cls, sep, mask: mask.ok_or_else(missing)?, bos, eos, other })
    }

    /// True for tokens that structure a row; the unknown token stands for text instead.
    pub fn is_control(&self, id: u32) -> bool {
        let roles = [self.pad, self.cls, self.sep, self.bos, self.eos];
        id == self.mask || roles.contains(&Some(id)) || self.other.binary_search(&id).is_ok()
    }

    /// All of them, ascending.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let roles = [self.pad, self.unk, self.cls, self.sep, Some(self.mask), self.bos, self.eos];
        let mut ids: Vec<u32> = roles.into_iter().flatten().chain(self.other.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether there are others than the five that are known by usual names.
    pub(crate) fn has_others(&self) -> bool {
        self.bos.is_some() || self.eos.is_some() || !self.other.is_empty()
    }

    /// A `tokenizer_config.json` with which `transformers` finds the roles again.
    pub(crate) fn tokenizer_config(&self, tokenizer: &Tokenizer) -> Value {
        let mut map = Map::from_iter([("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast"))]);
        let name = |id: u32| tokenizer.id_to_token(id);
        let ids = [self.pad, self.unk, self.cls, self.sep, Some(self.mask), self.bos, self.eos];
        let roles = USUAL_NAMES.iter().map(|(role, _)| *role).chain(ENDS);
        for (role, name) in roles.zip(ids).filter_map(|(role, id)| Some((role, name(id?)?))) {
            map.insert(role.to_string(), Value::String(name));
        }
        if !self.other.is_empty() {
            let others: Vec<String> = self.other.iter().copied().filter_map(name).collect();
            map.insert("additional_special_tokens".into(), others.into());
        }
        Value::Object(map)
    }
}

/// The names of the five roles: as configured, else the usual ones that are known.
fn roles(configured: &Map<String, Value>, is_known: impl Fn(&str) -> bool) -> [Option<&str>; 5] {
    USUAL_NAMES.map(|(role, usual)| match configured.get(role).and_then(content) {
        Some(name) => Some(name),
        None => usual.into_iter().find(|name| is_known(name)),
    })
}

/// The part of a `tokenizer.json` that names special tokens.
#[derive(Debug, Default, Deserialize)]
struct Described {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Debug, Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
}

impl Described {
    /// What is no tokenizer names none: that is told where it is loaded.
    fn read(file: &Path) -> Self {
        let parsed = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        parsed.unwrap_or_default()
    }

    /// Added tokens that are special by themselves or by the configuration, and those that are put around a text.
    fn names<'a>(&'a self, configured: &Map<String, Value>) -> BTreeSet<&'a str> {
        let ends = ENDS.map(|role| configured.get(role).and_then(content));
        let is_special = |token: &&Added| token.special || ends.contains(&Some(&token.content));
        let added = self.added_tokens.iter().filter(is_special).map(|token| token.content.as_str());
        added.chain(placed(&self.post_processor)).collect()
    }
}

/// The names of the tokens that a post-processor puts around a text.
fn placed(processor: &Value) -> Vec<&str> {
    let parts = processor["processors"].as_array().into_iter().flatten().flat_map(placed);
    let templates = processor["special_tokens"].as_object().into_iter().flat_map(|map| map.values());
    let tokens = templates.flat_map(|template| template["tokens"].as_array().into_iter().flatten());
    let ends = ["cls", "sep"].into_iter().map(|end| &processor[end][0]);
    tokens.chain(ends).filter_map(Value::as_str).chain(parts).collect()
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
