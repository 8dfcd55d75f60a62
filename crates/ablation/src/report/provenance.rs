//! Where each number is from.

use std::path::Path;

use super::document::{Cell, Section, Table};
use super::expenses::shown;
use super::findings::Findings;

/// Digits of a key that are shown: enough to find it, all of them are in the JSON file.
const KEY: usize = 16;

/// Each run with the keys of what its numbers were read from.
pub(super) fn runs(findings: &Findings) -> Section {
    let mut table = Table::new(&["run", "seed#", "model", "key", "fine-tuning", "stages"]);
    for run in &findings.runs {
        let glue: Vec<_> =
            run.glue.iter().map(|(name, scores)| format!("{name} {}", short(&scores.key))).collect();
        let stages: Vec<_> = run.stages.iter().map(|stage| (stage + 1).to_string()).collect();
        table.rows.push(vec![
            findings.systems[run.system].label.clone().into(),
            run.seed.to_string().into(),
            Cell::code(run.model.display().to_string()),
            run.key.as_ref().map_or("missing".into(), |key| Cell::code(short(key))),
            if glue.is_empty() { "–".into() } else { Cell::code(glue.join(", ")) },
            stages.join(" ").into(),
        ]);
    }
    let note = "Losses and curves are in the model's `manifest.json` and `metrics.jsonl`, scores in `results.json` of the \
                fine-tuning. Keys are the first 16 digits of those in the manifests; the last column numbers the commands \
                below that made the run.";
    Section { notes: vec![note.into()], tables: vec![table], ..Section::new("Runs") }
}

/// Each stage with its command.
pub(super) fn stages(findings: &Findings, grid: &Path) -> Section {
    let mut table = Table::new(&["no.#", "key", "cost#", "command"]);
    for (index, stage) in findings.stages.iter().enumerate() {
        table.rows.push(vec![
            (index + 1).to_string().into(),
            stage.key.as_ref().map_or("missing".into(), |key| Cell::code(short(key))),
            shown(stage.spent).into(),
            Cell::code(&stage.command),
        ]);
    }
    let note = format!(
        "All of it: `make ablation GRID={}`. The stages, each made once; device and threads, which no result depends on but \
         for the last bits of sums, are left out.",
        grid.display()
    );
    Section { notes: vec![note], tables: vec![table], ..Section::new("Commands") }
}

fn short(key: &str) -> String {
    key.chars().take(KEY).collect()
}
