//! Files in an artifact's folder that no manifest lists: parts of other keys, leftovers of killed runs; and the checkpoints
//! of runs that can go on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::manifest::Manifest;
use crate::names::{self, STATE};
use crate::remains::newest_step;
use crate::seal;

/// Files below an artifact that its manifest does not list, each list in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unlisted {
    /// Those whose names only stages give.
    pub garbage: Vec<PathBuf>,
    /// All others: a stage was pointed at a folder that held them, or somebody put them there.
    pub foreign: Vec<PathBuf>,
}

/// The short keys of runs in the artifact's folder that have another key than the artifact and have not come to their end, in
/// order: they have a checkpoint, or a note of their time and something finished, and go on from that when they are started again.
pub fn unfinished(dir: &Path) -> anyhow::Result<Vec<String>> {
    let manifest = Manifest::load_any(dir)?;
    let mut with_checkpoint = names::entries(&dir.join(STATE));
    with_checkpoint.retain(|key| key != manifest.short_key() && newest_step(dir, key).is_some());
    let names = names::entries(dir);
    let with_note = names.iter().filter_map(|name| names::key_of_note(name));
    // Runs of fine-tuning have keys of their own, and the note that of what they are made for.
    let is_begun = |key: &&str| {
        !with_checkpoint.is_empty() || names.iter().any(|name| is_progress(name, key, &manifest))
    };
    let noted: Vec<String> = with_note.filter(is_begun).map(str::to_owned).collect();
    let mut keys: BTreeSet<String> = with_checkpoint.into_iter().chain(noted).collect();
    keys.remove(manifest.short_key());
    Ok(keys.into_iter().collect())
}

/// Whether `name` is of something that the run with this key has finished. What fine-tuning finishes has keys of its own.
fn is_progress(name: &str, key: &str, manifest: &Manifest) -> bool {
    let of_the_run = name.contains(key) && (names::is_part(name) || name.starts_with(&seal::prefix(key)));
    of_the_run || (names::is_of_fine_tuning(Path::new(name)) && manifest.output(name).is_none())
}

/// The files below the artifact in `dir` that neither its manifest lists nor the runs in `unfinished` have left.
///
/// The digests of the manifest's parts are kept, and of `state/` what the manifest lists. The lock and the notes of runs that are not
/// in `unfinished` are garbage once a manifest stands beside them.
pub fn unlisted(dir: &Path, unfinished: &[String]) -> anyhow::Result<Unlisted> {
    let manifest = Manifest::load_any(dir)?;
    let listed: BTreeSet<PathBuf> = manifest.outputs.iter().map(|output| dir.join(&output.file)).collect();
    let mut found = Vec::new();
    walk(dir, &mut found)?;
    found
        .retain(|path| !listed.contains(path) && path.file_name().is_none_or(|name| name != crate::MANIFEST));
    found.retain(|path| !path.strip_prefix(dir).is_ok_and(|file| is_of_any(unfinished, file)));
    found.retain(|path| !has_prefix(path, &seal::prefix(manifest.short_key())));
    found.sort();
    let ours = |path: &PathBuf| path.strip_prefix(dir).is_ok_and(names::is_of_a_stage);
    let (garbage, foreign) = found.into_iter().partition(ours);
    Ok(Unlisted { garbage, foreign })
}

/// Whether one of the runs has left `file`, a path below the artifact's folder. What fine-tuning leaves has keys of its own.
fn is_of_any(unfinished: &[String], file: &Path) -> bool {
    let is_its = |key: &String| file.starts_with(Path::new(STATE).join(key)) || name(file).contains(key);
    unfinished.iter().any(is_its) || (!unfinished.is_empty() && names::is_of_fine_tuning(file))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    name(path).starts_with(prefix)
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
