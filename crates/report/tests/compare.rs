//! `entromask-report compare`: which differences are shown, in every form.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use entromask_artifact::{Cost, Input, Kind, OutputSpec, Recipe, Workbench, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Results on MRPC, RTE and WNLI; `scores` are MRPC's and RTE's seed by seed, WNLI's are all 56.3.
fn results(
    folder: &Path,
    name: &str,
    seeds: &[u64],
    scores: [&[f64]; 2],
    rows: u64,
) -> anyhow::Result<PathBuf> {
    let out = folder.join("scores").join(name).join("sample");
    let estimate = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        json!({"name": "accuracy", "floor": 50.0, "mean": mean, "std": null, "values": values})
    };
    let train =
        if name == "sampled" { json!({"rows": 64, "sampled_from": 2490}) } else { json!({"rows": 2490}) };
    let dev =
        |rows: u64| if rows == 140 { json!({"rows": rows, "official": 277}) } else { json!({"rows": rows}) };
    let task = |name: &str, rows: u64, values: &[f64]| json!({"task": name, "train": train, "dev": [dev(rows)], "metrics": [estimate(values)], "score": estimate(values)});
    let wnli = vec![56.3; seeds.len()];
    let tasks = [task("MRPC", 408, scores[0]), task("RTE", rows, scores[1]), task("WNLI", 71, &wnli)];
    let results = json!({"model": name, "seeds": seeds, "tasks": tasks, "averages": []});
    let rate = if name == "odd" { 3e-5 } else { 1e-5 };
    let config =
        json!({"tasks": {"MRPC": {"lr": 1e-5}, "RTE": {"lr": rate}, "WNLI": {"lr": 1e-5}}, "name": name});
    publish(&out, &results, config, vec![])?;
    Ok(out)
}

fn publish(out: &Path, results: &Value, config: Value, inputs: Vec<Input>) -> anyhow::Result<()> {
    let recipe = Recipe { kind: Kind::Glue, config, inputs };
    let bench = Workbench::open(out, recipe, tool("test", "0", &[]))?;
    bench.write_bytes("results.json", results.to_string().as_bytes())?;
    bench.publish(vec![OutputSpec::file("results.json")], Value::Null, Cost::default())?;
    Ok(())
}

/// A baseline; `good`, which is better on MRPC on each seed and on RTE on some; `odd` with other seeds and rows.
fn world() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let seeds = [1, 2, 3, 4, 5];
    let base = [[70.0, 71.0, 69.5, 70.5, 70.2], [60.0, 62.0, 58.0, 61.0, 59.0]];
    let good = [[72.1, 72.9, 71.5, 72.4, 72.3], [61.0, 60.5, 59.0, 60.2, 59.7]];
    results(folder.path(), "base", &seeds, base.each_ref().map(|row| &row[..]), 277)?;
    results(folder.path(), "good", &seeds, good.each_ref().map(|row| &row[..]), 277)?;
    results(folder.path(), "odd", &[4, 5, 6], [&[70.0, 70.1, 70.2], &[60.0, 61.0, 62.0]], 140)?;
    results(folder.path(), "one", &[3], [&[70.0], &[60.0]], 277)?;
    Ok(folder)
}

fn compare(folder: &TempDir, names: &[&str], flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("entromask-report").expect("built with the tests");
    command.current_dir(folder.path()).env_remove("RUST_LOG").arg("compare");
    command.args(names.iter().map(|name| format!("scores/{name}/sample"))).args(flags);
    command
}

fn stdout(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("UTF-8")
}

fn complaint(mut command: Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).expect("UTF-8")
}

