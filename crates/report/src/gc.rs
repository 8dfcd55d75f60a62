//! Files that no manifest lists: found, and removed if asked for.

use std::path::{Path, PathBuf};

use entromask_artifact::{MANIFEST, Unlisted, unfinished, unlisted};
use entromask_fault::Fault;
use entromask_tables::footer_key;
use fs_err as fs;
use serde::Serialize;

use crate::number::{bytes, counted};

/// The lock that a stage holds while it works on an artifact; stays, so that no two processes hold different ones.
const LOCK: &str = ".lock";

/// What was found below a folder.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Collection {
    /// Artifacts that were looked at.
    pub artifacts: usize,
    /// Files that no manifest lists, and that a stage has made.
    pub garbage: Vec<Garbage>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Files that no manifest lists, and that no stage has made; they are left alone.
    pub foreign: usize,
    /// Artifacts that a stage is working on; nothing of them is listed.
    pub busy: Vec<PathBuf>,
    /// Folders without a manifest that a stage has begun to fill, and those that hold what an interrupted run left beside an
    /// artifact that was made earlier; it is kept to resume from.
    pub unfinished: Vec<PathBuf>,
    /// Whether the garbage was removed.
    pub deleted: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What to do with what is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Remove the garbage.
    pub delete: bool,
    /// Count what interrupted runs left beside an artifact as garbage, too.
    pub unfinished: bool,
}

/// Looks at all artifacts below `dir`, and if asked to removes what their manifests do not list.
///
/// # Errors
/// A [`Fault`] of class input if `dir` is no folder or a manifest is damaged.
pub fn collect(dir: &Path, options: Options) -> anyhow::Result<Collection> {
    if !dir.is_dir() {
        return Err(Fault::input(format!("{}: no such folder", dir.display()))
            .remedy("name the folder that holds the artifacts, e.g. data")
            .into());
    }
    let mut collection = Collection { deleted: options.delete, ..Collection::default() };
    walk(dir, options, &mut collection)?;
    collection.bytes = collection.garbage.iter().map(|file| file.bytes).sum();
    Ok(collection)
}

impl std::fmt::Display for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for file in &self.garbage {
            writeln!(f, "{:>10}  {}", bytes(file.bytes), file.path.display())?;
        }
        for dir in &self.busy {
            writeln!(f, "in use, left alone: {}", dir.display())?;
        }
        for dir in &self.unfinished {
            writeln!(f, "unfinished, kept to resume from: {}", dir.display())?;
        }
        if self.foreign > 0 {
            writeln!(f, "left alone, since no stage made them: {}", counted(self.foreign as u64, "file"))?;
        }
        let artifacts = counted(self.artifacts as u64, "artifact");
        let files = counted(self.garbage.len() as u64, "file");
        write!(f, "{artifacts}, {files} that no manifest lists, {}", bytes(self.bytes))?;
        match (self.deleted, self.garbage.len()) {
            (_, 0) => Ok(()),
            (true, _) => write!(f, ": removed"),
            (false, _) => write!(f, "; --delete removes them"),
        }
    }
}

fn walk(dir: &Path, options: Options, collection: &mut Collection) -> anyhow::Result<()> {
    if dir.join(MANIFEST).exists() {
        sweep(dir, options, collection)?;
    } else if dir.join(LOCK).exists() {
        collection.unfinished.push(dir.into());
    }
    let mut below: Vec<_> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    below.retain(|path| path.is_dir() && !path.is_symlink());
    below.sort();
    below.iter().try_for_each(|path| walk(path, options, collection))
}

fn sweep(dir: &Path, options: Options, collection: &mut Collection) -> anyhow::Result<()> {
    collection.artifacts += 1;
    // Held until the files are gone: a stage that starts meanwhile says that the folder is in use.
    let lock = std::fs::File::open(dir.join(LOCK)).ok();
    if lock.as_ref().is_some_and(|lock| lock.try_lock().is_err()) {
        collection.busy.push(dir.into());
        return Ok(());
    }
    let runs = if options.unfinished { Vec::new() } else { unfinished(dir)? };
    let Unlisted { garbage, foreign } = unlisted(dir, &runs)?;
    let (garbage, others): (Vec<_>, Vec<_>) = garbage.into_iter().partition(|path| is_ours(path));
    collection.foreign += foreign.len() + others.len();
    for path in garbage.into_iter().filter(|path| !path.ends_with(LOCK)) {
        let bytes = fs::symlink_metadata(&path)?.len();
        if options.delete {
            fs::remove_file(&path)?;
            remove_empty(path.parent(), dir);
        }
        collection.garbage.push(Garbage { path, bytes });
    }
    let of_run = |key: &String| Some(dir.join("state").join(key)).filter(|folder| folder.is_dir());
    collection.unfinished.extend(runs.iter().filter_map(of_run));
    if runs.iter().any(|key| of_run(key).is_none()) {
        collection.unfinished.push(dir.into());
    }
    Ok(())
}

/// A table that can be read has the key of its name in its footer, if a stage has made it.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_table = name.ends_with(".parquet") && !name.starts_with('.');
    let key = is_table.then(|| footer_key(path).ok()).flatten();
    key.is_none_or(|key| key.is_some_and(|key| name.contains(key.get(..8).unwrap_or(&key))))
}

/// Removes folders that have become empty, up to the artifact's own.
fn remove_empty(mut folder: Option<&Path>, artifact: &Path) {
    while let Some(path) = folder.filter(|path| *path != artifact) {
        if std::fs::remove_dir(path).is_err() {
            return;
        }
        folder = path.parent();
    }
}
