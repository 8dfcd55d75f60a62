//! Where each number is from.

use std::path::Path;

use entromask_cli::quoted;

use super::document::{Cell, DASH, Section, Table};
use super::expenses::shown;
use super::findings::Findings;
use super::inline;

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
        "All of it: {}. The stages, each made once; device and threads, which no result depends on but \
         for the last bits of sums, are left out.",
        inline::code(&whole(findings, grid))
    );
    Section { notes: vec![note], tables: vec![table], ..Section::new("Commands") }
}

/// The command that makes all: that of the Makefile, or of this program for paths that make would not take.
fn whole(findings: &Findings, grid: &Path) -> String {
    let folders = [("data", &findings.data), ("pipelines", &findings.pipelines)];
    let others: Vec<_> = folders.into_iter().filter(|(usual, folder)| *folder != Path::new(usual)).collect();
    let grid = grid.display().to_string();
    let of_others = others.iter().map(|(name, folder)| (*name, folder.display().to_string()));
    let words: Vec<String> = if is_for_make(&grid) && of_others.clone().all(|(_, path)| is_for_make(&path)) {
        let variable = |(name, path): (&str, String)| format!("{}={path}", name.to_uppercase());
        [format!("make ablation GRID={grid}")].into_iter().chain(of_others.map(variable)).collect()
    } else {
        let flag = |(name, path): (&str, String)| format!("--{name} {}", quoted(&path));
        [format!("entromask-ablation run {}", quoted(&grid))].into_iter().chain(of_others.map(flag)).collect()
    };
    words.join(" ")
}

/// Whether neither make nor a shell takes a part of the path for its own.
fn is_for_make(path: &str) -> bool {
    path.chars().all(|c| c.is_alphanumeric() || "-_./,+@".contains(c)) && !path.contains("//")
}

/// The first digits of a digest, where it is known.
fn digits(digest: Option<&str>) -> Cell {
    digest.map_or(DASH.into(), |digest| Cell::code(short(digest)))
}

fn short(key: &str) -> String {
    key.chars().take(KEY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_all_can_be_pasted_into_a_shell() {
        let with = |data: &str, pipelines: &str, grid: &str| {
            let (data, pipelines) = (data.into(), pipelines.into());
            whole(&Findings { data, pipelines, ..Findings::default() }, Path::new(grid))
        };
        assert_eq!(with("data", "pipelines", "grid/é.toml"), "make ablation GRID=grid/é.toml");
        assert_eq!(with("/d", "pipelines", "a.toml"), "make ablation GRID=a.toml DATA=/d");
        assert_eq!(
            with("/d", "it's", "my grid.toml"),
            "entromask-ablation run 'my grid.toml' --data /d --pipelines 'it'\\''s'"
        );
        assert_eq!(with("data", "pipelines", "a:b.toml"), "entromask-ablation run a:b.toml");
        assert_eq!(with("d//e", "pipelines", "a.toml"), "entromask-ablation run a.toml --data d//e");
        assert_eq!(with("lr=1", "pipelines", "~a.toml"), "entromask-ablation run '~a.toml' --data lr=1");
    }
}