/// MRPC: differences 2.1, 1.9, 2.0, 1.9, 2.1, mean 2.0, s = 0.1, so ± 2.776 · 0.1 / √5 = 0.124. RTE: 1.0, −1.5, 1.0, −0.8,
/// 0.7, mean 0.08.
#[test]
fn only_what_all_seeds_agree_on_is_shown() -> anyhow::Result<()> {
    let world = world()?;
    let text = stdout(compare(&world, &["base", "good"], &["--format", "markdown"]));
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_string();
    assert!(line("| MRPC").contains("| 5 | +2.00 | +1.88 to +2.12 |"), "{text}");
    assert!(line("| MRPC").ends_with("| better |"), "{text}");
    assert!(
        line("| RTE").contains("| +0.08 |") && line("| RTE").ends_with("| no difference shown |"),
        "{text}"
    );
    assert!(line("| WNLI").contains("| 5 | +0.00 | – | – |"), "{text}");
    assert!(line("| average of 2, without WNLI").contains("| +1.04 |"), "{text}");
    assert!(line("| average of 3").contains("| +0.69 |"), "{text}");
    assert!(
        text.contains("* 4 intervals of 95 %: on average 0.2 of them miss by chance alone"),
        "WNLI has none: {text}"
    );
    assert!(text.contains("nor the seed of pretraining"), "{text}");
    let worse = stdout(compare(&world, &["good", "base"], &[]));
    assert!(worse.contains("worse") && worse.contains("-2.00"), "{worse}");
    Ok(())
}

#[test]
fn what_cannot_be_compared_is_said() -> anyhow::Result<()> {
    let world = world()?;
    let text = stdout(compare(&world, &["base", "odd"], &[]));
    assert!(
        text.contains("pairs") && text.lines().any(|line| line.contains("MRPC") && line.contains(" 2 ")),
        "{text}"
    );
    for part in ["odd: left out: RTE (not on the same rows)", "odd: only 2 seeds are paired", "average of 2"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("RTE.lr"), "a task that is left out has no recipe to name: {text}");
    let text = stdout(compare(&world, &["base", "one", "base"], &[]));
    assert!(text.contains("one seed: nothing shown") && text.contains("the same model"), "{text}");
    assert!(complaint(compare(&world, &["one", "odd"], &[]), 3).contains("it shares no seed with"));
    let other = json!({"model": "other", "seeds": [1], "tasks": [], "averages": []});
    publish(&world.path().join("scores/other/sample"), &other, json!({"tasks": {}}), vec![])?;
    let said = complaint(compare(&world, &["base", "good", "other"], &[]), 3);
    assert!(said.contains("scores/other/sample: it shares no task"), "{said}");
    assert!(complaint(compare(&world, &["base", "nowhere"], &[]), 3).contains("nowhere"));
    compare(&world, &["base"], &[]).assert().code(2);
    Ok(())
}

/// Tasks of one's own have whatever name, metrics and files their users gave them.
#[test]
fn tasks_of_one_name_that_are_not_the_same_are_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mood = |name: &str, metric: &str, dtype: &str, files: &str| {
        let estimate = json!({"name": metric, "floor": 50.0, "mean": 60.0, "std": null, "values": [60.0]});
        let task = |task: &str, name: &str| {
            let metric = json!({"name": name, "floor": 50.0, "mean": 60.0, "std": null, "values": [60.0]});
            json!({"task": task, "dev": [{"rows": 9}], "metrics": [metric], "score": estimate})
        };
        let tasks = [task("mood", metric), task("tone", "accuracy")];
        let results = json!({"model": name, "seeds": [1], "tasks": tasks, "averages": []});
        let config = json!({"tasks": {}, "dtype": dtype, "definitions": {"tone": {"labels": [files]}}});
        let input = |role: &str| Input {
            role: role.into(),
            kind: "files".into(),
            content: files.into(),
            path: "x".into(),
        };
        publish(
            &folder.path().join("scores").join(name).join("sample"),
            &results,
            config,
            vec![input("tone")],
        )
    };
    mood("a", "accuracy", "f32", "one")?;
    mood("b", "f1", "bf16", "two")?;
    let text = stdout(compare(&folder, &["a", "b"], &[]));
    for part in [
        "b: left out: mood (by other metrics)",
        "b: fine-tuned in bf16 instead of f32",
        "b: tasks of another definition: tone",
        "b: tasks whose files have other content: tone",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("average of 2"), "{text}");
    Ok(())
}

