//! Digests of many files, remembered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::of_input;
use crate::stamp::{Stamp, metadata};

/// Files that are smaller together are hashed every time: that takes milliseconds.
const ALWAYS_HASHED_BYTES: u64 = 16 << 20;

/// And so are single ones of this size among larger ones, which would fill the memory.
const SMALL_BYTES: u64 = 64 << 10;

/// The digests of many files; where they are large together, they are remembered in the user's cache as long as their [`Stamp`]
/// does not change.
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
    let sizes = files.iter().map(|file| Ok(metadata(file)?.len())).collect::<anyhow::Result<Vec<u64>>>()?;
    if sizes.iter().sum::<u64>() < ALWAYS_HASHED_BYTES {
        return files.iter().map(|file| of_input(file)).collect();
    }
    let mut remembered = memory.map(Memory::load).unwrap_or_default();
    let digests = files.iter().map(|file| remembered.digest(file)).collect::<anyhow::Result<_>>();
    if let Some(memory) = memory {
        remembered.save(memory);
    }
    digests
}

#[derive(Default, Serialize, Deserialize)]
struct Memory {
    files: BTreeMap<PathBuf, Entry>,
    /// What is not kept yet.
    #[serde(skip)]
    new: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    stamp: Stamp,
    blake3: String,
}

impl Memory {
    fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Adds what is new to what other processes have kept meanwhile, less the files that are gone.
    ///
    /// The memory only saves time: failing to keep it (a read-only folder, say) costs a second hashing, no more.
    fn save(self, path: &Path) {
        if self.new.is_empty() {
            return;
        }
        let mut kept = Self::load(path);
        kept.files.retain(|file, _| file.exists());
        kept.files.extend(self.new);
        if let Ok(bytes) = serde_json::to_vec(&kept) {
            let beside = path.with_extension(format!("tmp-{}", std::process::id()));
            let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
            let _ = folder.and_then(|()| fs::write(&beside, bytes)).and_then(|()| fs::rename(&beside, path));
        }
    }

    fn digest(&mut self, file: &Path) -> anyhow::Result<String> {
        let metadata = metadata(file)?;
        if metadata.len() < SMALL_BYTES {
            return of_input(file);
        }
        let (name, stamp) = (file.canonicalize()?, Stamp::of(&metadata));
        if let Some(entry) = self.new.get(&name).or_else(|| self.files.get(&name))
            && entry.stamp == stamp
        {
            return Ok(entry.blake3.clone());
        }
        // Asked before, since hashing takes longer than another change needs to show.
        let is_settled = stamp.is_settled();
        let blake3 = of_input(file)?;
        if is_settled {
            self.new.insert(name, Entry { stamp, blake3: blake3.clone() });
        }
        Ok(blake3)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::digest::of_file;

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
        let mut settled = fresh.clone();
        settled.changed = (fresh.changed.0 - 60, 0);
        assert_eq!((fresh.is_settled(), settled.is_settled()), (false, true));
        let digests = of_files_by(std::slice::from_ref(&file), Some(&memory))?;
        assert_eq!(digests, [of_file(&file)?]);
        let small = folder.path().join("small");
        fs::write(&small, "small")?;
        let of = |file: &Path, blake3: &str| Memory {
            new: [(file.into(), Entry { stamp: settled.clone(), blake3: blake3.into() })].into(),
            ..Memory::default()
        };
        of(&file, "abc").save(&memory);
        of(&small, "def").save(&memory);
        let kept = Memory::load(&memory).files;
        assert_eq!([&kept[&file].blake3, &kept[&small].blake3], ["abc", "def"], "of two processes");
        fs::remove_file(&small)?;
        of(&file, "ghi").save(&memory);
        let kept = Memory::load(&memory).files;
        assert_eq!((kept[&file].blake3.as_str(), kept.len()), ("ghi", 1), "without what is gone");
        Ok(())
    }

    #[test]
    fn what_is_large_together_is_remembered() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let files: Vec<PathBuf> = ["a", "b"].map(|name| folder.path().join(name)).into();
        for file in &files {
            fs::write(file, vec![1; ALWAYS_HASHED_BYTES as usize / 2])?;
        }
        let mut memory = Memory::default();
        let name = files[0].canonicalize()?;
        let stamp = Stamp::of(&fs::metadata(&name)?);
        memory.new.insert(name, Entry { stamp, blake3: "remembered".into() });
        let path = folder.path().join("memory.json");
        memory.save(&path);
        assert_eq!(of_files_by(&files, Some(&path))?, ["remembered".into(), of_file(&files[1])?]);
        assert_eq!(of_files_by(&files[..1], Some(&path))?, [of_file(&files[0])?], "alone it is small");
        Ok(())
    }
}
