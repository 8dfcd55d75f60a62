//! What the header of a safetensors file says: the tensors, without reading them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use entromask_fault::Fault;
use fs_err::File;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The tensors of a file in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Weights {
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Numbers of each type.
    pub types: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Weights {
    /// Reads the header of the file at `path` and compares it with the file's size.
    ///
    /// # Errors
    /// A [`Fault`] of class input that names the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let damaged = |what: String| {
            Fault::input(format!("{}: {what}", path.display())).remedy("make or download the model again")
        };
        let mut file = File::open(path).map_err(|error| {
            Fault::input(entromask_fault::unreadable(path, &error))
                .remedy("check that the folder holds a model in safetensors format")
        })?;
        let bytes = file.metadata()?.len();
        let header = header(&mut file).map_err(|what| damaged(format!("no safetensors header: {what}")))?;
        let tensors = tensors(&header).map_err(|error| damaged(format!("no safetensors header: {error}")))?;
        let data = tensors.iter().map(|tensor| tensor.data_offsets[1]).max().unwrap_or(0);
        let wanted = (8 + header.len() as u64).saturating_add(data);
        if wanted != bytes {
            return Err(damaged(format!("the header says {wanted} bytes, the file has {bytes}")).into());
        }
        Ok(Self::of(&tensors))
    }

    fn of(tensors: &[Tensor]) -> Self {
        let mut weights = Self { tensors: tensors.len(), ..Self::default() };
        for tensor in tensors {
            let size = tensor.shape.iter().fold(1, |size: u64, &side| size.saturating_mul(side));
            weights.parameters = weights.parameters.saturating_add(size);
            let of_type = weights.types.entry(tensor.dtype.clone()).or_default();
            *of_type = of_type.saturating_add(size);
        }
        weights
    }
}

fn header(file: &mut File) -> Result<Vec<u8>, String> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| error.to_string())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(format!("it would have {length} bytes"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(|error| error.to_string())?;
    if header.len() as u64 == length { Ok(header) } else { Err("it is cut off".into()) }
}

fn tensors(header: &[u8]) -> serde_json::Result<Vec<Tensor>> {
    let entries: BTreeMap<String, Value> = serde_json::from_slice(header)?;
    let tensors = entries.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(_, value)| serde_json::from_value(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    fn read(bytes: &[u8]) -> anyhow::Result<Weights> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), bytes)?;
        Weights::read(file.path())
    }

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}"#;

    #[test]
    fn parameters_are_counted_from_the_header() -> anyhow::Result<()> {
        let weights = read(&file(HEADER, 32))?;
        assert_eq!((weights.tensors, weights.parameters), (2, 7));
        assert_eq!(weights.types["F32"], 6);
        Ok(())
    }

    #[test]
    fn damage_is_an_input_error_that_names_the_file() {
        let whole = file(HEADER, 32);
        let huge = u64::MAX.to_le_bytes();
        for bytes in [&whole[..4], &whole[..20], &whole[..whole.len() - 1], &huge[..], &file("{\"a\": 1}", 0)]
        {
            let error = read(bytes).unwrap_err();
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3, "{error:#}");
        }
    }
}
