//! Files in an artifact's folder that no manifest lists: parts of other keys, leftovers of killed runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::manifest::Manifest;

/// The files below the artifact in `dir` that its manifest does not list, in order.
///
/// Of `state/` what the manifest lists is kept; the lock and the notes of an unfinished run are garbage once a manifest stands
/// beside them.
pub fn garbage(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let manifest = Manifest::load_any(dir)?;
    let listed: BTreeSet<PathBuf> = manifest.outputs.iter().map(|output| dir.join(&output.file)).collect();
    let mut found = Vec::new();
    walk(dir, &mut found)?;
    found
        .retain(|path| !listed.contains(path) && path.file_name().is_none_or(|name| name != crate::MANIFEST));
    found.sort();
    Ok(found)
}

/// Collects files; a folder with a manifest of its own is another artifact and is left alone.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            found.push(path);
        } else if !path.join(crate::MANIFEST).exists() {
            walk(&path, found)?;
        }
    }
    Ok(())
}
