//! Everything that the template fills in.

use std::path::PathBuf;

use entromask_artifact::Kind;
use serde::Serialize;
use serde_json::Value;

use super::Run;
use super::curves::Curves;
use super::lineage::{Artifact, Lineage};
use super::plot::Plot;
use super::stages::{self, Recipe, StageLine, Total};
use super::story;
use super::text::{self, Text};
use crate::compare;
use crate::inspect::glue::GlueView;
use crate::leaves::leaves;
use crate::metrics::Metrics;
use crate::number::{count, percent};

const METRICS: &str = "metrics.jsonl";

/// The page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Page {
    pub title: String,
    pub lead: String,
    pub facts: Vec<Fact>,
    pub loss: Option<Plot>,
    pub plots: Vec<Plot>,
    pub validated: bool,
    /// A teacher's part is in the loss.
    pub distilled: bool,
    pub rounds: usize,
    /// Whether they are there from the first one on.
    pub first_round: bool,
    pub text: Option<Text>,
    /// Why there is no text.
    pub text_missing: Option<String>,
    pub glue: Vec<Results>,
    pub config: Vec<Section>,
    pub stages: Vec<StageLine>,
    pub total: Total,
    pub recipes: Vec<Recipe>,
    pub notes: Vec<String>,
    pub model_path: String,
    pub version: &'static str,
}

/// One number at the top.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fact {
    pub name: &'static str,
    pub value: String,
    pub note: String,
}

/// The configuration of one stage.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Section {
    pub name: &'static str,
    pub values: Vec<(String, String)>,
}

/// One table of fine-tuning results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// What tells its folder from the others'; none for a single table.
    pub name: Option<String>,
    pub seeds: String,
    /// What has to be known to read the scores.
    pub remarks: Vec<String>,
    /// Ends of the scale on which the scores are drawn.
    pub low: f64,
    pub high: f64,
    pub lines: Vec<ResultLine>,
}

/// One line of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResultLine {
    pub task: String,
    pub metric: String,
    pub floor: String,
    pub score: String,
    /// Percent of the scale.
    pub at: f64,
    pub floor_at: f64,
    pub seeds_at: Vec<f64>,
    /// Whether the mean's interval lies above the floor; none for a single seed.
    pub above: Option<bool>,
    pub average: bool,
}

