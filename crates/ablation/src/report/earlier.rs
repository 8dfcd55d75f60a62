//! Runs that another report has: a grid may be made on several machines, or in parts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use entromask_fault::Fault;
use serde::Deserialize;

use super::findings::{RunFindings, System};
use super::stages::StageFindings;
use crate::grid::{Choice, Grid};
use crate::plan::{Plan, Program, RunStages};

/// A report as JSON, as far as its runs can be taken over.
#[derive(Clone, Debug, Deserialize)]
pub struct Earlier {
    #[serde(skip)]
    path: PathBuf,
    /// Whether it is what the new report takes the place of.
    #[serde(skip)]
    is_former: bool,
    #[serde(default = "usual_data")]
    data: PathBuf,
    systems: Vec<Chosen>,
    runs: Vec<RunFindings>,
    stages: Vec<StageFindings>,
}

#[derive(Clone, Debug, Deserialize)]
struct Chosen {
    choice: Choice,
}

/// What runs are to be taken over into.
pub(super) struct Here<'a> {
    pub grid: &'a Grid,
    pub plan: &'a Plan,
    pub systems: &'a [System],
    pub data: &'a Path,
}

/// Where the artifacts of reports are that do not say so.
fn usual_data() -> PathBuf {
    "data".into()
}

impl Earlier {
    /// Reads the JSON file of a report; `new` is where the one that takes its runs will be written. What a report takes from
    /// its own former self was not taken from another.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is none, or it is something else.
    pub fn load(path: &Path, new: &Path) -> anyhow::Result<Self> {
        let damaged = |error: &dyn std::fmt::Display| {
            Fault::input(format!("{}: no report of entromask-ablation: {error}", path.display()))
                .remedy("name the .json file that stands beside a report's .md")
        };
        let text = std::fs::read(path).map_err(|error| damaged(&error))?;
        let report: Self = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        let is_former = path.canonicalize().ok().is_some_and(|path| Some(path) == new.canonicalize().ok());
        Ok(Self { path: path.into(), is_former, ..report })
    }

    /// How many of its runs are complete.
    pub fn complete(&self) -> usize {
        self.runs.iter().filter(|run| run.missing.is_none()).count()
    }

    /// Where something is taken from that this report took from `before`.
    fn source(&self, before: Option<&PathBuf>) -> Option<PathBuf> {
        if self.is_former { before.cloned() } else { Some(self.path.clone()) }
    }

    /// Fills in the runs of the same choices and seed of which more is there than here: the model, or more of the fine-tunings
    /// that the grid asks for. Their stages are those that made them there: where one that is here too has made something else,
    /// it stands beside that.
    pub(super) fn fill(
        &self,
        here: &Here<'_>,
        runs: &mut [RunFindings],
        stages: &mut Vec<StageFindings>,
    ) -> anyhow::Result<()> {
        self.check_origin(here, stages)?;
        self.warn_of_strangers(here, runs);
        let glue = &here.grid.glue;
        let mut unknown = BTreeSet::new();
        for (run, planned) in runs.iter_mut().zip(&here.plan.runs).filter(|(run, _)| run.missing.is_some()) {
            let choice = &here.systems[run.system].choice;
            let found = self.find(choice, run.seed).filter(|found| parts(found, glue) > parts(run, glue));
            if let Some(found) = found {
                let stages_here = run.stages.iter().map(|&stage| &stages[stage]);
                unknown.extend(stages_here.filter(|own| own.config.is_none()).map(|own| own.out.clone()));
                run.stages = run.stages.iter().map(|&stage| self.place(here, stage, stages)).collect();
                *run = RunFindings { missing: missing(here, planned, found), ..self.taken(found, run, glue) };
            }
        }
        self.warn_of(&unknown);
        Ok(())
    }

    /// Keys that follow from text and configurations must be the same where both are known: choices do not say what is in
    /// the files that they name. What a trained model went into may differ, as models do in the last bits from one kind of
    /// machine or one version to another; of that the configurations must be the same. What would be made here counts as
    /// what is.
    fn check_origin(&self, here: &Here<'_>, stages: &[StageFindings]) -> anyhow::Result<()> {
        for (own, trained) in stages.iter().zip(stages_behind_models(here.plan)) {
            let Some(other) = self.stage(here, own).filter(|other| other.key.is_some()) else { continue };
            let key = own.key.as_ref().or(own.target_key.as_ref()).filter(|_| !trained);
            let pairs = [("configuration", own.config.as_ref(), &other.config), ("key", key, &other.key)];
            let known =
                pairs.into_iter().filter_map(|(what, mine, theirs)| Some((what, mine?, theirs.as_ref()?)));
            if let Some((what, mine, theirs)) = known.into_iter().find(|(_, mine, theirs)| mine != theirs) {
                let (out, path) = (own.out.display(), self.path.display());
                return Err(Fault::input(format!("{out}: its {what} is {mine}, in {path} it is {theirs}"))
                    .remedy("the two were made of different text or configurations; report on them apart")
                    .into());
            }
        }
        Ok(())
    }

