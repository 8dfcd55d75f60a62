//! Hugging Face folders: which files hold the weights, and the tensors in them.

mod belongs;
mod drawn;
mod layers;
mod pickle_file;
mod pointer;
mod safetensors_file;
mod weights;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_fault::{Fault, unreadable};
use serde_json::Value;

use self::pickle_file::PickleFile;
use self::safetensors_file::SafetensorsFile;
use crate::EncoderConfig;
use crate::families::Layout;
use crate::families::names::{self, Slot};

pub(crate) use self::drawn::Drawn;
pub(crate) use self::layers::Layers;
pub(crate) use self::weights::{StoredOrDrawn, check, fill, save, save_config};

use self::weights::Source;

/// The files that decide what a Hugging Face folder computes: `config.json`, the weights with their index where they
/// are in several files, and `tokenizer.json` where there is one. `remedy` says how the folder was named, for who named a
/// wrong one.
///
/// # Errors
///
/// An input fault when there is no configuration, there are no weights, an index cannot be read, or a file is a pointer of
/// Git LFS.
pub fn pretrained_files(dir: &Path, remedy: &str) -> Result<Vec<PathBuf>> {
    let mut files = vec![dir.join("config.json")];
    if let Err(error) = fs_err::metadata(&files[0]) {
        return Err(Fault::input(unreadable(&files[0], &error)).remedy(remedy).into());
    }
    let weights = weight_files(dir)?;
    files.extend(weights.index);
    files.extend(weights.files);
    files.extend(Some(dir.join("tokenizer.json")).filter(|file| file.exists()));
    files.iter().try_for_each(|file| pointer::refuse(file))?;
    Ok(files)
}

/// Weights of a checkpoint.
pub(crate) struct Stored {
    dir: PathBuf,
    files: Vec<Box<dyn TensorFile>>,
    layout: &'static Layout,
    /// What stands before all names.
    wrapper: &'static str,
    /// Names of the word embeddings and of the decoder, where these are one tensor.
    tied: Option<[String; 2]>,
    /// Tensors that were read, as the files name them.
    read: RefCell<BTreeSet<String>>,
}

/// A file of named tensors.
pub(crate) trait TensorFile {
    /// Where it lies.
    fn path(&self) -> &Path;

    /// Names of all tensors.
    fn names(&self) -> Vec<String>;

    /// Shape of a tensor; `None` when the file does not have it.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Values of a tensor that the file has, converted to f32, in row-major order.
    fn read(&self, name: &str) -> Result<Vec<f32>>;
}

impl Stored {
    /// Opens the weights in `dir`, which are those of a model of this family.
    ///
    /// # Errors
    /// An input fault if a file cannot be read, or does not have the layers and the vocabulary of `config`.
    pub(crate) fn open(dir: &Path, config: &EncoderConfig) -> Result<Self> {
        let adapter = dir.join("adapter_config.json");
        if adapter.exists() {
            tracing::warn!(
                "{}: the adapter is not applied; merge it into the weights first",
                adapter.display()
            );
        }
        let files: Vec<_> = weight_files(dir)?.files.iter().map(|path| open(path)).collect::<Result<_>>()?;
        check_once(&files)?;
        let layout = config.model_type.layout();
        let tied = config.tie_word_embeddings.then(|| [belongs::words(config), belongs::decoder(config)]);
        let (dir, read) = (dir.to_owned(), RefCell::default());
        let mut stored = Self { dir, files, layout, wrapper: "", tied, read };
        stored.wrapper = stored.wrapper(config);
        belongs::check(&stored, config)?;
        Ok(stored)
    }

