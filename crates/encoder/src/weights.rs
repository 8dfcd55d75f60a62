//! Filling modules with weights, drawn or stored, and writing them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use entromask_fault::Fault;
use entromask_random::{keyed, normals};
use serde_json::Value;

use crate::names;
use crate::safetensors_file::{self, TensorFile, Values};

/// Sets every float parameter of `module` from `source`.
///
/// Parameter ids are derived from the tensors' names, so that the state of an optimizer finds its parameters again in
/// a later process.
pub(crate) fn fill<M: Module>(module: M, source: impl Source) -> Result<M> {
    let mut filler = Filler { source, path: Vec::new(), error: None };
    let module = module.map(&mut filler);
    match filler.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Writes all float parameters of `module` as `model.safetensors` in `dir`.
pub(crate) fn save<M: Module>(module: &M, dir: &Path, metadata: &[(String, String)]) -> Result<()> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    safetensors_file::write(&dir.join(WEIGHTS), &collector.tensors, metadata)
}

/// Writes `config.json` in `dir`.
pub(crate) fn save_config(config: &Value, dir: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(config).context("a config is JSON")?;
    text.push('\n');
    safetensors_file::beside(&dir.join("config.json"), |file| Ok(file.write_all(text.as_bytes())?))
}

/// Where weights come from. Names and shapes are those of Hugging Face checkpoints.
pub(crate) trait Source {
    /// Values of the tensor in row-major order.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;
}

/// Initial weights: normal, except that biases are 0 and scales of layer normalisations are 1.
pub(crate) struct Drawn {
    pub(crate) seed: u64,
    pub(crate) std: f64,
}

impl Source for Drawn {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let n = shape.iter().product();
        Ok(match (name.ends_with("bias"), names::is_norm(name)) {
            (true, _) => vec![0.0; n],
            (false, true) => vec![1.0; n],
            (false, false) => normals(n, self.std, &mut keyed(self.seed, &format!("init {name}"), 0, 0)),
        })
    }
}

/// Weights of a checkpoint.
pub(crate) struct Stored {
    file: TensorFile,
}

impl Stored {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        Ok(Self { file: TensorFile::open(&dir.join(WEIGHTS))? })
    }

    /// Shape of a tensor that must be there and have `D` dimensions.
    pub(crate) fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let stored = self.stored_name(name).and_then(|stored| self.file.shape(&stored));
        let shape = stored.ok_or_else(|| self.fault(format!("tensor {name} is missing")))?;
        shape
            .try_into()
            .map_err(|_| self.fault(format!("tensor {name} has shape {shape:?}, expected {D} dimensions")))
    }

    /// Fails unless the checkpoint can predict tokens as this crate does it.
    pub(crate) fn require_mlm_head(&self) -> Result<()> {
        if self.stored_name("cls.predictions.transform.dense.weight").is_none() {
            return Err(Fault::input(format!(
                "{}: no masked-LM head (cls.predictions.*)",
                self.file.path().display()
            ))
            .remedy("use a checkpoint of a masked-LM class such as BertForMaskedLM, or pretrain one")
            .into());
        }
        self.require_tied_decoder()
    }

    fn require_tied_decoder(&self) -> Result<()> {
        let decoder = self.file.read("cls.predictions.decoder.weight").transpose()?;
        let words =
            self.stored_name("bert.embeddings.word_embeddings.weight").and_then(|name| self.file.read(&name));
        if decoder.is_some() && decoder != words.transpose()? {
            return Err(self.fault("the decoder is not tied to the word embeddings"));
        }
        Ok(())
    }

    fn stored_name(&self, name: &str) -> Option<String> {
        names::variants(name).find(|variant| self.file.shape(variant).is_some())
    }

    fn fault(&self, problem: impl std::fmt::Display) -> anyhow::Error {
        Fault::input(format!("{}: {problem}", self.file.path().display()))
            .remedy("check that config.json and the weights belong together")
            .into()
    }
}

impl Source for Stored {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let missing = || self.fault(format!("tensor {name} is missing, expected shape {shape:?}"));
        let stored = self.stored_name(name).ok_or_else(missing)?;
        let found = self.file.shape(&stored).ok_or_else(missing)?;
        if found != shape {
            return Err(self.fault(format!("tensor {stored} has shape {found:?}, expected {shape:?}")));
        }
        let values = self.file.read(&stored).ok_or_else(missing)??;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.fault(format!("tensor {stored} holds {} at {at}", values[at]))),
            None => Ok(values),
        }
    }
}

/// Weights of a checkpoint, with new ones for what starts with a name in `new`, and for what starts with a name in
/// `may_lack` where the checkpoint does not have it.
pub(crate) struct StoredOrDrawn {
    pub(crate) stored: Stored,
    pub(crate) drawn: Drawn,
    pub(crate) new: &'static [&'static str],
    pub(crate) may_lack: &'static [&'static str],
}

impl Source for StoredOrDrawn {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let lacking = starts(self.may_lack) && self.stored.stored_name(name).is_none();
        if starts(self.new) || lacking {
            self.drawn.tensor(name, shape)
        } else {
            self.stored.tensor(name, shape)
        }
    }
}

const WEIGHTS: &str = "model.safetensors";

struct Filler<S> {
    source: S,
    path: Vec<String>,
    /// The first failure; nothing is read after it.
    error: Option<anyhow::Error>,
}

impl<S: Source> Filler<S> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match (names::is_dense(name), shape) {
            (true, &[d_input, d_output]) => {
                Ok(transposed(&self.source.tensor(name, &[d_output, d_input])?, d_output))
            }
            _ => self.source.tensor(name, shape),
        }
    }
}

impl<S: Source> ModuleMapper for Filler<S> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let name = names::hugging_face(&self.path);
        let shape = param.lazy_shape().to_vec();
        match self.tensor(&name, &shape) {
            Ok(values) => {
                let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
                param.transform_for_load(tensor, id(&name))
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

/// FNV-1a of the name.
fn id(name: &str) -> ParamId {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    ParamId::from(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    tensors: BTreeMap<String, Values>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = names::hugging_face(&self.path);
        let tensor = param.val();
        let mut shape = tensor.dims().to_vec();
        let mut values =
            tensor.try_into_vec_as::<f32>().expect("a float tensor of a living device reads as f32");
        if names::is_dense(&name) {
            values = transposed(&values, shape[0]);
            shape.reverse();
        }
        self.tensors.insert(name, Values { shape, values });
    }
}

/// The transpose of a row-major matrix of `rows` rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
