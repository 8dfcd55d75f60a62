//! What is compared.

use std::path::PathBuf;

use entromask_artifact::{Kind, Manifest};
use entromask_fault::Fault;

/// The kind of the artifacts in `folders`, results of fine-tuning or entropies.
///
/// # Errors
/// A [`Fault`] of class input if one cannot be read, is of a kind that is not compared, or of another kind than the first.
pub fn kind(folders: &[PathBuf]) -> anyhow::Result<Kind> {
    let mut first = None;
    for folder in folders {
        let kind = Manifest::load_any(folder)?.kind;
        if !matches!(kind, Kind::Glue | Kind::Entropy) {
            return Err(Fault::input(format!("{}: of kind {kind}, which is not compared", folder.display()))
                .remedy("name folders that entromask-glue or entromask-score made")
                .into());
        }
        let (expected, path) = *first.get_or_insert((kind, folder));
        if kind != expected {
            let (folder, path) = (folder.display(), path.display());
            return Err(Fault::input(format!("{folder}: of kind {kind}, but {path} is of kind {expected}"))
                .remedy("compare artifacts of one kind: results with results, entropies with entropies")
                .into());
        }
    }
    Ok(first.map_or(Kind::Glue, |(kind, _)| kind))
}
