//! Tables with the rows of token parts, one for each part and epoch.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Manifest, epoch_prefix};
use entromask_fault::Fault;
use entromask_tables::{Masks, Targets, Tokens};

/// An artifact with a table for each token part and epoch.
#[derive(Clone, Debug)]
pub(crate) struct RowTables {
    folder: PathBuf,
    manifest: Manifest,
}

impl RowTables {
    pub(crate) fn new(folder: &Path, manifest: &Manifest) -> Self {
        Self { folder: folder.into(), manifest: manifest.clone() }
    }

    /// Path of a table that is what the manifest says.
    fn path(&self, part: usize, epoch: u64) -> Result<PathBuf> {
        let output = self.manifest.parts(&epoch_prefix(epoch)).nth(part);
        let missing = || {
            let (folder, kind) = (self.folder.display(), self.manifest.kind);
            Fault::input(format!("{folder}: no {kind} of epoch {epoch} for token part {part}"))
                .remedy(format!("make {kind} again for these tokens"))
        };
        let output = output.ok_or_else(missing)?;
        output.verify(&self.folder)?;
        Ok(self.folder.join(&output.file))
    }

    /// The table for token part `part` in `epoch`, which has to have the rows of `tokens`.
    pub(super) fn masks(&self, part: usize, epoch: u64, tokens: &Tokens) -> Result<LoadedMasks> {
        let path = self.path(part, epoch)?;
        let masks = Masks::read(&path)?;
        if masks.row != tokens.row {
            return Err(mismatch(&path, tokens.rows(), masks.rows()).into());
        }
        Ok(LoadedMasks { masks, path })
    }

    pub(super) fn targets(&self, part: usize, epoch: u64, masks: &LoadedMasks) -> Result<Targets> {
        let path = self.path(part, epoch)?;
        let targets = Targets::read(&path)?;
        let same = targets.row == masks.masks.row && targets.tail.offsets == masks.masks.positions.offsets;
        if !same {
            return Err(mismatch(&path, masks.masks.rows(), targets.row.len()).into());
        }
        Ok(targets)
    }
}

/// Masks, and where they were read.
#[derive(Debug)]
pub(super) struct LoadedMasks {
    pub(super) masks: Masks,
    pub(super) path: PathBuf,
}

/// A table that has not the rows of its token part.
pub(super) fn mismatch(path: &Path, expected: usize, found: usize) -> Fault {
    Fault::input(format!("{}: expected {expected} rows of the token part, found {found}", path.display()))
        .remedy("delete the manifest.json beside it and run its stage again")
}
