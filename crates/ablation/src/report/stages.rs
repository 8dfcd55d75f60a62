//! What is known of the stages of a grid.

use std::path::{Path, PathBuf};

use entromask_artifact::Manifest;
use serde::{Deserialize, Serialize};

use super::costs::Spent;
use crate::execute::{Standing, Target};
use crate::plan::{Plan, Program, Stage};

/// One stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageFindings {
    /// The artifact's folder.
    pub out: PathBuf,
    /// Which program.
    pub program: Program,
    /// The command that makes it.
    pub command: String,
    /// Key of its manifest; none if it is not up to date.
    pub key: Option<String>,
    /// Key that it would have; none if it has it, or if something that it reads is not up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_key: Option<String>,
    /// Digest of what it made.
    #[serde(default)]
    pub content: Option<String>,
    /// Digest of its resolved configuration; unknown where something that it reads is not up to date.
    #[serde(default)]
    pub config: Option<String>,
    /// Why it is not.
    pub reason: Option<String>,
    /// What it said last, if it failed when it was called last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What it took.
    pub spent: Spent,
    /// The report that it was taken from; none if it was read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<PathBuf>,
    /// Whether it was taken although nobody knows here how it would be configured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncompared: bool,
}

/// The manifests of those stages of `plan` that are up to date.
///
/// # Errors
/// If what is read of one is not what its manifest says.
pub(super) fn manifests(plan: &Plan, standings: &[Standing]) -> anyhow::Result<Vec<Option<Manifest>>> {
    let stages = plan.stages.iter().zip(standings);
    let manifest = |(stage, standing): (&Stage, &Standing)| match standing {
        Standing::UpToDate => whole(&stage.out).map(Some),
        _ => Ok(None),
    };
    stages.map(manifest).collect()
}

/// All stages of `plan`, as they stand; `failure` says why one failed.
pub(super) fn findings(
    plan: &Plan,
    standings: &[Standing],
    manifests: &[Option<Manifest>],
    failure: impl Fn(&Stage) -> Option<String>,
) -> Vec<StageFindings> {
    let stages = plan.stages.iter().zip(standings).zip(manifests);
    let finding = |((stage, standing), manifest): ((&Stage, &Standing), &Option<Manifest>)| {
        let failed = if *standing == Standing::UpToDate { None } else { failure(stage) };
        StageFindings { failed, ..finding(stage, standing, manifest.as_ref()) }
    };
    stages.map(finding).collect()
}

/// Keys of JSON objects come in alphabetical order, so that equal configurations have equal digests.
pub(super) fn config_digest(config: &serde_json::Value) -> String {
    blake3::hash(config.to_string().as_bytes()).to_hex().to_string()
}

/// The manifest of an artifact of which what is read here is what it says.
fn whole(dir: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::load_any(dir)?;
    manifest.verify_read(dir, |file| ["metrics.jsonl", "results.json"].contains(&file))?;
    Ok(manifest)
}

fn finding(stage: &Stage, standing: &Standing, manifest: Option<&Manifest>) -> StageFindings {
    let target = target(standing);
    let config = manifest.map(|manifest| &manifest.config).or(target.map(|target| &target.config));
    StageFindings {
        out: stage.out.clone(),
        program: stage.program,
        command: stage.line(),
        key: manifest.map(|manifest| manifest.key.clone()),
        target_key: target.map(|target| target.key.clone()),
        content: manifest.map(|manifest| manifest.content.clone()),
        config: config.map(config_digest),
        reason: reason(standing),
        failed: None,
        spent: manifest.map(Spent::of).unwrap_or_default(),
        taken_from: None,
        uncompared: false,
    }
}

fn target(standing: &Standing) -> Option<&Target> {
    match standing {
        Standing::Pending(pending) => pending.target.as_ref(),
        _ => None,
    }
}

fn reason(standing: &Standing) -> Option<String> {
    match standing {
        Standing::UpToDate => None,
        Standing::Pending(pending) => Some(pending.reasons.join("; ")),
        Standing::Broken(broken) => Some(broken.words.clone()),
    }
}