#[test]
fn results_that_are_not_what_their_manifest_says_are_refused() -> anyhow::Result<()> {
    let world = world()?;
    let path = world.path().join("scores/good/sample/results.json");
    let better = fs_err::read_to_string(&path)?.replace("72.1", "82.1");
    fs_err::write(&path, better)?;
    let said = complaint(compare(&world, &["base", "good"], &[]), 3);
    assert!(said.contains("results.json: the manifest says blake3"), "{said}");
    Ok(())
}

#[test]
fn samples_of_training_rows_are_named() -> anyhow::Result<()> {
    let world = world()?;
    let seeds = [1, 2, 3, 4, 5];
    results(world.path(), "sampled", &seeds, [&[70.0; 5], &[60.0; 5]], 277)?;
    let text = stdout(compare(&world, &["base", "sampled"], &[]));
    let said =
        "sampled: not the whole task, trained on a sample of the rows: MRPC 64 of 2490, RTE 64 of 2490";
    assert!(text.contains(said) && !text.contains("base: not the whole"), "{text}");
    Ok(())
}

#[test]
fn splits_that_are_not_the_official_ones_and_numbers_of_seeds_are_named() -> anyhow::Result<()> {
    let world = world()?;
    let said = "not the official splits: RTE (140 of 277 to score)";
    for format in ["terminal", "markdown", "html"] {
        let text = stdout(compare(&world, &["base", "odd"], &["--format", format]));
        for part in [&format!("odd: {said}"), "base (n = 5)", "odd (n = 3)"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("base: not the official"), "{text}");
    }
    let text = stdout(compare(&world, &["odd", "odd"], &[]));
    assert_eq!(text.matches(&format!("note: {said}")).count(), 1, "what is true of all is said once: {text}");
    Ok(())
}

#[test]
fn recipes_that_differ_are_named() -> anyhow::Result<()> {
    let world = world()?;
    let seeds = [1, 2, 3, 4, 5];
    results(world.path(), "odd", &seeds, [&[70.0; 5], &[60.0; 5]], 277)?;
    let text = stdout(compare(&world, &["base", "odd"], &[]));
    assert!(text.contains("odd: another recipe, RTE.lr 0.00003 instead of 0.00001"), "{text}");
    Ok(())
}

#[test]
fn every_form_has_the_same_numbers() -> anyhow::Result<()> {
    let world = world()?;
    let names = ["base", "good"];
    stdout(compare(&world, &names, &["--out", "made/a.html"]));
    let page = std::fs::read_to_string(world.path().join("made/a.html"))?;
    assert!(
        page.contains("<svg") && page.contains("+2.00") && page.contains("no difference shown"),
        "{page}"
    );
    assert!(page.contains("better or worse"), "the legend explains both colours of means: {page}");
    for outside in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf"] {
        assert!(!page.contains(outside), "{outside}");
    }
    stdout(compare(&world, &names, &["--out", "made/a.parquet"]));
    assert_eq!(entromask_tables::rows(&world.path().join("made/a.parquet"))?, 10);
    let json: Value = serde_json::from_str(&stdout(compare(&world, &names, &["--json"])))?;
    let mrpc = &json["lines"][0]["cells"][1]["difference"];
    assert!((mrpc["mean"].as_f64().expect("a number") - 2.0).abs() < 1e-9, "{mrpc}");
    assert!((mrpc["t"][0].as_f64().expect("a number") - 1.875_836).abs() < 1e-5, "{mrpc}");
    assert_eq!(
        stdout(compare(&world, &names, &[])),
        stdout(compare(&world, &names, &["--format", "terminal"]))
    );
    for name in ["a.parquet", "a.md"] {
        stdout(compare(&world, &names, &["--out", &format!("made/for/{name}")]));
        let below_a_file = format!("made/a.html/{name}");
        assert!(complaint(compare(&world, &names, &["--out", &below_a_file]), 2).contains("cannot write"));
        assert_eq!(std::fs::read_dir(world.path().join("made/for"))?.count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(world.path().join("made/for"))?;
    }
    assert!(complaint(compare(&world, &names, &["--out", "a.doc"]), 2).contains("which format"));
    assert!(complaint(compare(&world, &names, &["--format", "parquet"]), 2).contains("--out"));
    Ok(())
}
