//! BLAKE3 digests of files, remembered for large ones.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// Files below this size are hashed every time: that takes milliseconds.
const ALWAYS_HASHED_BYTES: u64 = 16 << 20;

/// A file changed this recently may change again within the resolution of its time stamp.
const RACY: Duration = Duration::from_secs(2);

/// What is hashed at a time, on all cores. A map of the file would be a little faster, but the pages of a large corpus
/// would count as memory of this process.
const CHUNK_BYTES: u64 = 8 << 20;

/// The BLAKE3 digest of a file's bytes, in hexadecimal.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<String> {
    let mut file = fs::File::open(path).map_err(|error| Fault::input(unreadable(path, &error)))?;
    let (mut hasher, mut chunk) = (blake3::Hasher::new(), Vec::new());
    loop {
        chunk.clear();
        let mut limited = Read::by_ref(&mut file).take(CHUNK_BYTES);
        limited.read_to_end(&mut chunk).with_context(|| format!("failed to read {}", path.display()))?;
        if chunk.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update_rayon(&chunk);
    }
}

/// The digests of many files, taken from `memory` where a large file's size and time stamp have not changed.
pub(crate) fn of_files(files: &[PathBuf], memory: &Path) -> anyhow::Result<Vec<String>> {
    let mut remembered = Memory::load(memory);
    let digests = files.iter().map(|file| remembered.digest(file)).collect::<anyhow::Result<_>>()?;
    remembered.save(memory);
    Ok(digests)
}

#[derive(Default, Serialize, Deserialize)]
struct Memory {
    files: BTreeMap<PathBuf, Entry>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    modified: SystemTime,
    blake3: String,
}

impl Memory {
    fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// The memory only saves time: failing to keep it (a read-only folder, say) costs a second hashing, no more.
    fn save(&self, path: &Path) {
        if self.changed
            && let Ok(bytes) = serde_json::to_vec(self)
        {
            let beside = path.with_extension(format!("tmp-{}", std::process::id()));
            let _ = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
        }
    }

    fn digest(&mut self, file: &Path) -> anyhow::Result<String> {
        let metadata = fs::metadata(file).map_err(|error| Fault::input(unreadable(file, &error)))?;
        let (bytes, modified) = (metadata.len(), metadata.modified()?);
        if bytes < ALWAYS_HASHED_BYTES {
            return of_file(file);
        }
        let name = file.canonicalize()?;
        if let Some(entry) = self.files.get(&name)
            && (entry.bytes, entry.modified) == (bytes, modified)
        {
            return Ok(entry.blake3.clone());
        }
        let blake3 = of_file(file)?;
        if modified.elapsed().is_ok_and(|age| age > RACY) {
            self.files.insert(name, Entry { bytes, modified, blake3: blake3.clone() });
            self.changed = true;
        }
        Ok(blake3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_several_chunks_has_the_digest_of_its_bytes() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("file");
        for length in [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 12_345] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
            fs::write(&file, &bytes)?;
            assert_eq!(of_file(&file)?, blake3::hash(&bytes).to_hex().to_string(), "{length}");
        }
        Ok(())
    }

    #[test]
    fn a_large_file_is_hashed_again_when_it_changes() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, memory) = (folder.path().join("large"), folder.path().join("memory.json"));
        let old = SystemTime::now() - Duration::from_mins(1);
        let write = |byte: u8, modified: SystemTime| -> anyhow::Result<()> {
            fs::write(&file, vec![byte; ALWAYS_HASHED_BYTES as usize])?;
            Ok(std::fs::File::options().write(true).open(&file)?.set_modified(modified)?)
        };
        write(1, old)?;
        let first = of_files(std::slice::from_ref(&file), &memory)?;
        assert!(memory.exists());
        write(2, old + Duration::from_secs(1))?;
        let second = of_files(std::slice::from_ref(&file), &memory)?;
        assert_ne!(first, second);
        assert_eq!(second[0], of_file(&file)?);
        Ok(())
    }
}