    /// A report of another grid, or of choices that have changed, has nothing to give.
    fn warn_of_strangers(&self, here: &Here<'_>, runs: &[RunFindings]) {
        let is_there = |run: &RunFindings| self.find(&here.systems[run.system].choice, run.seed).is_some();
        if !runs.iter().any(is_there) {
            let (path, n) = (self.path.display(), self.runs.len());
            tracing::warn!("{path}: none of its {n} runs is one of this grid");
        }
    }

    /// Names stages that were taken over although nobody knows here how they would be configured.
    fn warn_of(&self, unknown: &BTreeSet<PathBuf>) {
        if let Some(first) = unknown.first() {
            tracing::warn!(
                "{}: {} stages were taken from it without comparing configurations, since what they read is not here, the first \
                 of them {}",
                self.path.display(),
                unknown.len(),
                first.display()
            );
        }
    }

    fn find(&self, choice: &Choice, seed: u64) -> Option<&RunFindings> {
        self.runs.iter().find(|run| {
            let system = self.systems.get(run.system);
            run.seed == seed && system.is_some_and(|system| system.choice.replicates(choice))
        })
    }

    fn taken(&self, found: &RunFindings, run: &RunFindings, glue: &[String]) -> RunFindings {
        let mut taken = RunFindings {
            system: run.system,
            stages: run.stages.clone(),
            taken_from: self.source(found.taken_from.as_ref()),
            ..found.clone()
        };
        taken.glue.retain(|name, _| glue.contains(name));
        taken
    }

    /// Where among `stages` the other report's stage of the same name stands as the one at `index`.
    fn place(&self, here: &Here<'_>, index: usize, stages: &mut Vec<StageFindings>) -> usize {
        let own = &stages[index];
        let Some(other) = self.stage(here, own).filter(|other| !is_same(own, other)) else { return index };
        let (out, taken_from) = (own.out.clone(), self.source(other.taken_from.as_ref()));
        let uncompared = own.config.is_none();
        // The command here is that of what was made there only where the configurations are the same.
        let command = if uncompared { &other.command } else { &own.command }.clone();
        let taken = StageFindings { out, command, taken_from, uncompared, ..other.clone() };
        if own.key.is_none() {
            stages[index] = taken;
            return index;
        }
        stages.iter().position(|stage| stage.out == taken.out && is_same(stage, &taken)).unwrap_or_else(
            || {
                stages.push(taken);
                stages.len() - 1
            },
        )
    }

    /// The stage of the same name: its folder below that of all artifacts.
    fn stage(&self, here: &Here<'_>, own: &StageFindings) -> Option<&StageFindings> {
        let name = own.out.strip_prefix(here.data).ok()?;
        self.stages.iter().find(|other| other.out.strip_prefix(&self.data).is_ok_and(|other| other == name))
    }
}

/// How many parts of a run there are: none without its model, else that and the fine-tunings of `glue`.
fn parts(run: &RunFindings, glue: &[String]) -> usize {
    let tuned = glue.iter().filter(|name| run.glue.contains_key(*name)).count();
    if run.key.is_some() { 1 + tuned } else { 0 }
}

/// The first fine-tuning that `found` lacks.
fn missing(here: &Here<'_>, planned: &RunStages, found: &RunFindings) -> Option<String> {
    let (_, stage) = planned.glue.iter().find(|(name, _)| !found.glue.contains_key(name))?;
    Some(here.plan.stages[*stage].name(here.data))
}

/// Whether two findings are about one artifact. Older reports do not say what is in it: then it is one if it took as long.
fn is_same(one: &StageFindings, other: &StageFindings) -> bool {
    let content = match (&one.content, &other.content) {
        (Some(one), Some(other)) => one == other,
        _ => one.spent == other.spent,
    };
    one.key == other.key && content
}

/// Of each stage, whether a model that some stage trains goes into it.
fn stages_behind_models(plan: &Plan) -> Vec<bool> {
    let mut behind = Vec::new();
    for index in 0..plan.stages.len() {
        let mut needs = plan.needs(index);
        let is_behind = needs.any(|need| behind[need] || plan.stages[need].program == Program::Pretrain);
        behind.push(is_behind);
    }
    behind
}
