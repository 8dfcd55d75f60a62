//! The container of the weights. The `safetensors` crate checks what the header says; writing is done here, because the
//! crate keeps metadata in a hash map and equal weights should be equal bytes.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{bf16, f16};
use entromask_fault::Fault;
use fs_err::File;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::TensorFile;

/// Bytes that are read at once, whole numbers of every type.
const BLOCK: usize = 1 << 20;

/// An opened file of named tensors; each is read when it is asked for, so that the weights are in memory once.
pub(crate) struct SafetensorsFile {
    file: File,
    metadata: Metadata,
    /// Where the tensors begin in the file.
    start: u64,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            Fault::input(entromask_fault::unreadable(path, &error)).remedy(
                "store the weights as model.safetensors, for example with save_pretrained of transformers",
            )
        })?;
        let (metadata, start) = read_header(&file).map_err(|error| {
            Fault::input(format!("{}: no safetensors file ({error:#})", path.display()))
                .remedy("fetch or write it again")
        })?;
        Ok(Self { file, metadata, start })
    }

    fn append(&self, name: &str, info: &TensorInfo, bytes: &[u8], values: &mut Vec<f32>) -> Result<()> {
        match info.dtype {
            Dtype::F32 => values.extend(words(bytes, f32::from_le_bytes)),
            Dtype::F16 => values.extend(words(bytes, |word| f16::from_le_bytes(word).to_f32())),
            Dtype::BF16 => values.extend(words(bytes, |word| bf16::from_le_bytes(word).to_f32())),
            Dtype::F64 => values.extend(words(bytes, |word| f64::from_le_bytes(word) as f32)),
            other => {
                return Err(Fault::input(format!(
                    "{}: tensor {name} is of type {other:?}",
                    self.path().display()
                ))
                .remedy("use a checkpoint with f64, f32, f16 or bf16 weights")
                .into());
            }
        }
        Ok(())
    }
}

impl TensorFile for SafetensorsFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.metadata.info(name).with_context(|| format!("{name} is not in the file"))?;
        let (from, to) = info.data_offsets;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64))?;
        let mut values = Vec::with_capacity(info.shape.iter().product());
        let mut block = vec![0; BLOCK.min(to - from)];
        for at in (from..to).step_by(BLOCK) {
            let bytes = &mut block[..BLOCK.min(to - at)];
            file.read_exact(bytes)?;
            self.append(name, info, bytes, &mut values)?;
        }
        Ok(values)
    }
}

/// What the header says, and where it ends. The tensors that it tells of fill the rest of the file.
fn read_header(mut file: &File) -> Result<(Metadata, u64)> {
    let whole = file.metadata()?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let start = u64::from_le_bytes(size).saturating_add(8);
    ensure!(start <= whole, "a header up to byte {start} in a file of {whole} bytes");
    let mut header = vec![0; start as usize - 8];
    file.read_exact(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let end = start + metadata.data_len() as u64;
    ensure!(end == whole, "tensors up to byte {end} in a file of {whole} bytes");
    Ok((metadata, start))
}

/// A tensor to write: its shape and its values in row-major order.
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Writes tensors in the order of their names, beside `path` first, then by rename.
pub(crate) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Values>,
    metadata: &[(String, String)],
) -> Result<()> {
    beside(path, |file| {
        let header = header(tensors, metadata)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for tensor in tensors.values() {
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}

/// Writes a file beside `path`, flushes it to disk and renames it, so that `path` is never half a file.
pub(crate) fn beside(path: &Path, write: impl FnOnce(&mut fs_err::File) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut file = fs_err::File::create(&partial)?;
    write(&mut file)?;
    file.sync_all()?;
    fs_err::rename(&partial, path)?;
    Ok(())
}

fn header(tensors: &BTreeMap<String, Values>, metadata: &[(String, String)]) -> Result<Vec<u8>> {
    let mut object = Map::new();
    object.insert("__metadata__".to_owned(), metadata_json(metadata));
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + tensor.values.len() * size_of::<f32>();
        object.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut header = serde_json::to_vec(&Value::Object(object)).context("a header is JSON")?;
    // The format wants the tensors to begin at a multiple of 8; spaces after the JSON are allowed.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// `transformers` refuses files whose format it is not told.
fn metadata_json(metadata: &[(String, String)]) -> Value {
    let format = ("format".to_owned(), "pt".to_owned());
    let pairs: BTreeMap<String, String> = metadata.iter().cloned().chain([format]).collect();
    json!(pairs)
}

/// Little groups of bytes as numbers.
pub(super) fn words<const N: usize>(
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> f32,
) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<N>().0.iter().map(move |&word| convert(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_tensors() -> BTreeMap<String, Values> {
        let a = Values { shape: vec![2, 2], values: vec![1.0, -2.0, 0.5, 1e-20] };
        let b = Values { shape: vec![1], values: vec![3.0] };
        BTreeMap::from([("b".to_owned(), b), ("a".to_owned(), a)])
    }

    #[test]
    fn reads_what_it_writes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.safetensors");
        write(&path, &two_tensors(), &[("key".to_owned(), "k".to_owned())]).expect("writes");
        let file = SafetensorsFile::open(&path).expect("opens");
        assert_eq!(file.shape("a"), Some([2, 2].as_slice()));
        assert_eq!(file.read("a").expect("reads"), [1.0, -2.0, 0.5, 1e-20]);
        assert!(file.shape("c").is_none() && file.read("c").is_err());
        let metadata = file.metadata.metadata().clone().expect("metadata");
        assert_eq!((metadata["format"].as_str(), metadata["key"].as_str()), ("pt", "k"));
        assert!(file.start.is_multiple_of(8));
        assert_eq!(
            fs_err::read_dir(dir.path()).expect("lists").count(),
            1,
            "nothing is left beside the file"
        );
    }

    #[test]
    fn other_precisions_become_f32() {
        let half = f16::from_f32(1.5).to_le_bytes();
        assert!(words(&half, |w| f16::from_le_bytes(w).to_f32()).eq([1.5]));
        let brain = bf16::from_f32(-2.0).to_le_bytes();
        assert!(words(&brain, |w| bf16::from_le_bytes(w).to_f32()).eq([-2.0]));
    }

    #[test]
    fn a_header_that_lies_is_an_input_fault() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.safetensors");
        write(&path, &two_tensors(), &[]).expect("writes");
        let whole = fs_err::read(&path).expect("reads");
        let damaged = [whole[..whole.len() - 4].to_vec(), vec![], vec![0xff; 64], whole[..20].to_vec()];
        for bytes in damaged {
            fs_err::write(&path, &bytes).expect("writes");
            let error = SafetensorsFile::open(&path).err().expect("refused");
            let fault = error.downcast_ref::<Fault>().expect("a fault");
            assert_eq!(fault.class(), entromask_fault::Class::Input);
            assert!(fault.to_string().contains("x.safetensors"), "{fault}");
        }
    }
}
