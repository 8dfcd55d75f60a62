//! Where each number is from.

use std::path::Path;

use super::document::{Cell, DASH, Section, Table};
use super::expenses::shown;
use super::findings::Findings;

/// Digits of a key that are shown: enough to find it, all of them are in the JSON file.
const KEY: usize = 16;

/// Each run with the keys of what its numbers were read from.
pub(super) fn runs(findings: &Findings) -> Section {
    let mut table =
        Table::new(&["run", "seed#", "model", "key", "content", "made by", "fine-tuning", "stages"]);
    for run in &findings.runs {
        let glue: Vec<_> =
            run.glue.iter().map(|(name, scores)| format!("{name} {}", short(&scores.key))).collect();
        let stages: Vec<_> = run.stages.iter().map(|stage| (stage + 1).to_string()).collect();
        table.rows.push(vec![
            findings.systems[run.system].label.clone().into(),
            run.seed.to_string().into(),
            Cell::code(run.model.display().to_string()),
            run.key.as_ref().map_or("missing".into(), |key| Cell::code(short(key))),
            digits(run.content.as_deref()),
            run.made_by.as_ref().map_or(DASH.into(), Cell::code),
            if glue.is_empty() { DASH.into() } else { Cell::code(glue.join(", ")) },
            stages.join(" ").into(),
        ]);
    }
    table.drop_empty_columns();
    let note = "Losses and curves are in the model's `manifest.json` and `metrics.jsonl`, scores in `results.json` of the \
                fine-tuning. Keys and contents are the first 16 digits of those in the manifests: a key stands for a recipe, a content \
                for the bits that came out. The last column numbers the commands below that made the run.";
    Section { notes: vec![note.into()], tables: vec![table], ..Section::new("Runs") }
}

/// Each stage with its command.
pub(super) fn stages(findings: &Findings, grid: &Path) -> Section {
    let mut table = Table::new(&["no.#", "key", "content", "cost#", "command", "taken from"]);
    for (index, stage) in findings.stages.iter().enumerate() {
        table.rows.push(vec![
            (index + 1).to_string().into(),
            stage.key.as_ref().map_or("missing".into(), |key| Cell::code(short(key))),
            digits(stage.content.as_deref()),
            shown(stage.spent).into(),
            Cell::code(&stage.command),
            stage.taken_from.as_ref().map_or(DASH.into(), |from| from.display().to_string().into()),
        ]);
    }
    table.drop_empty_columns();
    let note = format!(
        "All of it: `make ablation GRID={}{}`. The stages, each made once; device and threads, which no result depends on but \
         for the last bits of sums, are left out.",
        grid.display(),
        folders(findings)
    );
    Section { notes: vec![note], tables: vec![table], ..Section::new("Commands") }
}

/// The variables of the Makefile for folders that are not where it looks for them.
fn folders(findings: &Findings) -> String {
    let folders = [("DATA", &findings.data, "data"), ("PIPELINES", &findings.pipelines, "pipelines")];
    let others = folders.into_iter().filter(|(_, folder, usual)| *folder != Path::new(usual));
    let words: Vec<_> = others.map(|(name, folder, _)| format!(" {name}={}", folder.display())).collect();
    words.concat()
}

/// The first digits of a digest, where it is known.
fn digits(digest: Option<&str>) -> Cell {
    digest.map_or(DASH.into(), |digest| Cell::code(short(digest)))
}

fn short(key: &str) -> String {
    key.chars().take(KEY).collect()
}
