//! The numbers behind a report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use entromask_artifact::Manifest;
use entromask_report::inspect::glue::{GlueView, view};
use serde::{Deserialize, Serialize};

use super::costs::{self, Spent};
use super::curve::{self, Point};
use super::earlier::{Earlier, Here};
use super::measure::{self, Group};
use super::stages::{self, StageFindings, config_digest};
use super::validated::Validated;
use crate::execute::{Standing, failure, log_folder};
use crate::grid::{Catalogue, Choice, Grid, Run};
use crate::plan::{Account, Plan, RunStages};

/// All that a report says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// The grid's name.
    pub name: String,
    /// Its headline.
    pub title: String,
    /// What it asks.
    pub about: String,
    /// Folder of the artifacts.
    pub data: PathBuf,
    /// Folder of the configurations.
    pub pipelines: PathBuf,
    /// What is compared: runs that differ in nothing but the seed.
    pub systems: Vec<System>,
    /// All runs, in the order of the grid.
    pub runs: Vec<RunFindings>,
    /// Tables.
    pub groups: Vec<Group>,
    /// All stages.
    pub stages: Vec<StageFindings>,
    /// Teachers that were trained elsewhere, so that nobody knows here at what cost.
    pub uncharged: Vec<String>,
    /// Which runs have nothing to be compared with, in words.
    pub unpaired: Vec<String>,
}

/// Runs that differ in nothing but the seed.
#[derive(Clone, Debug, Serialize)]
pub struct System {
    /// What tells it from the others.
    pub label: String,
    /// Its choices, those of its first run.
    pub choice: Choice,
    /// What it is compared with; none for a baseline, and where its baselines are not in the grid.
    pub baselines: Vec<usize>,
    /// Whether it is a baseline itself.
    pub is_baseline: bool,
    /// Its runs.
    pub runs: Vec<usize>,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunFindings {
    /// Its system.
    pub system: usize,
    /// Its seed.
    pub seed: u64,
    /// Its model's folder.
    pub model: PathBuf,
    /// Key of the model's manifest; none if it is missing. Equal keys have equal recipes, and the same bits only if one binary
    /// made them on one kind of machine.
    pub key: Option<String>,
    /// Digest of the model.
    #[serde(default)]
    pub content: Option<String>,
    /// Which program trained it.
    #[serde(default)]
    pub made_by: Option<String>,
    /// Digest of the configuration that it was trained by, without the seed.
    #[serde(default)]
    pub recipe: Option<String>,
    /// Digest of the configurations of all stages up to it, without the seed; unknown in older reports.
    #[serde(default)]
    pub lineage: Option<String>,
    /// What is missing, in words.
    pub missing: Option<String>,
    /// Validation loss on the fixed mask, in nats a masked token.
    pub valid_loss: Option<f64>,
    /// Share of these tokens that are the most probable one.
    pub valid_accuracy: Option<f64>,
    /// On how many rows that was measured; unknown in older reports.
    #[serde(default)]
    pub validated: Option<Validated>,
    /// The validations.
    pub curve: Vec<Point>,
    /// What was spent until the model was there, by account.
    pub costs: BTreeMap<String, Spent>,
    /// Fine-tuning by configuration.
    pub glue: BTreeMap<String, Scores>,
    /// Its stages, as indices into [`Findings::stages`].
    pub stages: Vec<usize>,
    /// The report that its numbers were taken from; none if they were read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<PathBuf>,
}

/// One fine-tuning, averaged over its own seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scores {
    /// Key of the manifest.
    pub key: String,
    /// Number of fine-tuning seeds.
    pub seeds: usize,
    /// What was spent.
    pub spent: Spent,
    /// Task, floor and mean score in percent; the average comes last.
    pub tasks: Vec<(String, f64, f64)>,
    /// What has to be known to read them, in sentences; unknown in older reports.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// Where a grid finds its configurations and makes its artifacts.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// The artifacts.
    pub data: &'a Path,
    /// The configurations.
    pub pipelines: &'a Path,
}

