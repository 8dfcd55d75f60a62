//! The tokens artifact behind every other one: rows of text and the names of the tokens.

use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, Manifest, Output};
use entromask_fault::Fault;
use entromask_tables::{TokenColumns, Tokens};
use tokenizers::Tokenizer;

use crate::trace;

/// The names of token ids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: Vec<Option<String>>,
}

/// An opened tokens artifact.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Its folder.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The tokens' names.
    pub names: Names,
}

impl Names {
    /// Reads a `tokenizer.json`.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let tokenizer = Tokenizer::from_file(path).map_err(|error| {
            Fault::input(format!("{}: not a tokenizer: {error}", path.display()))
                .remedy("tokenize the corpus again")
        })?;
        let mut names = vec![None; tokenizer.get_vocab_size(true)];
        for (name, id) in tokenizer.get_vocab(true) {
            let id = id as usize;
            if id >= names.len() {
                names.resize(id + 1, None);
            }
            names[id] = Some(name);
        }
        Ok(Self { names })
    }

    /// The name of `id`, or `#id` if it has none.
    pub fn name(&self, id: u32) -> String {
        self.names.get(id as usize).cloned().flatten().unwrap_or_else(|| format!("#{id}"))
    }
}

impl Corpus {
    /// Opens the tokens artifact in `dir`. Without its tokenizer tokens have numbers for names.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::load(dir, Kind::Tokens)?;
        let names = Names::load(&dir.join("tokenizer.json")).unwrap_or_default();
        Ok(Self { dir: dir.into(), manifest, names })
    }

    /// The tokens that the artifact of `manifest` in `dir` was made from, or why they cannot be shown.
    pub fn behind(manifest: &Manifest, dir: &Path) -> Result<Self, String> {
        let input = manifest.input("tokens").ok_or("the manifest names no tokens")?;
        let located = trace::locate(input, dir);
        if let Some(trouble) = located.trouble(input) {
            return Err(trouble);
        }
        let (path, _) = located.found().ok_or("the tokens are not an artifact")?;
        Self::open(&path).map_err(|error| format!("{error:#}"))
    }

    /// The parts of the training split, in order.
    pub fn parts(&self) -> Vec<&Output> {
        self.manifest.parts("part").collect()
    }

    /// Reads part `index` of the training split.
    pub fn read(&self, index: usize, columns: TokenColumns) -> anyhow::Result<Tokens> {
        let part = self.manifest.parts("part").nth(index).ok_or_else(|| {
            Fault::input(format!("{}: no part {index}", self.dir.display()))
                .remedy("tokenize the corpus again")
        })?;
        Tokens::read(&self.dir.join(&part.file), columns)
    }

    /// ln of the vocabulary's size: the largest possible entropy in nats.
    pub fn ln_vocabulary(&self) -> Option<f64> {
        self.manifest.stats["vocab_size"].as_u64().filter(|&size| size > 0).map(|size| (size as f64).ln())
    }
}
