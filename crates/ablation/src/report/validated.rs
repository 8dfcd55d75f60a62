//! On which rows runs are validated: losses on others are another measure, whatever they differ by.

use entromask_artifact::Manifest;
use entromask_report::number::{count, counted};
use serde::{Deserialize, Serialize};

use super::findings::{RunFindings, System};
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
pub(super) fn in_words(systems: &[System], runs: &[RunFindings]) -> Option<String> {
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
    use entromask_report::compare::Difference;
    use serde_json::{Value, json};

    use super::*;
    use crate::grid::Choice;
    use crate::report::contrast::Contrast;

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

    /// Each system has two runs, but for the last one, whose only run was validated on other rows.
    fn last_one_differs(labels: &[&str]) -> (Vec<System>, Vec<RunFindings>) {
        let (all, other) =
            (Validated { rows: 1024, positions: Some(19_660) }, Validated { rows: 12, positions: None });
        let (mut systems, mut runs) = (vec![], vec![]);
        for (system, label) in labels.iter().enumerate() {
            let (count, validated) = if system + 1 < labels.len() { (2, all) } else { (1, other) };
            let run = RunFindings { system, validated: Some(validated), ..RunFindings::default() };
            systems.push(System {
                label: (*label).into(),
                choice: Choice::default(),
                baselines: vec![],
                is_baseline: true,
                runs: (runs.len()..runs.len() + count).collect(),
            });
            runs.extend(std::iter::repeat_n(run, count));
        }
        (systems, runs)
    }

    #[test]
    fn only_contrasts_of_like_rows_are_kept() {
        let (systems, runs) = last_one_differs(&["a", "b", "c", "d", "e"]);
        let contrast = |pair, reference| Contrast {
            measure: "loss".into(),
            pair,
            reference,
            change: Difference::new(vec![0.1]),
            verdict: String::new(),
        };
        let contrasts = vec![contrast([3, 2], [1, 0]), contrast([4, 2], [1, 0]), contrast([3, 2], [1, 4])];
        let mut group = Group {
            title: String::new(),
            note: String::new(),
            lower_is_better: true,
            digits: 4,
            lines: vec![],
            contrasts,
        };
        withhold(&systems, &runs, &mut group);
        let kept: Vec<_> = group.contrasts.iter().map(|kept| (kept.pair, kept.reference)).collect();
        assert_eq!(kept, [([3, 2], [1, 0])]);
    }

    #[test]
    fn who_was_validated_on_what_is_said_once_a_system() {
        let (systems, runs) = last_one_differs(&["random", "mixed", "high"]);
        let said = in_words(&systems, &runs).expect("they are unlike");
        let kinds = "On 1,024 rows (19,660 masked tokens): random; mixed. On 12 rows: high. A difference";
        assert!(said.contains(kinds), "{said}");
        assert_eq!(in_words(&systems[..2], &runs[..4]), None);
    }
}
