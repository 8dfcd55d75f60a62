//! `pytorch_model.bin`: pickled by `torch.save`. The reader interprets the few pickle opcodes that describe tensors and
//! refuses the rest, so nothing in the file is executed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::{bf16, f16};
use entromask_fault::Fault;
use pytorch_reader::{DType, PytorchReader, Tensor};

use super::TensorFile;
use super::safetensors_file::words;

/// An opened checkpoint; tensors are read when they are asked for.
pub(crate) struct PickleFile {
    path: PathBuf,
    reader: PytorchReader,
}

impl PickleFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs_err::File::open(path)
            .map_err(|error| Fault::input(error.to_string()).remedy("fetch or write the model again"))?;
        let reader = PytorchReader::new(path).map_err(|error| {
            Fault::input(format!("{}: no PyTorch checkpoint ({error})", path.display())).remedy(
                "fetch it again, or store it as model.safetensors with save_pretrained of transformers",
            )
        })?;
        Ok(Self { path: path.to_owned(), reader })
    }

    fn convert(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let bytes = tensor.read().map_err(|error| {
            Fault::input(format!("{}: {error}", self.path.display())).remedy("fetch or write it again")
        })?;
        match tensor.dtype() {
            DType::F32 => Ok(words(&bytes, f32::from_ne_bytes).collect()),
            DType::F16 => Ok(words(&bytes, |word| f16::from_ne_bytes(word).to_f32()).collect()),
            DType::BF16 => Ok(words(&bytes, |word| bf16::from_ne_bytes(word).to_f32()).collect()),
            DType::F64 => Ok(words(&bytes, |word| f64::from_ne_bytes(word) as f32).collect()),
            other => {
                let (path, name) = (self.path.display(), &tensor.name);
                Err(Fault::input(format!("{path}: tensor {name} is of type {other:?}"))
                    .remedy("use a checkpoint with f64, f32, f16 or bf16 weights")
                    .into())
            }
        }
    }
}

impl TensorFile for PickleFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.reader.keys()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.reader.get(name).map(Tensor::shape)
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.reader.get(name).ok_or_else(|| anyhow::anyhow!("{name} is not in the file"))?;
        self.convert(tensor)
    }
}
