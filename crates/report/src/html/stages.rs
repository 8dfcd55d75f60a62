//! The stages of a run: what each made, at what cost, and how to make it again.

use entromask_artifact::{Input, Kind, Manifest};
use entromask_cli::quoted;
use serde::Serialize;
use serde_json::Value;

use super::lineage::{Artifact, Group, Lineage, Stage};
use crate::drift::Drift;
use crate::leaves::leaves;
use crate::number::{bytes, count, counted, duration, flops, short};
use crate::sample;

/// One line of the table of stages.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StageLine {
    pub group: String,
    pub kind: String,
    pub what: String,
    pub tokens: String,
    pub time: String,
    /// Time as percent of the longest stage.
    pub share: f64,
    pub speed: String,
    pub flops: String,
    pub memory: String,
    pub device: String,
}

/// The sums over all stages that are there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Total {
    pub time: String,
    pub flops: String,
    /// Whether these are all stages that there were.
    pub is_whole: bool,
}

/// How to make a stage's artifact again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recipe {
    pub title: String,
    pub path: String,
    pub key: String,
    pub content: String,
    pub tool: String,
    pub command: String,
    pub config: Vec<(String, String)>,
}

pub(crate) fn lines(lineage: &Lineage) -> Vec<StageLine> {
    let longest = costs(lineage).map(|cost| cost.seconds).fold(0.0, f64::max);
    lineage.stages.iter().map(|stage| line(stage, longest)).collect()
}

pub(crate) fn total(lineage: &Lineage) -> Total {
    Total {
        time: duration(costs(lineage).map(|cost| cost.seconds).sum()),
        flops: flops(costs(lineage).map(|cost| cost.flops).sum()),
        is_whole: lineage.is_whole,
    }
}

pub(crate) fn recipes(lineage: &Lineage) -> Vec<Recipe> {
    lineage.stages.iter().map(recipe).collect()
}

fn costs(lineage: &Lineage) -> impl Iterator<Item = &entromask_artifact::Cost> {
    lineage.stages.iter().map(|stage| &stage.artifact.manifest.cost)
}

fn line(stage: &Stage, longest: f64) -> StageLine {
    let manifest = &stage.artifact.manifest;
    let cost = &manifest.cost;
    let known = |text: String, known: bool| if known { text } else { "–".into() };
    let speed = cost.tokens as f64 / cost.seconds.max(1e-9);
    StageLine {
        group: group(stage.group),
        kind: manifest.kind.to_string(),
        what: [what(manifest)].into_iter().chain(drift(stage)).collect::<Vec<_>>().join(", "),
        tokens: known(short(cost.tokens as f64), cost.tokens > 0),
        time: known(duration(cost.seconds), cost.seconds > 0.0),
        share: (1000.0 * cost.seconds / longest.max(1e-9)).round() / 10.0,
        speed: known(format!("{}/s", short(speed)), cost.tokens > 0 && cost.seconds > 0.0),
        flops: flops(cost.flops),
        memory: known(bytes(cost.peak_memory_bytes), cost.peak_memory_bytes > 0),
        device: known(cost.device.clone(), !cost.device.is_empty()),
    }
}

fn group(group: Group) -> String {
    match group {
        Group::Corpus => "corpus".into(),
        Group::Teacher => "teacher".into(),
        Group::Round(round) => format!("round {round}"),
        Group::FineTuning => "fine-tuning".into(),
    }
}

