//! BLAKE3 digests of files, remembered for large ones.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// The digests of many files; those of large ones are remembered in the user's cache as long as their [`Stamp`] does not change.
pub(crate) fn of_files(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    of_files_by(files, cache_folder().map(|cache| cache.join("entromask/digests.json")).as_deref())
}

/// As the XDG base directory specification has it.
fn cache_folder() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")))
}

/// Without `memory` nothing is remembered.
fn of_files_by(files: &[PathBuf], memory: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut remembered = memory.map(Memory::load).unwrap_or_default();
    let digests = files.iter().map(|file| remembered.digest(file)).collect::<anyhow::Result<_>>()?;
    if let Some(memory) = memory {
        remembered.save(memory);
    }
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
    #[serde(flatten)]
    stamp: Stamp,
    blake3: String,
}

/// What a file system says of a file, and what changes with its bytes.
///
/// Its own time stamp is not enough: `cp -p`, `rsync` and archives set it, and checkpoints of one shape are of one size.
/// Nobody sets the time of its last change of status, and a file that is moved here has another number.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    inode: u64,
    /// Seconds and nanoseconds since 1970: of the last change of its bytes, and of its bytes or status.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            bytes: file.len(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether the file has been left alone for so long that another change would show.
    fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > RACY)
    }
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
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            let _ = folder.and_then(|()| fs::write(&beside, bytes)).and_then(|()| fs::rename(&beside, path));
        }
    }

    fn digest(&mut self, file: &Path) -> anyhow::Result<String> {
        let metadata = fs::metadata(file).map_err(|error| Fault::input(unreadable(file, &error)))?;
        if metadata.len() < ALWAYS_HASHED_BYTES {
            return of_file(file);
        }
        let (name, stamp) = (file.canonicalize()?, Stamp::of(&metadata));
        if let Some(entry) = self.files.get(&name)
            && entry.stamp == stamp
        {
            return Ok(entry.blake3.clone());
        }
        let blake3 = of_file(file)?;
        if stamp.is_settled() {
            self.files.insert(name, Entry { stamp, blake3: blake3.clone() });
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
    fn a_large_file_is_hashed_again_when_another_takes_its_place() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, beside) = (folder.path().canonicalize()?.join("large"), folder.path().join("beside"));
        // As an archive does it: of one size and with one time stamp.
        let unpack = |byte: u8| -> anyhow::Result<()> {
            fs::write(&beside, vec![byte; ALWAYS_HASHED_BYTES as usize])?;
            let old = UNIX_EPOCH + Duration::from_hours(100_000);
            std::fs::File::options().write(true).open(&beside)?.set_modified(old)?;
            Ok(fs::rename(&beside, &file)?)
        };
        unpack(1)?;
        let mut memory = Memory::default();
        let entry = Entry { stamp: Stamp::of(&fs::metadata(&file)?), blake3: "remembered".into() };
        memory.files.insert(file.clone(), entry);
        assert_eq!(memory.digest(&file)?, "remembered");
        unpack(2)?;
        assert_eq!(memory.digest(&file)?, of_file(&file)?);
        Ok(())
    }

    #[test]
    fn digests_of_files_that_were_left_alone_are_remembered() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (file, memory) = (folder.path().join("large"), folder.path().join("memory.json"));
        fs::write(&file, vec![1; ALWAYS_HASHED_BYTES as usize])?;
        let fresh = Stamp::of(&fs::metadata(&file)?);
        let settled = Stamp { changed: (fresh.changed.0 - 60, 0), ..Stamp::of(&fs::metadata(&file)?) };
        assert_eq!((fresh.is_settled(), settled.is_settled()), (false, true));
        let digests = of_files_by(std::slice::from_ref(&file), Some(&memory))?;
        assert_eq!(digests, [of_file(&file)?]);
        let kept = Memory {
            files: [(file.clone(), Entry { stamp: settled, blake3: "abc".into() })].into(),
            changed: true,
        };
        kept.save(&memory);
        assert_eq!(Memory::load(&memory).files[&file].blake3, "abc");
        Ok(())
    }
}
