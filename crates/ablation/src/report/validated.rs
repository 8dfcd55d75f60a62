//! On which rows runs are validated: losses on others are another measure, whatever they differ by.

use entromask_artifact::Manifest;
use entromask_report::number::{count, counted};
use serde::{Deserialize, Serialize};

use super::findings::{Findings, RunFindings, System};
use super::measure::Group;

/// What stands in the place of a verdict.
const OTHERS: &str = "validated on other rows";

/// The held-out rows of a run, which are the first ones of its corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validated {
    /// How many.
    pub rows: u64,
    /// Tokens that are masked in them; unknown of older models.
    pub positions: Option<u64>,
}

impl Validated {
    /// As the model says, or else as many as were asked for and are there.
    pub(super) fn of(model: &Manifest, tokens: Option<&Manifest>) -> Option<Self> {
        let positions = model.stats["valid_positions"].as_u64();
        let there = tokens.and_then(|tokens| tokens.stats["valid_rows"].as_u64()).unwrap_or(u64::MAX);
        let asked = || model.config["validation"]["rows"].as_u64().map(|rows| rows.min(there));
        let rows = model.stats["valid_rows"].as_u64().or_else(asked)?;
        Some(Self { rows, positions })
    }

    fn is_like(self, other: Self) -> bool {
        let known = self.positions.zip(other.positions);
        self.rows == other.rows && known.is_none_or(|(own, others)| own == others)
    }
}

/// Whether all runs of these systems were validated on the same rows, as far as one knows.
pub(super) fn alike(systems: &[System], runs: &[RunFindings], which: &[usize]) -> bool {
    let runs_of = |system: &usize| systems[*system].runs.iter().map(|&run| &runs[run]);
    let all: Vec<_> = which.iter().flat_map(runs_of).filter_map(|run| run.validated).collect();
    all.iter().all(|one| all.iter().all(|other| one.is_like(*other)))
}

/// Takes back what a group of losses says of systems that were validated on unlike rows.
pub(super) fn withhold(systems: &[System], runs: &[RunFindings], group: &mut Group) {
    let unlike = |which: &[usize]| !alike(systems, runs, which);
    for line in &mut group.lines {
        if let (Some(against), true) = (line.against, line.difference.is_some())
            && unlike(&[line.system, against])
        {
            line.verdict = OTHERS.into();
        }
    }
    group.contrasts.retain(|contrast| !unlike(&[contrast.pair, contrast.reference].concat()));
}

/// Which runs were validated on how many rows, if not all were on the same.
pub(super) fn in_words(findings: &Findings) -> Option<String> {
    let (systems, runs) = (&findings.systems, &findings.runs);
    if alike(systems, runs, &(0..systems.len()).collect::<Vec<_>>()) {
        return None;
    }
    let mut kinds: Vec<(Validated, Vec<&str>)> = Vec::new();
    for run in runs {
        let (Some(validated), label) = (run.validated, systems[run.system].label.as_str()) else { continue };
        match kinds.iter_mut().find(|(kind, _)| *kind == validated) {
            Some((_, labels)) if labels.contains(&label) => {}
            Some((_, labels)) => labels.push(label),
            None => kinds.push((validated, vec![label])),
        }
    }
    let named = |(kind, labels): &(Validated, Vec<&str>)| {
        let positions = kind.positions.map(|n| format!(" ({} masked tokens)", count(n))).unwrap_or_default();
        format!("On {}{positions}: {}.", counted(kind.rows, "row"), labels.join("; "))
    };
    let kinds: Vec<_> = kinds.iter().map(named).collect();
    Some(format!(
        "Validated on unlike rows. {} A difference of losses on unlike rows is no difference of models, so it has no verdict; \
         set `validation.rows` alike to compare them.",
        kinds.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest(config: &Value, stats: &Value) -> Manifest {
        let cost =
            json!({"seconds": 0.0, "flops": 0.0, "tokens": 0, "device": "cpu", "peak_memory_bytes": 0});
        let tool = json!({"name": "", "version": "", "git": "", "backends": []});
        let manifest = json!({"kind": "model", "format": 1, "key": "", "config": config, "inputs": [],
            "outputs": [], "content": "", "stats": stats, "cost": cost, "tool": tool});
        serde_json::from_value(manifest).expect("a manifest")
    }

    /// The corpus has 300 held-out rows, of which an older model was asked to read 1,024.
    #[test]
    fn older_models_say_how_many_rows_they_were_asked_for() {
        let tokens = manifest(&json!({}), &json!({"valid_rows": 300}));
        let asked = json!({"validation": {"rows": 1024}});
        let older = Validated::of(&manifest(&asked, &json!({})), Some(&tokens)).expect("rows");
        let stats = json!({"valid_rows": 300, "valid_positions": 4000});
        let newer = Validated::of(&manifest(&asked, &stats), Some(&tokens)).expect("rows");
        assert_eq!((older.rows, newer.positions), (300, Some(4000)));
        assert!(older.is_like(newer) && !newer.is_like(Validated { positions: Some(4001), ..newer }));
        assert!(!older.is_like(Validated { rows: 12, positions: None }));
    }
}