    /// What stands before the name of the word embeddings.
    fn wrapper(&self, config: &EncoderConfig) -> &'static str {
        let words = belongs::words(config);
        let has = |wrapper: &&str| self.find_behind(wrapper, &words).is_some();
        WRAPPERS.into_iter().find(has).unwrap_or_default()
    }

    /// Where the checkpoint lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all tensors, in order, without what stands before all of them.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.files.iter().flat_map(|file| file.names());
        let mut names: Vec<_> =
            names.filter_map(|name| Some(name.strip_prefix(self.wrapper)?.to_owned())).collect();
        names.sort();
        names
    }

    /// As [`names`](Self::names), of the tensors that were read.
    pub(crate) fn names_read(&self) -> BTreeSet<String> {
        let read = self.read.borrow();
        read.iter().filter_map(|name| Some(name.strip_prefix(self.wrapper)?.to_owned())).collect()
    }

    /// Fails unless the tensor is there and has this shape.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let (file, stored) = self.find(name).ok_or_else(|| self.missing(name, Some(shape)))?;
        match file.shape(&stored).unwrap_or_default() {
            found if found == shape => Ok(()),
            found => Err(misshapen(file.path(), &stored, found, shape)),
        }
    }

    /// Shape of a tensor that must be there and have `D` dimensions.
    pub(crate) fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let (file, stored) = self.find(name).ok_or_else(|| self.missing(name, None))?;
        let shape = file.shape(&stored).unwrap_or_default();
        shape.try_into().map_err(|_| {
            fault(file.path(), format!("tensor {stored} has shape {shape:?}, expected {D} dimensions"))
        })
    }

    /// Whether the checkpoint has the tensor, under whichever name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Fails unless the checkpoint can predict tokens; `dense` is the first tensor of such a head.
    pub(crate) fn require_mlm_head(&self, dense: &str) -> Result<()> {
        if self.has(dense) {
            return Ok(());
        }
        let (dir, class) = (self.dir.display(), self.layout.masked_lm);
        let remedy = format!(
            "use a checkpoint of a masked-LM class such as {class}, or train a head for this one: \
             entromask-pretrain --init {dir} --set init.fresh_head=true"
        );
        Err(Fault::input(format!("{dir}: no masked-LM head ({dense})")).remedy(remedy).into())
    }

    /// Whether the checkpoint stores a decoder that differs from the word embeddings.
    pub(crate) fn has_own_decoder(&self, decoder: &str, words: &str) -> Result<bool> {
        let (Some((decoders, decoder)), Some((embeddings, words))) = (self.find(decoder), self.find(words))
        else {
            return Ok(false);
        };
        Ok(decoders.read(&decoder)? != embeddings.read(&words)?)
    }

    fn find(&self, name: &str) -> Option<(&dyn TensorFile, String)> {
        self.find_behind(self.wrapper, name)
    }

    /// A tied tensor may lie under its second name alone: `save_model` of `safetensors` keeps the first in the alphabet.
    fn find_behind(&self, wrapper: &str, name: &str) -> Option<(&dyn TensorFile, String)> {
        let second = self.tied.as_ref().filter(|[words, _]| words == name).map(|[_, decoder]| decoder);
        self.find_named(wrapper, name).or_else(|| self.find_named(wrapper, second?))
    }

    fn find_named(&self, wrapper: &str, name: &str) -> Option<(&dyn TensorFile, String)> {
        let names = names::variants(self.layout, name).into_iter().map(|name| format!("{wrapper}{name}"));
        let in_file = |name: &String| self.files.iter().find(|file| file.shape(name).is_some());
        names.into_iter().find_map(|name| Some((in_file(&name)?.as_ref(), name)))
    }

    fn missing(&self, name: &str, shape: Option<&[usize]>) -> anyhow::Error {
        let expected = shape.map(|shape| format!(", expected shape {shape:?}")).unwrap_or_default();
        // One of several files is none that the tensor is missing from.
        let path = match self.files.as_slice() {
            [file] => file.path(),
            _ => &self.dir,
        };
        fault(path, format!("tensor {name} is missing{expected}"))
    }
}

