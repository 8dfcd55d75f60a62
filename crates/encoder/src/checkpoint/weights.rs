//! Filling modules with weights, drawn or stored, and writing them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use entromask_random::fnv1a;
use serde_json::Value;

use super::Stored;
use super::drawn::Drawn;
use super::safetensors_file::{self, Values};
use crate::EncoderConfig;
use crate::families::names::{self, Role, Slot};

/// Sets every float parameter of `module` from `source`.
///
/// Parameter ids are derived from the tensors' names, so that the state of an optimizer finds its parameters again in
/// a later process.
pub(crate) fn fill<M: Module>(module: M, config: &EncoderConfig, source: impl Source) -> Result<M> {
    let mut filler = Filler { config, source, path: Vec::new(), error: None };
    let module = module.map(&mut filler);
    if let Some(error) = filler.error {
        return Err(error);
    }
    filler.source.finish();
    Ok(module)
}

/// Looks whether `stored` has all float parameters of `module`, in the shapes that [`fill`] wants.
///
/// # Errors
/// An input fault about the first that is missing or misshapen.
pub(crate) fn check<M: Module>(module: &M, config: &EncoderConfig, stored: &Stored) -> Result<()> {
    let mut checker = Checker { config, stored, path: Vec::new(), error: None };
    module.visit(&mut checker);
    checker.error.map_or(Ok(()), Err)
}

/// Writes all float parameters of `module` as `model.safetensors` in `dir`.
pub(crate) fn save<M: Module>(
    module: &M,
    config: &EncoderConfig,
    dir: &Path,
    metadata: &[(String, String)],
) -> Result<()> {
    let mut collector = Collector { config, path: Vec::new(), tensors: BTreeMap::new() };
    module.visit(&mut collector);
    safetensors_file::write(&dir.join(WEIGHTS), &collector.tensors, metadata)
}

/// Writes `config.json` in `dir`.
pub(crate) fn save_config(config: &Value, dir: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(config).context("a config is JSON")?;
    text.push('\n');
    safetensors_file::beside(&dir.join("config.json"), |file| Ok(file.write_all(text.as_bytes())?))
}

/// Where weights come from.
pub(crate) trait Source {
    /// Values of the tensor in row-major order; `shape` is that of Hugging Face checkpoints.
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>>;

    /// Called when a module has all that it takes.
    fn finish(&self) {}
}

/// Weights of a checkpoint, with new ones for modules at a path in `new`, and for those at a path in `may_lack` where the
/// checkpoint does not have them.
pub(crate) struct StoredOrDrawn {
    pub(crate) stored: Stored,
    pub(crate) drawn: Drawn,
    pub(crate) new: &'static [&'static str],
    pub(crate) may_lack: &'static [&'static str],
}

impl Source for StoredOrDrawn {
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        let starts = |paths: &[&str]| paths.iter().any(|path| slot.path.starts_with(path));
        let lacking = starts(self.may_lack) && !self.stored.has(&slot.name);
        if starts(self.new) || lacking {
            self.drawn.tensor(slot, shape)
        } else {
            self.stored.tensor(slot, shape)
        }
    }
}

const WEIGHTS: &str = "model.safetensors";

struct Filler<'a, S> {
    config: &'a EncoderConfig,
    source: S,
    path: Vec<String>,
    /// The first failure; nothing is read after it.
    error: Option<anyhow::Error>,
}

impl<S: Source> Filler<'_, S> {
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        match (slot.role, shape) {
            (Role::Dense, &[d_input, d_output]) => {
                Ok(transposed(&self.source.tensor(slot, &[d_output, d_input])?, d_output))
            }
            _ => self.source.tensor(slot, shape),
        }
    }
}

impl<S: Source> ModuleMapper for Filler<'_, S> {
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
        let slot = Slot::new(self.config, &self.path);
        let shape = param.lazy_shape().to_vec();
        match self.tensor(&slot, &shape) {
            Ok(values) => {
                let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
                param.transform_for_load(tensor, ParamId::from(fnv1a(&slot.name)))
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

struct Checker<'a> {
    config: &'a EncoderConfig,
    stored: &'a Stored,
    path: Vec<String>,
    /// The first failure.
    error: Option<anyhow::Error>,
}

impl ModuleVisitor for Checker<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let slot = Slot::new(self.config, &self.path);
        let mut shape = param.lazy_shape().to_vec();
        if slot.role == Role::Dense {
            shape.reverse();
        }
        if self.error.is_none() {
            self.error = self.stored.expect(&slot.name, &shape).err();
        }
    }
}

struct Collector<'a> {
    config: &'a EncoderConfig,
    path: Vec<String>,
    tensors: BTreeMap<String, Values>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let slot = Slot::new(self.config, &self.path);
        let tensor = param.val();
        let mut shape = tensor.dims().to_vec();
        let mut values =
            tensor.try_into_vec_as::<f32>().expect("a float tensor of a living device reads as f32");
        if slot.role == Role::Dense {
            values = transposed(&values, shape[0]);
            shape.reverse();
        }
        // A tied decoder shares its bias with the head; one of its own has a second copy.
        if let Some(second) = names::at_decoder(&slot.name).filter(|_| !self.config.tie_word_embeddings) {
            self.tensors.insert(second, Values { shape: shape.clone(), values: values.clone() });
        }
        self.tensors.insert(slot.name, Values { shape, values });
    }
}

/// The transpose of a row-major matrix of `rows` rows.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
