//! Files in an artifact's folder that no manifest lists: parts of other keys, leftovers of killed runs; and the checkpoints
//! of runs that can go on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::manifest::Manifest;
use crate::names::{self, STATE};
use crate::seal;

/// Files below an artifact that its manifest does not list, each list in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unlisted {
    /// Those whose names only stages give.
    pub garbage: Vec<PathBuf>,
    /// All others: a stage was pointed at a folder that held them, or somebody put them there.
    pub foreign: Vec<PathBuf>,
}

/// Folders in the artifact's own with the checkpoints of runs that have another key than the artifact and have not come to
/// their end: `state/<short key>`, in order. Such a run goes on from there when it is started again.
pub fn unfinished(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let finished = dir.join(STATE).join(Manifest::load_any(dir)?.short_key());
    let mut runs = folders(&dir.join(STATE))?;
    runs.retain(|run| *run != finished);
    let mut found = Vec::new();
    for run in runs {
        let has_begun = folders(&run)?.iter().any(|folder| has_prefix(folder, "step-"));
        found.extend(has_begun.then_some(run));
    }
    found.sort();
    Ok(found)
}

/// The files below the artifact in `dir` that neither its manifest lists nor the runs in `unfinished` have left.
///
/// The digests of the manifest's parts are kept, and of `state/` what the manifest lists. The lock and the notes of runs that are not
/// in `unfinished` are garbage once a manifest stands beside them.
pub fn unlisted(dir: &Path, unfinished: &[PathBuf]) -> anyhow::Result<Unlisted> {
    let manifest = Manifest::load_any(dir)?;
    let listed: BTreeSet<PathBuf> = manifest.outputs.iter().map(|output| dir.join(&output.file)).collect();
    let mut found = Vec::new();
    walk(dir, &mut found)?;
    found
        .retain(|path| !listed.contains(path) && path.file_name().is_none_or(|name| name != crate::MANIFEST));
    found.retain(|path| !unfinished.iter().any(|run| is_of(run, path)));
    found.retain(|path| !has_prefix(path, &seal::prefix(manifest.short_key())));
    found.sort();
    let ours = |path: &PathBuf| path.strip_prefix(dir).is_ok_and(names::is_of_a_stage);
    let (garbage, foreign) = found.into_iter().partition(ours);
    Ok(Unlisted { garbage, foreign })
}

/// Whether a run with its checkpoints in `run` has left `path`: all else that it leaves has its key in the name.
fn is_of(run: &Path, path: &Path) -> bool {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.starts_with(run) || name(path).contains(&name(run))
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// The folders in `dir`, none where there is no such folder.
fn folders(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// Collects files; a folder with a manifest of its own is another artifact and is left alone, and so is what links lead to.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_symlink() || !path.is_dir() {
            found.push(path);
        } else if !path.join(crate::MANIFEST).exists() {
            walk(&path, found)?;
        }
    }
    Ok(())
}
