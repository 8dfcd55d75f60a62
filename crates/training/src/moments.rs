//! The optimizer's two moments of each parameter, in memory and on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_fault::Fault;
use safetensors::{Dtype, SafeTensors, View};

/// First and second moment of one parameter, flat, where the parameter is.
#[derive(Debug)]
pub(crate) enum Moments {
    Host([Vec<f32>; 2]),
    Device(Box<[Tensor<1>; 2]>),
}

/// Writes a safetensors file with `first.<path>`, `second.<path>` and the number of steps.
pub(crate) fn write(path: &Path, steps: u64, moments: &BTreeMap<String, Moments>) -> anyhow::Result<()> {
    let mut tensors = Vec::new();
    for (name, moments) in moments {
        let [first, second] = moments.to_host();
        tensors.push((format!("first.{name}"), Floats::new(first)));
        // Muon has one only.
        if !second.is_empty() {
            tensors.push((format!("second.{name}"), Floats::new(second)));
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
pub(crate) fn read(path: &Path) -> anyhow::Result<(u64, BTreeMap<String, Moments>)> {
    parse(path).map_err(|error| {
        Fault::input(format!("{}: not the state of an optimizer: {error:#}", path.display()))
            .remedy("delete its folder; training starts from the checkpoint before it")
            .into()
    })
}

fn parse(path: &Path) -> anyhow::Result<(u64, BTreeMap<String, Moments>)> {
    let bytes = fs_err::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let facts = header.metadata().as_ref().context("no metadata")?;
    let steps = facts.get("steps").context("no number of steps")?.parse()?;
    Ok((steps, moments(&SafeTensors::deserialize(&bytes)?)?))
}

fn moments(file: &SafeTensors) -> anyhow::Result<BTreeMap<String, Moments>> {
    let names = file.names().into_iter().filter_map(|name| name.strip_prefix("first."));
    let read = |name: String| -> anyhow::Result<Vec<f32>> {
        let Ok(tensor) = file.tensor(&name) else { return Ok(Vec::new()) };
        let bytes = tensor.data();
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    names
        .map(|name| {
            let moments = [read(format!("first.{name}"))?, read(format!("second.{name}"))?];
            Ok((name.to_owned(), Moments::Host(moments)))
        })
        .collect()
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

/// Flat f32 values as a tensor of a safetensors file.
struct Floats<'a> {
    values: Cow<'a, [f32]>,
    shape: [usize; 1],
}

impl<'a> Floats<'a> {
    fn new(values: Cow<'a, [f32]>) -> Self {
        Self { shape: [values.len()], values }
    }
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for value in self.values.iter() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}