/// Reads what the stages of `plan` have made, as far as it is up to date; runs that are not here are taken from `earlier`
/// reports, where the first one that has them counts.
///
/// # Errors
/// If an artifact that is up to date cannot be read, or a report is about other artifacts.
pub fn read(
    grid: &Grid,
    plan: &Plan,
    standings: &[Standing],
    Folders { data, pipelines }: Folders<'_>,
    earlier: &[Earlier],
) -> anyhow::Result<Findings> {
    let manifests = stages::manifests(plan, standings)?;
    let reader = Reader { plan, manifests: &manifests, data };
    let systems = systems(grid);
    let mut runs: Vec<_> = plan
        .of(grid)
        .map(|(run, stages)| reader.run(run, stages, &systems))
        .collect::<anyhow::Result<_>>()?;
    let logs = log_folder(data, &grid.name);
    let mut stages = stages::findings(plan, standings, &manifests, |stage| failure(&logs, &stage.name(data)));
    for report in earlier {
        report.fill(&Here { grid, plan, systems: &systems, data }, &mut runs, &mut stages)?;
    }
    let uncharged = uncharged(grid, plan);
    let catalogue = Catalogue::new(pipelines);
    let glue: Vec<_> = grid.glue.iter().map(|name| (name.clone(), catalogue.path("glue", name))).collect();
    Ok(Findings {
        name: grid.name.clone(),
        title: grid.title.clone(),
        about: grid.about.clone(),
        data: data.into(),
        pipelines: pipelines.into(),
        groups: measure::groups(&systems, &runs, &glue, &uncharged),
        stages,
        systems,
        runs,
        uncharged,
        unpaired: grid.unpaired(),
    })
}

/// Runs by what they are but for the seed, in the order of the grid.
pub(super) fn systems(grid: &Grid) -> Vec<System> {
    let mut systems: Vec<System> = Vec::new();
    for (index, run) in grid.runs.iter().enumerate() {
        match systems.iter_mut().find(|system| system.choice.replicates(&run.choice)) {
            Some(system) => system.runs.push(index),
            None => systems.push(System {
                label: grid.label(&run.choice),
                choice: run.choice.clone(),
                baselines: vec![],
                is_baseline: run.baselines.is_empty(),
                runs: vec![index],
            }),
        }
    }
    let place = |choice: &Choice| systems.iter().position(|system| system.choice.replicates(choice));
    let of = |system: &System| grid.runs[system.runs[0]].baselines.iter().filter_map(place).collect();
    let baselines: Vec<Vec<usize>> = systems.iter().map(of).collect();
    systems.iter_mut().zip(baselines).for_each(|(system, baselines)| system.baselines = baselines);
    systems
}

/// The teachers of runs that no stage trains.
fn uncharged(grid: &Grid, plan: &Plan) -> Vec<String> {
    let is_foreign = |(run, stages): &(&Run, &RunStages)| {
        let trained = stages.timeline.iter().any(|(account, _)| *account == Account::Teacher);
        !run.choice.teacher.is_empty() && !trained
    };
    let names = plan.of(grid).filter(is_foreign).map(|(run, _)| run.choice.teacher.clone());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

struct Reader<'a> {
    plan: &'a Plan,
    manifests: &'a [Option<Manifest>],
    data: &'a Path,
}

impl Reader<'_> {
    fn run(&self, run: &Run, stages: &RunStages, systems: &[System]) -> anyhow::Result<RunFindings> {
        let is_its = |system: &System| system.choice.replicates(&run.choice);
        let mut found = RunFindings {
            system: systems.iter().position(is_its).expect("systems are made of the runs"),
            seed: run.choice.seed,
            model: self.plan.stages[stages.model].out.clone(),
            stages: self.plan.stages_of(stages).into_iter().collect(),
            ..RunFindings::default()
        };
        let absent = found.stages.iter().find(|&&stage| self.manifests[stage].is_none());
        found.missing = absent.map(|&stage| self.plan.stages[stage].name(self.data));
        self.add_model(stages, &mut found)?;
        for (name, stage) in &stages.glue {
            if let Some(manifest) = &self.manifests[*stage] {
                let view = view(&self.plan.stages[*stage].out)?;
                found.glue.insert(name.clone(), scores(manifest, &view));
            }
        }
        Ok(found)
    }

    /// What is known of the model, if it is there with all that it was made from.
    fn add_model(&self, stages: &RunStages, found: &mut RunFindings) -> anyhow::Result<()> {
        let parts: Option<Vec<(Account, &Path, &Manifest)>> = stages
            .timeline
            .iter()
            .map(|&(account, stage)| {
                let manifest = self.manifests[stage].as_ref()?;
                Some((account, self.plan.stages[stage].out.as_path(), manifest))
            })
            .collect();
        let (Some(parts), Some(model)) = (parts, &self.manifests[stages.model]) else { return Ok(()) };
        found.key = Some(model.key.clone());
        found.content = Some(model.content.clone());
        found.made_by = Some(model.tool.to_string());
        found.recipe = Some(config_digest(&seedless(&model.config)));
        found.lineage = Some(lineage_digest(&parts));
        found.valid_loss = model.stats["valid_loss"].as_f64();
        found.valid_accuracy = model.stats["valid_accuracy"].as_f64();
        let tokens = parts.iter().find(|(account, ..)| *account == Account::Corpus);
        found.validated = Validated::of(model, tokens.map(|(.., tokens)| *tokens));
        found.costs = costs::by_account(&parts);
        found.curve = curve::read(&parts)?;
        Ok(())
    }
}

