//! What the optimizer keeps of each parameter, its two moments above all, in memory and on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use burn::tensor::{Device, Tensor, TensorData};
use entromask_fault::Fault;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

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
        tensors.push((format!("first.{name}"), Flat::Floats(first)));
        // Muon has one only.
        if !second.is_empty() {
            tensors.push((format!("second.{name}"), Flat::Floats(second)));
        }
        if *born > 0 {
            tensors.push((format!("born.{name}"), Flat::Steps(*born)));
        }
    }
    tensors.sort_by(|(one, left), (other, right)| right.dtype().cmp(&left.dtype()).then(one.cmp(other)));
    let header = header(&tensors, steps)?;
    let mut file = fs_err::File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    tensors.iter().try_for_each(|(_, tensor)| tensor.write(&mut file))?;
    Ok(())
}

/// Not by `safetensors::serialize_to_file`, whose files nobody else may read, and whose temporary ones have names of others.
fn header(tensors: &[(String, Flat)], steps: u64) -> anyhow::Result<Vec<u8>> {
    let mut end = 0;
    let info = |(name, tensor): &(String, Flat)| {
        let start = end;
        end += tensor.bytes();
        let shape = vec![tensor.values()];
        (name.clone(), TensorInfo { dtype: tensor.dtype(), shape, data_offsets: (start, end) })
    };
    let infos = tensors.iter().map(info).collect();
    let metadata = Metadata::new(Some([("steps".to_owned(), steps.to_string())].into()), infos)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
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
enum Flat<'a> {
    Floats(Cow<'a, [f32]>),
    Steps(u64),
}

impl Flat<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(_) => Dtype::F32,
            Self::Steps(_) => Dtype::U64,
        }
    }

    fn values(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Steps(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        self.values() * self.dtype().bitsize() / 8
    }

    fn write(&self, file: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Floats(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                file.write_all(&bytes)
            }
            Self::Steps(steps) => file.write_all(&steps.to_le_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn whoever_may_read_other_files_may_read_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let [path, other] = ["optimizer.safetensors", "other"].map(|name| folder.path().join(name));
        let moments = |values: [&[f32]; 2]| Moments::Host(values.map(<[f32]>::to_vec));
        let matrix = Kept { moments: moments([&[1.0, -2.5], &[0.5, 3.0]]), born: 0 };
        let late = Kept { moments: moments([&[7.0], &[]]), born: 1 << 40 };
        write(&path, 12, &[("b.weight".to_owned(), matrix), ("a.late".to_owned(), late)].into())?;
        std::fs::write(&other, "")?;
        let mode = |path: &Path| std::fs::metadata(path).map(|facts| facts.permissions().mode());
        assert_eq!(mode(&path)?, mode(&other)?);
        assert_eq!(std::fs::read_dir(&folder)?.count(), 2, "nothing stays beside it");
        let (steps, kept) = read(&path)?;
        let found =
            kept.iter().map(|(name, kept)| (name.as_str(), kept.moments.to_host().concat(), kept.born));
        let expected = [("a.late", vec![7.0], 1 << 40), ("b.weight", vec![1.0, -2.5, 0.5, 3.0], 0)];
        assert_eq!((steps, found.collect::<Vec<_>>()), (12, expected.into()));
        Ok(())
    }
}