/// Gathers the page's content.
pub(crate) fn page(lineage: &Lineage, results: &[GlueView], run: &Run) -> anyhow::Result<Page> {
    let curves = curves(lineage)?;
    let (text, text_missing) = match text::text(lineage, run.row)? {
        Ok(text) => (Some(text), None),
        Err(why) => (None, Some(why)),
    };
    let names = names(&run.glue);
    let mut notes = lineage.notes.clone();
    notes.extend(text_missing.iter().map(|why| format!("no text is shown: {why}")));
    Ok(Page {
        title: story::title(lineage),
        lead: story::lead(lineage),
        facts: facts(lineage, results, &names),
        loss: curves.loss(),
        plots: curves.others(),
        rounds: lineage.rounds.len(),
        first_round: lineage.has_first_round(),
        validated: curves.is_validated(),
        distilled: curves.is_distilled(),
        text,
        text_missing,
        glue: results.iter().zip(names).map(|(results, name)| glue(results, name)).collect(),
        config: config(lineage),
        stages: stages::lines(lineage),
        total: stages::total(lineage),
        recipes: stages::recipes(lineage),
        notes,
        model_path: lineage.model().dir.display().to_string(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn curves(lineage: &Lineage) -> anyhow::Result<Curves> {
    let metrics = Metrics::joined(lineage.rounds.iter().map(log).collect::<anyhow::Result<Vec<_>>>()?);
    let ends = lineage.rounds.iter().filter_map(|round| round.manifest.stats["steps"].as_u64());
    let vocabulary = lineage.model().manifest.stats["vocab_size"].as_f64();
    Ok(Curves {
        metrics,
        round_ends: ends.collect(),
        first_round: lineage.first_round(),
        ln_vocabulary: vocabulary.map(f64::ln),
    })
}

fn log(round: &Artifact) -> anyhow::Result<Metrics> {
    round.manifest.verify_read(&round.dir, |file| file == METRICS)?;
    Metrics::read(&round.dir.join(METRICS))
}

fn facts(lineage: &Lineage, results: &[GlueView], names: &[Option<String>]) -> Vec<Fact> {
    let stats = &lineage.model().manifest.stats;
    let mut facts = Vec::new();
    let mut add = |name, value: Option<String>, note: String| {
        facts.extend(value.map(|value| Fact { name, value, note }));
    };
    let mask = "on a fixed random 15 % mask".to_string();
    add(
        "Validation loss",
        stats["valid_loss"].as_f64().map(|loss| format!("{loss:.3}")),
        format!("nats, {mask}"),
    );
    add("Accuracy", stats["valid_accuracy"].as_f64().map(percent), mask);
    add(
        "Perplexity",
        stats["valid_perplexity"].as_f64().map(|value| count(value.round() as u64)),
        "exp of the loss".into(),
    );
    let mut tables = results.iter().zip(names);
    if let Some((result, name, average)) =
        tables.find_map(|(result, name)| Some((result, name, result.averages.last()?)))
    {
        let of = name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let caveat = result.caveat().map_or_else(String::new, |caveat| format!(", {caveat}"));
        let note = format!("{of}{}{caveat}; floor {:.1}", average.name, average.floor);
        add("GLUE dev", Some(average.shown()), note);
    }
    let total = stages::total(lineage);
    add("Compute", Some(total.flops), stages_in_words(lineage));
    let bound = (!lineage.is_whole).then(|| "at least".to_owned());
    let when = bound.into_iter().chain(devices(lineage)).collect::<Vec<_>>().join(", ");
    add("Wall clock", Some(total.time), when);
    facts
}

/// Over which stages costs are summed up.
fn stages_in_words(lineage: &Lineage) -> String {
    let n = lineage.stages.len();
    match (lineage.is_whole, n) {
        (true, 1) => "in its only stage".into(),
        (true, n) => format!("in all {n} stages"),
        (false, 1) => "at least, in the one stage that is still there".into(),
        (false, n) => format!("at least, in the {n} stages that are still there"),
    }
}

fn devices(lineage: &Lineage) -> Option<String> {
    let mut devices: Vec<_> =
        lineage.stages.iter().map(|stage| stage.artifact.manifest.cost.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    devices.retain(|device| !device.is_empty());
    (!devices.is_empty()).then(|| format!("on {}", devices.join(", ")))
}

/// The last stage of each kind, and the shape of the model.
fn config(lineage: &Lineage) -> Vec<Section> {
    let of = |kind| lineage.of_kind(kind).next_back().map(|stage| stage.artifact.manifest.config.clone());
    let mut training = of(Kind::Model).unwrap_or_default();
    let student = training.as_object_mut().and_then(|map| map.remove("student"));
    let sections = [
        ("Model", student),
        ("Training", Some(training)),
        ("Masks", of(Kind::Masks)),
        ("Entropy", of(Kind::Entropy)),
        ("Corpus", of(Kind::Tokens)),
    ];
    let section = |(name, config): (_, Option<Value>)| Some(Section { name, values: leaves(&config?) });
    sections.into_iter().filter_map(section).filter(|section| !section.values.is_empty()).collect()
}

/// What tells the folders of results apart; nothing where there is one.
fn names(folders: &[PathBuf]) -> Vec<Option<String>> {
    if folders.len() < 2 {
        vec![None; folders.len()]
    } else {
        compare::names(folders).into_iter().map(Some).collect()
    }
}

fn glue(results: &GlueView, name: Option<String>) -> Results {
    let seeds: Vec<_> = results.seeds.iter().map(ToString::to_string).collect();
    let (low, high) = scale(results);
    let place = |score: f64| (10_000.0 * (score - low) / (high - low)).round().clamp(0.0, 10_000.0) / 100.0;
    let line = |line: crate::inspect::glue::Line| {
        let estimate = line.estimate;
        ResultLine {
            task: line.task.into(),
            metric: estimate.name.clone(),
            floor: format!("{:.1}", estimate.floor),
            score: estimate.shown(),
            at: place(estimate.mean),
            floor_at: place(estimate.floor),
            seeds_at: estimate.values.iter().map(|&value| place(value)).collect(),
            above: estimate.is_above_floor(),
            average: line.average,
        }
    };
    let lines = results.lines().into_iter().map(line).collect();
    Results { name, seeds: seeds.join(", "), remarks: results.remarks(), low, high, lines }
}

/// The tens around all scores and floors.
fn scale(results: &GlueView) -> (f64, f64) {
    let lines = results.lines();
    let shown = lines.iter().flat_map(|line| line.estimate.values.iter().chain([&line.estimate.floor]));
    let (low, high) =
        shown.fold((f64::MAX, f64::MIN), |(low, high), &score| (low.min(score), high.max(score)));
    if low > high { (0.0, 100.0) } else { ((low / 10.0).floor() * 10.0, (high / 10.0).floor() * 10.0 + 10.0) }
}