/// Tasks, then the average: that without WNLI, unless that leaves one task, which older results call an average, too.
fn scores(manifest: &Manifest, view: &GlueView) -> Scores {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut tasks: Vec<_> = view
        .tasks
        .iter()
        .map(|task| (task.task.clone(), task.score.floor, mean(&task.score.values)))
        .collect();
    let average = if view.tasks.len() > 2 { view.averages.first() } else { view.averages.last() };
    if let Some(average) = average.filter(|_| view.tasks.len() > 1) {
        tasks.push((average.name.clone(), average.floor, mean(&average.values)));
    }
    Scores {
        key: manifest.key.clone(),
        seeds: view.seeds.len(),
        spent: Spent::of(manifest),
        tasks,
        remarks: view.remarks(),
    }
}

fn seedless(config: &serde_json::Value) -> serde_json::Value {
    let mut config = config.clone();
    config.as_object_mut().map(|object| object.remove("seed"));
    config
}

/// Only masks and models have the run's seed; that of a teacher, of scores or of the corpus is the same for all runs, or else
/// they are of different ones.
fn lineage_digest(parts: &[(Account, &Path, &Manifest)]) -> String {
    let config = |(account, _, manifest): &(Account, &Path, &Manifest)| match account {
        Account::Selection | Account::Training => seedless(&manifest.config),
        Account::Corpus | Account::Teacher | Account::Scoring => manifest.config.clone(),
    };
    config_digest(&parts.iter().map(config).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(config: &Value) -> Manifest {
        let cost =
            json!({"seconds": 0.0, "flops": 0.0, "tokens": 0, "device": "cpu", "peak_memory_bytes": 0});
        let tool = json!({"name": "", "version": "", "git": "", "backends": []});
        let manifest = json!({"kind": "model", "format": 1, "key": "", "config": config, "inputs": [],
            "outputs": [], "content": "", "stats": {}, "cost": cost, "tool": tool});
        serde_json::from_value(manifest).expect("a manifest")
    }

    /// What differs only in the seed of masks and training are replicates, and nothing else is.
    #[test]
    fn replicates_differ_in_nothing_but_the_seed_of_the_run() {
        let digest = |[scores, masks, model]: [Value; 3]| {
            let [scores, masks, model] = [scores, masks, model].map(|config| manifest(&config));
            lineage_digest(&[
                (Account::Scoring, Path::new("entropy"), &scores),
                (Account::Selection, Path::new("masks"), &masks),
                (Account::Training, Path::new("model"), &model),
            ])
        };
        let masks = |seed: u64, temperature: f64| json!({"seed": seed, "temperature": temperature});
        let one = digest([json!({"seed": 1}), masks(1, 1.0), json!({"seed": 1})]);
        assert_eq!(one, digest([json!({"seed": 1}), masks(2, 1.0), json!({"seed": 2})]));
        assert_ne!(one, digest([json!({"seed": 1}), masks(2, 0.5), json!({"seed": 2})]), "other masks");
        assert_ne!(one, digest([json!({"seed": 2}), masks(2, 1.0), json!({"seed": 2})]), "other scores");
    }

    #[test]
    fn a_teacher_from_elsewhere_is_not_charged() -> anyhow::Result<()> {
        let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
        let model = tempfile::tempdir()?;
        std::fs::write(model.path().join("config.json"), "{}")?;
        let (file, name) = (model.path().join("test.toml"), model.path().display().to_string());
        let axes = format!("strategy = \"high\"\nsource = \"teacher\"\nteacher = [\"mini\", {name:?}]");
        std::fs::write(&file, format!("title = \"t\"\n[axes]\n{axes}\n"))?;
        let grid = Grid::load(&file, &pipelines)?;
        let plan = Plan::new(&grid, Path::new("data"), &pipelines)?;
        assert_eq!(uncharged(&grid, &plan), [name]);
        Ok(())
    }
}
