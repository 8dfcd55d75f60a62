//! How far scorings of the same tokens agree: two teachers, `kfold` and `unmasked`, two rounds or seeds of self-masking.
//!
//! Each scoring is compared with the first over the positions that both scored, one measure after the other. Of the measure
//! at hand two f32 are kept for each position, and 8 bytes more while it is ranked: 1.6 GB for 10^8 positions, beside one
//! part of each. As [`inspect`](crate::inspect) does, a large corpus is sampled unless all of it is asked for.

mod notes;
mod output;
mod page;
mod scoring;
mod shifts;
mod statistics;
mod text;

use std::path::{Path, PathBuf};

use entromask_fault::Fault;
use entromask_tables::{Measure, TokenColumns};
use serde::Serialize;

use crate::compare::names;
use crate::corpus::Corpus;
use crate::pairs::Pairs;
use crate::sample::{self, LookedAt};
use crate::scan;
use scoring::Opened;
use shifts::TokenMeans;
pub use shifts::{Shift, Shifts};
pub use statistics::Statistics;

/// Tokens at either end of the differences.
const RANKED: usize = 8;

/// How much to look at.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Read every part instead of a sample.
    pub all: bool,
    /// Rank tokens that both scored at least so often; less if only few were.
    pub min_count: u64,
}

/// Scorings beside the first of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// What is compared; the first one is the reference.
    pub scorings: Vec<Scoring>,
    /// What of the tables was read.
    pub looked_at: LookedAt,
    /// Each other scoring, in their order.
    pub others: Vec<Other>,
    /// What has to be known to read them.
    pub notes: Vec<String>,
}

/// One entropy artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scoring {
    /// What tells its folder from the others.
    pub name: String,
    /// Folder.
    pub path: PathBuf,
    /// Content digest of the model that scored; empty if it is not known.
    pub model: String,
}

/// One scoring against the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Other {
    /// One for each measure that both have.
    pub measures: Vec<Statistics>,
    /// The tokens whose mean entropy differs most.
    pub shifts: Shifts,
}

impl Default for Options {
    fn default() -> Self {
        Self { all: false, min_count: scan::MIN_COUNT }
    }
}

impl Options {
    /// What only entropies have a use for.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if an option is set for the results in `folder`.
    pub fn refuse(&self, folder: &Path) -> anyhow::Result<()> {
        let flags = [("--all", self.all), ("--min-count", self.min_count != scan::MIN_COUNT)];
        let given = flags.into_iter().find(|(_, given)| *given);
        given.map_or(Ok(()), |(flag, _)| {
            let what =
                format!("{flag}: {} holds fine-tuning results, which have no rows to read", folder.display());
            Err(Fault::usage(what).remedy("leave it out, or name entropies").into())
        })
    }
}

/// Compares the entropies in `folders` with those in the first of them.
///
/// # Errors
/// A [`Fault`] of class usage for fewer than two folders, of class input if one holds no entropies, is damaged or of other
/// tokens than the first, or shares no position with it.
pub fn compare(folders: &[PathBuf], options: &Options) -> anyhow::Result<Agreement> {
    let opened = folders.iter().map(|folder| Opened::open(folder)).collect::<anyhow::Result<Vec<_>>>()?;
    let [reference, others @ ..] = opened.as_slice() else { return Err(nothing().into()) };
    if others.is_empty() {
        return Err(nothing().into());
    }
    others.iter().try_for_each(|other| other.check(reference))?;
    let (chosen, looked_at) = sample::choose(&reference.parts(), (!options.all).then_some(sample::ROWS));
    opened.iter().try_for_each(|one| one.verify(&chosen))?;
    let corpus = Corpus::behind(&reference.manifest, &reference.path);
    let view = View { reference, corpus: corpus.as_ref().ok(), chosen: &chosen, options };
    let others = others.iter().map(|other| view.other(other)).collect::<anyhow::Result<Vec<_>>>()?;
    let scorings: Vec<_> = opened.iter().zip(names(folders)).map(|(one, name)| one.scoring(name)).collect();
    let notes = notes::notes(&opened, &scorings, &others, corpus.as_ref().err());
    Ok(Agreement { scorings, looked_at, others, notes })
}

/// What every other scoring is compared over.
struct View<'a> {
    reference: &'a Opened,
    corpus: Option<&'a Corpus>,
    /// Indices of the parts.
    chosen: &'a [usize],
    options: &'a Options,
}

impl View<'_> {
    fn other(&self, other: &Opened) -> anyhow::Result<Other> {
        let mut tokens = TokenMeans::default();
        let mut measures = Vec::new();
        for name in self.reference.measures.iter().filter(|name| other.measures.contains(name)) {
            let ranked = (name == "entropy").then_some(&mut tokens);
            let pairs = self.pairs(other, name, ranked)?;
            let of = Statistics::of(name, pairs).ok_or_else(|| other.apart(self.reference, self.options))?;
            measures.push(of);
        }
        let names = self.corpus.map(|corpus| &corpus.names);
        let shifts = names.map(|names| tokens.shifts(RANKED, self.options.min_count, names));
        Ok(Other { measures, shifts: shifts.unwrap_or_default() })
    }

    /// The values of one measure; with `means`, also those of each token.
    fn pairs(&self, other: &Opened, name: &str, mut means: Option<&mut TokenMeans>) -> anyhow::Result<Pairs> {
        let mut pairs = Pairs::default();
        for &index in self.chosen {
            let sides = [self.reference, other].map(|one| Measure::read(&one.part(index), name));
            let [left, right] = sides;
            let (left, right) = (left?, right?);
            other.check_rows(self.reference, index, [&left, &right])?;
            if let (Some(means), Some(corpus)) = (&mut means, self.corpus) {
                means.add(&corpus.read(index, TokenColumns::default())?, [&left.values, &right.values]);
            }
            pairs.add(&left.values, &right.values)?;
        }
        Ok(pairs)
    }
}

fn nothing() -> Fault {
    Fault::usage("nothing to compare").remedy("name at least two folders of entropies")
}
