//! The stages behind the runs of a grid, each once.

mod build;
mod names;
mod stage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use entromask_fault::Fault;

use crate::grid::{Catalogue, Grid, Run};
use build::Builder;
pub use stage::{Place, Program, Stage};

/// All stages of a grid, and what each run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stages; what a stage needs comes before it.
    pub stages: Vec<Stage>,
    /// One entry a run, in the order of the grid.
    pub runs: Vec<RunStages>,
}

/// The stages of one run, as indices into [`Plan::stages`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStages {
    /// Up to the model: what was done in which order, and on whose account it goes.
    pub timeline: Vec<(Account, usize)>,
    /// The model that came out.
    pub model: usize,
    /// Fine-tuning: the configuration's name and the stage.
    pub glue: Vec<(String, usize)>,
}

/// What a stage of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Tokens: needed by every run alike, and not charged.
    Corpus,
    /// The teacher's own pretraining.
    Teacher,
    /// Entropies of the corpus.
    Scoring,
    /// Choosing masks.
    Selection,
    /// The student.
    Training,
}

impl Plan {
    /// The stages of `grid`; artifacts go to `data`, configurations come from `pipelines`.
    ///
    /// # Errors
    /// A [`Fault`] if a configuration that the grid names cannot be read.
    pub fn new(grid: &Grid, data: &Path, pipelines: &Path) -> anyhow::Result<Self> {
        let catalogue = Catalogue::new(pipelines);
        let mut builder = Builder::new(grid, data, &catalogue);
        let runs = grid.runs.iter().map(|run| builder.run(&run.choice)).collect::<anyhow::Result<_>>()?;
        if let Some(path) = builder.conflict {
            let found = format!("grid {}: {} would be made in two different ways", grid.name, path.display());
            return Err(Fault::usage(found).remedy("give two names of one grid different last parts").into());
        }
        Ok(Self { stages: builder.stages, runs })
    }

    /// The stages of a run, in the order of [`Plan::stages`].
    pub fn stages_of(&self, run: &RunStages) -> BTreeSet<usize> {
        let parts = run.timeline.iter().map(|(_, stage)| *stage);
        parts.chain(run.glue.iter().map(|(_, stage)| *stage)).collect()
    }

    /// The runs of `grid` with their stages.
    pub fn of<'a>(&'a self, grid: &'a Grid) -> impl Iterator<Item = (&'a Run, &'a RunStages)> {
        grid.runs.iter().zip(&self.runs)
    }

    /// The indices of the stages that stage `index` needs.
    pub fn needs(&self, index: usize) -> impl Iterator<Item = usize> {
        let place = move |input: &PathBuf| self.stages[..index].iter().position(|stage| stage.out == *input);
        self.stages[index].inputs.iter().filter_map(place)
    }
}