/// What an artifact is, in a few words; unknown facts are left out.
fn what(manifest: &Manifest) -> String {
    let (config, stats) = (&manifest.config, &manifest.stats);
    let number = |value: &Value, text: fn(u64) -> String| value.as_u64().map(text);
    let facts = match manifest.kind {
        Kind::Tokens => vec![
            number(&stats["rows"], |rows| counted(rows, "row")),
            number(&config["seq_len"], |length| format!("up to {} tokens each", count(length))),
        ],
        Kind::Entropy => vec![
            config["conditioning"].as_str().map(str::to_string),
            number(&config["folds"], |folds| counted(folds, "fold")),
        ],
        Kind::Masks => vec![
            config["policy"]["name"].as_str().map(str::to_string),
            stats["rate"].as_f64().or(config["rate"].as_f64()).map(|rate| format!("{:.1} %", 100.0 * rate)),
            epochs(config["first_epoch"].as_u64(), config["epochs"].as_u64()),
        ],
        Kind::Targets => vec![
            number(&config["top_k"], |k| format!("{} a position", counted(k, "token"))),
            config["temperature"].as_f64().map(|temperature| format!("temperature {temperature}")),
        ],
        Kind::Model => vec![
            number(&stats["parameters"], |n| format!("{} parameters", short(n as f64))),
            number(&stats["steps"], |steps| format!("step {}", count(steps))),
            stats["valid_loss"].as_f64().map(|loss| format!("validation loss {loss:.2}")),
        ],
        Kind::Glue => vec![
            config["tasks"].as_object().map(|tasks| tasks.keys().cloned().collect::<Vec<_>>().join(", ")),
            config["seeds"].as_array().map(|seeds| counted(seeds.len() as u64, "seed")),
        ],
    };
    facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How alike the ranks of entropies are in two rounds. What is damaged is not compared; `inspect` says what is wrong.
fn drift(stage: &Stage) -> Option<String> {
    let Artifact { dir, manifest } = &stage.artifact;
    if manifest.kind != Kind::Entropy {
        return None;
    }
    let drift = Drift::of(dir, manifest, Some(sample::ROWS)).ok().flatten()?;
    Some(format!("rank correlation {:.2} with the round before", drift.spearman?))
}

fn epochs(first: Option<u64>, number: Option<u64>) -> Option<String> {
    let (first, number) = (first?, number?);
    Some(if number == 1 {
        format!("epoch {first}")
    } else {
        format!("epochs {first}–{}", first + number - 1)
    })
}

fn recipe(stage: &Stage) -> Recipe {
    let manifest = &stage.artifact.manifest;
    Recipe {
        title: format!("{}: {}", group(stage.group), manifest.kind),
        path: stage.artifact.dir.display().to_string(),
        key: manifest.key.clone(),
        content: manifest.content.clone(),
        tool: manifest.tool.to_string(),
        command: command(manifest, &stage.artifact.dir.display().to_string()),
        config: named(manifest).into_iter().chain(leaves(&manifest.config)).collect(),
    }
}

/// What a configuration names by path, and the key has by content.
fn named(manifest: &Manifest) -> Vec<(String, String)> {
    let key = |role: &str| match (manifest.kind, role) {
        (Kind::Tokens, "corpus") => Some("files"),
        (Kind::Tokens, "tokenizer") => Some("tokenizer"),
        _ => None,
    };
    let pair = |input: &Input| Some((key(&input.role)?.into(), input.path.display().to_string()));
    manifest.inputs.iter().filter_map(pair).collect()
}

/// The call that makes the artifact, given its configuration, and the tasks of one's own, in files.
fn command(manifest: &Manifest, out: &str) -> String {
    let (kind, config) = (manifest.kind, &manifest.config);
    let mut flags = vec![("config".into(), format!("{kind}.toml"))];
    flags.extend(config.get("student").map(|_| ("student".into(), "student.toml".into())));
    let own = config["definitions"].as_object().into_iter().flat_map(serde_json::Map::keys);
    flags.extend(own.map(|task| ("task-file".into(), format!("{task}.toml"))));
    flags.extend(manifest.inputs.iter().filter_map(|input| flag(kind, input)));
    flags.extend(config["dtype"].as_str().map(|dtype| ("dtype".into(), dtype.into())));
    flags.push(("out".into(), out.into()));
    let flags = flags.iter().map(|(name, value)| format!("--{name} {}", quoted(value)));
    std::iter::once(manifest.tool.name.clone()).chain(flags).collect::<Vec<_>>().join(" \\\n  ")
}

/// The flag for an input, and its value; what the configuration names has none.
fn flag(kind: Kind, input: &Input) -> Option<(String, String)> {
    let name = match (kind, input.role.as_str()) {
        (Kind::Tokens, _) | (Kind::Entropy | Kind::Targets, "teacher_tokenizer") => return None,
        (Kind::Glue, role) if role != "model" => return None,
        (Kind::Entropy | Kind::Targets, "teacher") => "model".into(),
        (_, role) => role.replace('_', "-"),
    };
    Some((name, input.path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use entromask_artifact::{Cost, tool};
    use serde_json::json;

    use super::*;

    fn manifest(kind: Kind, config: Value, roles: &[&str]) -> Manifest {
        let input = |role: &&str| Input {
            role: (*role).into(),
            kind: (*role).into(),
            content: "c".into(),
            path: format!("data/{role}").into(),
        };
        Manifest {
            kind,
            format: 1,
            key: "k".into(),
            config,
            inputs: roles.iter().map(input).collect(),
            outputs: vec![],
            content: "c".into(),
            stats: json!({"rate": 0.1503}),
            cost: Cost::default(),
            tool: tool(&format!("entromask-{kind}"), "0", &[]),
        }
    }

    #[test]
    fn commands_name_inputs_by_their_flags() {
        let model =
            manifest(Kind::Model, json!({"dtype": "f32", "student": {}}), &["tokens", "continue_from"]);
        let words = command(&model, "out").replace(" \\\n ", "");
        assert_eq!(
            words,
            "entromask-model --config model.toml --student student.toml --tokens data/tokens \
             --continue-from data/continue_from --dtype f32 --out out"
        );
        let entropy = manifest(Kind::Entropy, json!({}), &["tokens", "teacher"]);
        assert!(command(&entropy, "out").contains("--model data/teacher"));
        let other = manifest(Kind::Entropy, json!({}), &["tokens", "teacher", "teacher_tokenizer"]);
        assert!(!command(&other, "out").contains("tokenizer"));
        assert!(!command(&manifest(Kind::Glue, json!({}), &["model", "RTE"]), "out").contains("RTE"));
    }

    #[test]
    fn commands_can_be_pasted_and_name_the_files_of_tasks() {
        let config = json!({"tasks": {"mood": {}, "RTE": {}}, "definitions": {"mood": {"train": "a.tsv"}}});
        let mut glue = manifest(Kind::Glue, config, &["model", "mood", "RTE"]);
        glue.inputs[0].path = "my models/it's".into();
        let words = command(&glue, "my scores").replace(" \\\n ", "");
        assert_eq!(
            words,
            "entromask-glue --config glue.toml --task-file mood.toml --model 'my models/it'\\''s' --out 'my scores'"
        );
    }

    #[test]
    fn facts_are_named_and_missing_ones_left_out() {
        let config = json!({"policy": {"name": "mixed"}, "first_epoch": 2, "epochs": 2});
        assert_eq!(what(&manifest(Kind::Masks, config, &[])), "mixed, 15.0 %, epochs 2–3");
        assert_eq!(what(&manifest(Kind::Model, json!({}), &[])), "");
    }
}
