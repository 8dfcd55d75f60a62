//! The grid file, and the runs that it stands for.
//!
//! ```toml
//! title = "Strategies"
//! glue = ["probe"]                     # files in pipelines/glue/, each run is measured by all of them
//! baseline = { strategy = "random" }   # what a run is compared with: itself, but for these choices; a list for several
//!
//! [fixed]                              # one value an axis
//! corpus = "sample"
//!
//! [axes]                               # several values an axis: each with each
//! strategy = ["random", "sample"]
//! source = ["teacher", "self"]
//! seed = [1, 2, 3]
//!
//! [[exclude]]                          # runs that are left out
//! strategy = "sample"
//! source = "self"
//!
//! [[runs]]                             # further runs: values or lists, each with each
//! strategy = "high"
//! source = "self"
//! seed = [1, 2, 3]
//! ```

mod axis;
mod catalogue;
mod choice;
mod expand;
mod file;
mod overrides;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

pub use axis::Axis;
pub use catalogue::{Catalogue, Teacher};
pub use choice::{Choice, Dtype, Source, Transfer};

/// A grid, expanded.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Stem of the file's name.
    pub name: String,
    /// Headline of the report.
    pub title: String,
    /// What it asks, in a paragraph; empty for none.
    pub about: String,
    /// Stages that are made side by side.
    pub jobs: usize,
    /// Threads of each stage; all cores divided by `jobs` without.
    pub threads: Option<usize>,
    /// Fine-tuning configurations that each run is measured by.
    pub glue: Vec<String>,
    /// Schedules of masking by name: keys of a mask configuration.
    pub schedules: BTreeMap<String, toml::Table>,
    /// The runs in the order in which they are made: seed by seed.
    pub runs: Vec<Run>,
    /// The axes in which runs differ, without the seed.
    pub varied: Vec<Axis>,
}

/// One pretraining with all that comes before and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What was chosen; what has no bearing on this run is empty.
    pub choice: Choice,
    /// What it is compared with, each other than itself; none for a baseline.
    pub baselines: Vec<Choice>,
}

impl Grid {
    /// Reads and expands a grid; `pipelines` is the folder with the configurations that it names.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class usage that names the file, the value and the remedy.
    pub fn load(path: &Path, pipelines: &Path) -> anyhow::Result<Self> {
        let file = file::File::load(path)?;
        expand::expand(file, path, &Catalogue::new(pipelines))
    }

    /// Which runs have nothing to be compared with, a text for each pair of what is compared: their baseline is not in the
    /// grid, or not with their seed.
    pub fn unpaired(&self) -> Vec<String> {
        let mut alone: Vec<((String, String), Vec<String>)> = Vec::new();
        for run in &self.runs {
            let missing =
                run.baselines.iter().filter(|baseline| self.runs.iter().all(|run| run.choice != **baseline));
            for baseline in missing {
                let labels = self.told_apart(&run.choice, baseline);
                let seed = run.choice.seed.to_string();
                match alone.iter_mut().find(|(found, _)| *found == labels) {
                    Some((_, seeds)) => seeds.push(seed),
                    None => alone.push((labels, vec![seed])),
                }
            }
        }
        let words = |((run, baseline), seeds): &((String, String), Vec<String>)| {
            format!("{run} (seed {}) with {baseline}, which the grid does not have", seeds.join(", "))
        };
        alone.iter().map(words).collect()
    }

    /// The labels of a run and of a baseline, with the axes in which these two differ, and runs of the grid do not.
    fn told_apart(&self, run: &Choice, baseline: &Choice) -> (String, String) {
        let (label, other) = (self.label(run), self.label(baseline));
        let of_both = run.differing(baseline).into_iter().filter(|axis| !self.varied.contains(axis));
        // Without any that vary the strategy is the label.
        let axes: Vec<_> =
            of_both.filter(|axis| !(self.varied.is_empty() && *axis == Axis::Strategy)).collect();
        let named = |label: String, choice: &Choice| {
            let words =
                axes.iter().filter_map(|axis| in_words(*axis, choice).or(axis.usual().map(Into::into)));
            std::iter::once(label).chain(words).collect::<Vec<_>>().join(", ")
        };
        (named(label, run), named(other, baseline))
    }

    /// What tells the runs of `choice` from those of other choices, in words; the seed is left out.
    pub fn label(&self, choice: &Choice) -> String {
        let words: Vec<_> = self.varied.iter().filter_map(|axis| in_words(*axis, choice)).collect();
        if !words.is_empty() {
            return words.join(", ");
        }
        let usual: Vec<_> = self.varied.iter().filter_map(|axis| axis.usual()).collect();
        if usual.is_empty() { choice.get(Axis::Strategy) } else { usual.join(", ") }
    }
}

/// What a choice makes of an axis, in words; none where that is what all make, or has no bearing on it.
fn in_words(axis: Axis, choice: &Choice) -> Option<String> {
    let value = choice.get(axis);
    (!value.is_empty()).then(|| axis.phrase(&value))
}
