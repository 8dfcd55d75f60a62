//! BLAKE3 digests of files.

mod memory;

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use entromask_fault::{Fault, unreadable};
use fs_err as fs;

pub(crate) use memory::of_files;

/// What is hashed at a time, on all cores. A map of the file would be a little faster, but the pages of a large corpus
/// would count as memory of this process.
const CHUNK_BYTES: u64 = 8 << 20;

/// Asked between two chunks, so that whoever does not want to wait for a large corpus can leave.
static MAY_GO_ON: OnceLock<fn() -> anyhow::Result<()>> = OnceLock::new();

/// Lets `may_go_on` end the hashing of inputs by an error; what a stage has made is hashed in any case, since it would be lost. The
/// first one stays.
pub fn ask_while_hashing(may_go_on: fn() -> anyhow::Result<()>) {
    let _ = MAY_GO_ON.set(may_go_on);
}

/// The BLAKE3 digest of a file's bytes, in hexadecimal.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<String> {
    hash(path, || Ok(()))
}

/// [`of_file`] for an input.
fn of_input(path: &Path) -> anyhow::Result<String> {
    hash(path, || MAY_GO_ON.get().map_or(Ok(()), |may_go_on| may_go_on()))
}

fn hash(path: &Path, may_go_on: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<String> {
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
        may_go_on()?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
    fn hashing_ends_when_it_may_not_go_on() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("file");
        fs::write(&file, vec![1; 3 * CHUNK_BYTES as usize])?;
        let asked = Cell::new(0);
        let twice = || {
            asked.set(asked.get() + 1);
            anyhow::ensure!(asked.get() < 2, "stopped");
            Ok(())
        };
        assert_eq!(hash(&file, twice).expect_err("is stopped").to_string(), "stopped");
        assert_eq!(asked.get(), 2, "between chunks");
        Ok(())
    }
}
