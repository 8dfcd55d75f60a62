//! An entropy artifact that is compared.

use std::path::{Path, PathBuf};

use entromask_artifact::{Input, Kind, Manifest, Output};
use entromask_fault::Fault;
use entromask_tables::{Entropies, Measure};

use super::{Options, Scoring};
use crate::trace;

/// An opened entropy artifact.
pub(super) struct Opened {
    pub path: PathBuf,
    pub manifest: Manifest,
    /// The names of what it has: entropy, surprisal, further ones by name.
    pub measures: Vec<String>,
}

impl Opened {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::load(path, Kind::Entropy)?;
        let first = manifest.parts("part").next().map(|part| Entropies::measures_of(&path.join(&part.file)));
        let always = ["entropy", "surprisal"].map(String::from);
        let measures = always.into_iter().chain(first.transpose()?.unwrap_or_default()).collect();
        Ok(Self { path: path.into(), manifest, measures })
    }

    /// Whether its rows are those of `reference`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if they are not.
    pub(super) fn check(&self, reference: &Self) -> anyhow::Result<()> {
        let (own, theirs) = (self.tokens()?, reference.tokens()?);
        if own.content != theirs.content {
            let (one, other) = (self.path.display(), reference.path.display());
            let (own, theirs, tokens) = (named(own), named(theirs), theirs.path.display());
            return Err(Fault::input(format!("{one}: it scored the tokens {own}, and {other} {theirs}"))
                .remedy(format!("score the same tokens with both models: entromask-score --tokens {tokens}"))
                .into());
        }
        let rows = |one: &Self| one.parts().iter().map(|part| part.rows).collect::<Vec<_>>();
        if rows(self) == rows(reference) { Ok(()) } else { Err(self.misaligned(reference).into()) }
    }

    /// Whether part `index` of both, of which one measure was read, has the same rows.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(super) fn check_rows(
        &self,
        reference: &Self,
        index: usize,
        [left, right]: [&Measure; 2],
    ) -> anyhow::Result<()> {
        if left.row == right.row && left.values.offsets == right.values.offsets {
            return Ok(());
        }
        Err(self.misaligned(reference))
            .map_err(|fault| anyhow::Error::from(fault).context(format!("part {index}")))
    }

    /// Compares the parts at `chosen` with the digests in the manifest.
    ///
    /// # Errors
    /// A [`Fault`] of class input if one differs.
    pub(super) fn verify(&self, chosen: &[usize]) -> anyhow::Result<()> {
        let parts = self.parts();
        chosen.iter().try_for_each(|&index| parts[index].verify(&self.path))
    }

    pub(super) fn parts(&self) -> Vec<&Output> {
        self.manifest.parts("part").collect()
    }

    /// The file of a part.
    pub(super) fn part(&self, index: usize) -> PathBuf {
        self.path.join(&self.parts()[index].file)
    }

    pub(super) fn scoring(&self, name: String) -> Scoring {
        let model = trace::scorer(&self.manifest).map(|input| input.content.clone()).unwrap_or_default();
        Scoring { name, path: self.path.clone(), model }
    }

    /// No position is in both.
    pub(super) fn apart(&self, reference: &Self, options: &Options) -> Fault {
        let (one, other) = (self.path.display(), reference.path.display());
        let fault = Fault::input(format!("{one}: no position that was read is scored in {other}, too"));
        fault.remedy(if options.all {
            "score samples of the same `rows`, `fraction` and `seed`"
        } else {
            "read everything with --all, or score samples of the same `rows`, `fraction` and `seed`"
        })
    }

    fn tokens(&self) -> anyhow::Result<&Input> {
        self.manifest.input("tokens").ok_or_else(|| {
            Fault::input(format!("{}: its manifest names no tokens", self.path.display()))
                .remedy("score the tokens again")
                .into()
        })
    }

    fn misaligned(&self, reference: &Self) -> Fault {
        let (one, other) = (self.path.display(), reference.path.display());
        Fault::input(format!("{one}: it has other rows than {other}, although both are of the same tokens"))
            .remedy("run inspect --verify on both, and score the damaged one again")
    }
}

/// `data/tokens/sample (640bc03c7b58)`
fn named(input: &Input) -> String {
    let digits: String = input.content.chars().take(12).collect();
    format!("{} ({digits})", input.path.display())
}
