//! What the optimizer keeps of each parameter, its two moments above all, in memory and on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_fault::Fault;
use safetensors::{Dtype, SafeTensors, View};

/// What is kept of one parameter.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) moments: Moments,
    /// Steps that were made before the first one of this parameter, which may have been frozen till then.
    pub(crate) born: u64,
}

/// First and second moment of one parameter, flat, where the parameter is.
#[derive(Debug)]
pub(crate) enum Moments {
    Host([Vec<f32>; 2]),
    Device(Box<[Tensor<1>; 2]>),
}

/// Writes a safetensors file with `first.<path>`, `second.<path>` and the number of steps, and `born.<path>` of parameters
/// that were not trained from the first step on.
pub(crate) fn write(path: &Path, steps: u64, kept: &BTreeMap<String, Kept>) -> anyhow::Result<()> {
    let mut tensors = Vec::new();
    for (name, Kept { moments, born }) in kept {
        let [first, second] = moments.to_host();
        tensors.push((format!("first.{name}"), Flat::floats(first)));
        // Muon has one only.
        if !second.is_empty() {
            tensors.push((format!("second.{name}"), Flat::floats(second)));
        }
        if *born > 0 {
            tensors.push((format!("born.{name}"), Flat::steps(*born)));
        }
    }
    let facts = [("steps".to_owned(), steps.to_string())].into();
    safetensors::serialize_to_file(tensors, Some(facts), path)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// A [`Fault`] of class input if the file is missing, damaged or something else.
pub(crate) fn read(path: &Path) -> anyhow::Result<(u64, BTreeMap<String, Kept>)> {
    parse(path).map_err(|error| {
        Fault::input(format!("{}: not the state of an optimizer: {error:#}", path.display()))
            .remedy("delete its folder; training starts from the checkpoint before it")
            .into()
    })
}

fn parse(path: &Path) -> anyhow::Result<(u64, BTreeMap<String, Kept>)> {
    let bytes = fs_err::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let facts = header.metadata().as_ref().context("no metadata")?;
    let steps = facts.get("steps").context("no number of steps")?.parse()?;
    Ok((steps, moments(&SafeTensors::deserialize(&bytes)?)?))
}

fn moments(file: &SafeTensors) -> anyhow::Result<BTreeMap<String, Kept>> {
    let names = file.names().into_iter().filter_map(|name| name.strip_prefix("first."));
    let read = |name: String| -> anyhow::Result<Vec<f32>> {
        let Ok(tensor) = file.tensor(&name) else { return Ok(Vec::new()) };
        let bytes = tensor.data();
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    names
        .map(|name| {
            let moments = [read(format!("first.{name}"))?, read(format!("second.{name}"))?];
            Ok((name.to_owned(), Kept { moments: Moments::Host(moments), born: born(file, name)? }))
        })
        .collect()
}

fn born(file: &SafeTensors, name: &str) -> anyhow::Result<u64> {
    let Ok(tensor) = file.tensor(&format!("born.{name}")) else { return Ok(0) };
    let bytes = tensor.data().try_into().with_context(|| format!("born.{name} is no number of steps"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Moments {
    /// Both 0, for `length` numbers in host memory.
    pub(crate) fn zeros(length: usize) -> [Vec<f32>; 2] {
        [vec![0.0; length], vec![0.0; length]]
    }

    /// A copy in host memory, or a view where it is there.
    pub(crate) fn to_host(&self) -> [Cow<'_, [f32]>; 2] {
        match self {
            Self::Host(moments) => moments.each_ref().map(|moment| Cow::Borrowed(moment.as_slice())),
            Self::Device(moments) => moments.each_ref().map(|moment| Cow::Owned(to_vec(moment.clone()))),
        }
    }

    /// In host memory, to be updated there.
    pub(crate) fn into_host(self) -> [Vec<f32>; 2] {
        match self {
            Self::Host(moments) => moments,
            Self::Device(moments) => moments.map(to_vec),
        }
    }

    /// On `device`, to be updated there.
    pub(crate) fn into_device(self, device: &Device) -> [Tensor<1>; 2] {
        match self {
            Self::Device(moments) => *moments,
            Self::Host(moments) => moments.map(|moment| {
                let length = moment.len();
                Tensor::from_data(TensorData::new(moment, [length]), device)
            }),
        }
    }
}

fn to_vec(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// A flat tensor of a safetensors file.
struct Flat<'a> {
    values: Values<'a>,
    shape: [usize; 1],
}

enum Values<'a> {
    Floats(Cow<'a, [f32]>),
    Steps(u64),
}

impl<'a> Flat<'a> {
    fn floats(values: Cow<'a, [f32]>) -> Self {
        Self { shape: [values.len()], values: Values::Floats(values) }
    }

    fn steps(steps: u64) -> Self {
        Self { shape: [1], values: Values::Steps(steps) }
    }
}

impl View for Flat<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Steps(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Floats(values) => {
                let mut bytes = Vec::with_capacity(self.data_len());
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                Cow::Owned(bytes)
            }
            Values::Steps(steps) => Cow::Owned(steps.to_le_bytes().to_vec()),
        }
    }

    fn data_len(&self) -> usize {
        self.shape[0] * self.dtype().bitsize() / 8
    }
}
