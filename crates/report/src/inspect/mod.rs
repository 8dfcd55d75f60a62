//! What an artifact is, as far as a person wants to know: from its manifest, and from a sample of its rows.

mod drift_screen;
mod entropy;
mod entropy_screen;
pub mod glue;
mod mask_screen;
mod masks;
pub mod model;
pub(crate) mod rows;
mod screen;
pub mod selection;
mod target;
mod targets;
mod tokens;

use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, Manifest};
use entromask_fault::Fault;
use serde::Serialize;

pub use entropy::EntropyView;
pub use glue::GlueView;
pub use masks::MasksView;
pub use model::ModelView;
pub use targets::TargetsView;
pub use tokens::TokensView;

use crate::paint::Paint;
use crate::sample::{self, LookedAt};
use crate::scan;
use target::Target;

/// How much to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Read every part instead of a sample.
    pub all: bool,
    /// Show this row instead of a typical one.
    pub row: Option<u64>,
    /// Rank tokens that were scored at least so often; less if only few were.
    pub min_count: u64,
    /// Compare every file with its digest.
    pub verify: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The artifact's folder.
    pub path: PathBuf,
    /// The part that was asked for, if one was.
    pub part: Option<String>,
    /// The kind of artifact.
    pub kind: Kind,
    /// The manifest; none for a Hugging Face folder from elsewhere and for a part by itself.
    pub manifest: Option<Manifest>,
    /// What of its tables was read.
    pub looked_at: Option<LookedAt>,
    /// What a reader should know about these numbers.
    pub notes: Vec<String>,
    /// What is in it.
    pub view: View,
}

/// What is in an artifact, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Tokenized text.
    Tokens(TokensView),
    /// Entropies.
    Entropy(EntropyView),
    /// Masks.
    Masks(MasksView),
    /// Soft targets.
    Targets(TargetsView),
    /// A model.
    Model(ModelView),
    /// Fine-tuning results.
    Glue(GlueView),
}

impl Default for Options {
    fn default() -> Self {
        Self { all: false, row: None, min_count: scan::MIN_COUNT, verify: false }
    }
}

impl Options {
    /// The number of rows to be content with.
    fn budget(&self) -> Option<u64> {
        (!self.all).then_some(sample::ROWS)
    }

    /// # Errors
    /// A [`Fault`] of class usage if something is asked about rows, and there are none.
    fn check(&self, path: &Path, kind: Kind) -> anyhow::Result<()> {
        let flags = [
            ("--row", self.row.is_some()),
            ("--all", self.all),
            ("--min-count", self.min_count != scan::MIN_COUNT),
        ];
        let given = flags.into_iter().find(|(_, given)| *given);
        match (kind, given) {
            (Kind::Targets | Kind::Model | Kind::Glue, Some((flag, _))) => Err(Fault::usage(format!(
                "{flag}: {} is of kind {kind}, which has no rows to show",
                path.display()
            ))
            .remedy("leave it out, or name tokens, entropy or masks")
            .into()),
            _ => Ok(()),
        }
    }
}

/// A model that was handed on has no `state/`, which only another round needs.
fn verify(manifest: &Manifest, dir: &Path) -> anyhow::Result<()> {
    if dir.join("state").exists() {
        return manifest.verify(dir);
    }
    manifest.verify_read(dir, |file| !file.starts_with("state/"))
}

/// Looks at the artifact, Hugging Face folder or part at `path`.
///
/// # Errors
/// A [`Fault`] of class input if there is nothing to look at, or it is damaged; of class usage if `options` ask for what it
/// does not have.
pub fn inspect(path: &Path, options: &Options) -> anyhow::Result<Inspection> {
    let target = Target::open(path)?;
    options.check(path, target.kind)?;
    if let (true, Some(manifest)) = (options.verify, &target.manifest) {
        verify(manifest, &target.dir)?;
    }
    let mut notes = target.notes();
    let (looked_at, view) = match target.kind {
        Kind::Tokens => {
            tokens::view(&target, options).map(|(seen, view)| (Some(seen), View::Tokens(view)))?
        }
        Kind::Entropy => entropy::view(&target, options, &mut notes)
            .map(|(seen, view)| (Some(seen), View::Entropy(view)))?,
        Kind::Masks => {
            masks::view(&target, options, &mut notes).map(|(seen, view)| (Some(seen), View::Masks(view)))?
        }
        Kind::Targets => (None, View::Targets(targets::view(target.manifest.as_ref()))),
        Kind::Model => (None, View::Model(model::view(&target.dir)?)),
        Kind::Glue => (None, View::Glue(glue::view(&target.dir)?)),
    };
    let Target { dir, part, kind, manifest, .. } = target;
    Ok(Inspection { path: dir, part, kind, manifest, looked_at, notes, view })
}

impl Inspection {
    /// The inspection as text for a terminal.
    pub fn render(&self, paint: Paint) -> String {
        screen::render(self, paint)
    }
}
