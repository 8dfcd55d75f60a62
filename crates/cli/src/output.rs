//! Results on stdout and in files of their own.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use entromask_fault::Fault;
use fs_err as fs;
use serde::Serialize;

use crate::CommonArgs;

/// Files that are being written.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Prints a result: as text, or as one JSON document with `--json`. A closed pipe is not an error.
pub fn emit(common: &CommonArgs, text: impl Display, json: &impl Serialize) -> anyhow::Result<()> {
    let line = if common.output.json { serde_json::to_string(json)? } else { text.to_string() };
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A file that is there as a whole or not at all: it is written beside its place and renamed.
///
/// Opened before the work, so that a place which cannot be written to shows before it and not after it.
#[derive(Debug)]
pub struct OutputFile {
    place: PathBuf,
    beside: PathBuf,
}

impl OutputFile {
    /// Makes the folder and an empty file beside `place`.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if `place` cannot be written.
    pub fn create(place: &Path) -> anyhow::Result<Self> {
        // What a link leads to is written, and a device is no place for a file.
        let resolved = place.canonicalize().unwrap_or_else(|_| place.into());
        let place = resolved.as_path();
        let name = place.file_name().ok_or_else(|| refuse(place, "this is no file"))?;
        let beside = place.with_file_name(format!(".tmp-{}-{}", std::process::id(), name.to_string_lossy()));
        if place.exists() && !place.is_file() {
            let what = if place.is_dir() { "this is a folder" } else { "this is no regular file" };
            return Err(refuse(place, what).into());
        }
        let folder = place.parent().map_or(Ok(()), fs::create_dir_all);
        unfinished().push(beside.clone());
        folder.and_then(|()| fs::write(&beside, "")).map_err(|error| refuse(place, error))?;
        Ok(Self { place: place.into(), beside })
    }

    /// Puts `bytes` in its place.
    ///
    /// # Errors
    /// If that cannot be written, as on a full disk; what was in its place stays there.
    pub fn publish(self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.write_beside(bytes).and_then(|()| fs::rename(&self.beside, &self.place));
        written.with_context(|| format!("{}: cannot write", self.place.display()))
    }

    /// Synced, so that no crash leaves a name without its bytes.
    fn write_beside(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = fs::File::create(&self.beside)?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.beside);
        unfinished().retain(|file| *file != self.beside);
    }
}

/// Removes what nobody will finish, where the process ends without ado.
pub(crate) fn remove_unfinished() {
    for file in unfinished().iter() {
        let _ = fs::remove_file(file);
    }
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(place: &Path, why: impl Display) -> Fault {
    Fault::usage(format!("{}: cannot write: {why}", place.display())).remedy("choose another --out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (place, parent) = (folder.path().join("new/page.html"), folder.path().join("new"));
        let files = || fs::read_dir(&parent).map(Iterator::count);
        drop(OutputFile::create(&place)?);
        assert_eq!(files()?, 0, "who gives up leaves nothing");
        OutputFile::create(&place)?.publish(b"whole")?;
        assert_eq!((fs::read(&place)?, files()?), (b"whole".to_vec(), 1));
        let link = folder.path().join("link.html");
        std::os::unix::fs::symlink(&place, &link)?;
        OutputFile::create(&link)?.publish(b"through the link")?;
        assert!(link.is_symlink() && fs::read(&place)? == b"through the link");
        for wrong in [parent.clone(), place.join("below.html"), "/".into(), "/dev/null".into()] {
            let error = OutputFile::create(&wrong).unwrap_err();
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2, "{error}");
        }
        Ok(())
    }
}