impl Source for Stored {
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        self.expect(&slot.name, shape)?;
        let (file, stored) = self.find(&slot.name).ok_or_else(|| self.missing(&slot.name, Some(shape)))?;
        let values = file.read(&stored)?;
        self.read.borrow_mut().insert(stored.clone());
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(not_finite(file.path(), &stored, slot, values[at], at)),
            None => Ok(values),
        }
    }

    fn finish(&self) {
        belongs::warn_left_out(self, self.layout);
    }
}

/// Which of two tensors of one name is meant nobody can tell: `transformers` takes the last one, whatever the index says.
fn check_once(files: &[Box<dyn TensorFile>]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for file in files {
        for name in file.names() {
            if let Some(other) = seen.insert(name.clone(), file.path()) {
                return Err(fault(file.path(), format!("tensor {name} is in {} too", other.display())));
            }
        }
    }
    Ok(())
}

/// What `torch.compile`, `DataParallel` and training loops put before all names; a dictionary in a dictionary is joined by a dot.
const WRAPPERS: [&str; 14] = [
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "state_dict.",
    "state_dict.module.",
    "state_dict._orig_mod.",
    "state_dict.model.",
    "model_state_dict.",
    "model_state_dict.module.",
    "model_state_dict._orig_mod.",
    "model_state_dict.model.",
    "model.",
];

/// Weights in one file or several, in the order in which `transformers` looks for them.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const INDICES: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];

/// Where the weights lie.
struct WeightFiles {
    files: Vec<PathBuf>,
    /// What names them, where they are several.
    index: Option<PathBuf>,
}

fn weight_files(dir: &Path) -> Result<WeightFiles> {
    for (single, index) in WEIGHTS.iter().zip(INDICES) {
        let (single, index) = (dir.join(single), dir.join(index));
        if single.exists() {
            return Ok(WeightFiles { files: vec![single], index: None });
        }
        if index.exists() {
            return Ok(WeightFiles { files: shards(&index)?, index: Some(index) });
        }
    }
    Err(Fault::input(format!("{}: no {}", dir.display(), WEIGHTS.join(" and no ")))
        .remedy("name a folder that save_pretrained of transformers wrote")
        .into())
}

/// The files that an index names, each once.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let bytes = fs_err::read(index).map_err(|error| fault(index, error))?;
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| fault(index, format!("no index of weights ({error})")))?;
    let map = json["weight_map"].as_object().ok_or_else(|| fault(index, "no weight_map"))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(fault(index, format!("{name} is outside of the folder")));
    }
    let files: Vec<_> = names.into_iter().map(|name| index.with_file_name(name)).collect();
    match files.iter().find(|file| !file.exists()) {
        None => Ok(files),
        Some(file) => {
            Err(Fault::input(format!("{}: no such file, but {} names it", file.display(), index.display()))
                .remedy("fetch the rest of the model")
                .into())
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn TensorFile>> {
    pointer::refuse(path)?;
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        Ok(Box::new(SafetensorsFile::open(path)?))
    } else {
        Ok(Box::new(PickleFile::open(path)?))
    }
}

/// A bias of −∞ is how a vocabulary is padded.
fn not_finite(path: &Path, stored: &str, slot: &Slot, value: f32, at: usize) -> anyhow::Error {
    let found = format!("{}: tensor {stored} holds {value} at {at}", path.display());
    let padded = slot.path == "head/bias" && value == f32::NEG_INFINITY;
    let (found, remedy) = if padded {
        let found = format!("{found}, which bars the token from being predicted");
        (found, "store -10000 in its place, which leaves it no probability either")
    } else {
        (found, "fetch the weights again, or take those from before the training diverged")
    };
    Fault::input(found).remedy(remedy).into()
}

fn misshapen(path: &Path, name: &str, found: &[usize], expected: &[usize]) -> anyhow::Error {
    fault(path, format!("tensor {name} has shape {found:?}, expected {expected:?}"))
}

fn fault(path: &Path, problem: impl Display) -> anyhow::Error {
    Fault::input(format!("{}: {problem}", path.display()))
        .remedy("check that config.json and the weights belong together")
        .into()
}
