//! `entromask-report inspect` and `doctor` on the command line.

mod fixture;

use std::path::Path;

use assert_cmd::Command;
use entromask_tables::{Entropies, Ragged};
use fixture::Fixture;
use serde_json::Value;

fn report() -> Command {
    let mut command = Command::cargo_bin("entromask-report").expect("built with the tests");
    command.env_remove("COLORTERM").env_remove("NO_COLOR").env_remove("RUST_LOG");
    command
}

fn text(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("UTF-8")
}

fn inspect(path: &Path, flags: &[&str]) -> String {
    text(report().arg("inspect").arg(path).args(flags))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&inspect(path, &["--json"])).expect("JSON")
}

/// The class of the error and what it says.
fn failure(command: &mut Command) -> (i32, String) {
    let output = command.assert().failure().get_output().clone();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn tokens_are_shown_with_lengths_and_text() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let text = inspect(&fixture.dir("tokens"), &[]);
    assert_has(
        &text,
        &["tokens artifact in", "seq_len", "part-", "37 of 37 rows", "rows by length", "█", "&", "<peace>"],
    );
    let view = &json(&fixture.dir("tokens"))["view"]["tokens"];
    assert_eq!((view["special"].as_u64(), view["longest"].as_u64()), (Some(74), Some(96)));
    let first = &json(&fixture.part("tokens")?)["looked_at"];
    assert_eq!((first["rows"].as_u64(), first["of_parts"].as_u64()), (Some(30), Some(1)));
    assert_has(&inspect(&fixture.dir("tokens"), &["--row", "35"]), &["row 35"]);
    Ok(())
}

/// Halved entropies have the same ranks, negated ones the opposite; in between the model trained 60 steps of 3,000 tokens.
#[test]
fn a_round_is_compared_with_the_round_before() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let drift = |name: &str, kind: &str| json(&fixture.dir(name))["view"][kind]["drift"].clone();
    assert!(drift("entropy-1", "entropy").is_null() && drift("masks-1", "masks").is_null(), "the first ones");
    fixture.make_entropy("same", "model-1", |nats| nats / 2.0)?;
    fixture.make_entropy("opposite", "model-1", |nats| 10.5 - nats)?;
    fixture.make_masks("masks-2", 2, Some("opposite"))?;
    let scored = json(&fixture.dir("entropy-1"))["view"]["entropy"]["entropy"]["count"].clone();
    for (name, kind, rank) in
        [("same", "entropy", 1.0), ("opposite", "entropy", -1.0), ("masks-2", "masks", -1.0)]
    {
        let found = drift(name, kind);
        for key in ["spearman", "spearman_in_rows"] {
            let correlation = found[key].as_f64().expect("a number");
            // A few entropies are cut at the same 0.01 or 10 nats.
            assert!((correlation - rank).abs() < 1e-6, "{name} {key}: {correlation}");
        }
        assert_eq!((&found["staleness"], &found["tokens"]), (&180_000.into(), &scored), "{name}");
    }
    let text = inspect(&fixture.dir("masks-2"), &[]);
    assert_has(
        &text,
        &["against the round before", "-1.000 (Spearman, 3,182 tokens)", "180,000 tokens trained on"],
    );
    // Another model's entropies are no round before.
    fixture.make_model("stranger", "masks-1", None)?;
    fixture.make_entropy("strange", "stranger", |nats| nats)?;
    assert!(drift("strange", "entropy").is_null());
    std::fs::remove_dir_all(fixture.dir("entropy-1"))?;
    assert!(drift("same", "entropy").is_null(), "nothing is left to compare with");
    Ok(())
}

#[test]
fn entropies_are_shown_with_their_extremes_and_a_passage() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let plain = inspect(&fixture.dir("entropy-1"), &["--min-count", "20"]);
    assert_has(
        &plain,
        &["conditioning", "kfold", "99 %", "highest", "lowest", "womanhood", "raised: entropy"],
    );
    assert!(!plain.contains('\x1b'), "no colours in a pipe");
    let coloured = inspect(&fixture.dir("entropy-1"), &["--color", "always"]);
    assert!(coloured.contains("\x1b[48;5;"), "{coloured}");
    let view = &json(&fixture.dir("entropy-1"))["view"]["entropy"];
    let mean = |list: &str| view["ranking"][list][0]["mean"].as_f64().expect("ranked");
    assert!(mean("highest") > 5.0 && mean("lowest") < 2.0);
    let bars = view["histogram"].as_array().expect("a histogram");
    let total: u64 = bars.iter().filter_map(|bar| bar["count"].as_u64()).sum();
    assert_eq!(Some(total), view["entropy"]["count"].as_u64());
    Ok(())
}

#[test]
fn entropies_that_hardly_differ_are_pointed_out() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_entropy("flat", "model-0", |nats| 6.63 + nats / 1000.0)?;
    let text = inspect(&fixture.dir("flat"), &[]);
    assert_has(
        &text,
        &["! the entropies hardly differ (standard deviation 0.00", "as good as random", "6.63–6.64"],
    );
    let bars = json(&fixture.dir("flat"))["view"]["entropy"]["histogram"].clone();
    assert!(bars.as_array().is_some_and(|bars| bars.len() <= 3), "no empty bars: {bars}");
    let highest = text.lines().skip_while(|line| !line.contains("highest")).nth(1).unwrap_or_default();
    let mean = highest.split_whitespace().find(|word| word.starts_with("6.63"));
    assert!(mean.is_some_and(|mean| mean.len() > 4), "two digits do not tell tokens apart: {highest}");
    assert!(!inspect(&fixture.dir("entropy-1"), &[]).contains("hardly differ"));
    Ok(())
}

#[test]
fn a_part_is_shown_with_the_tokens_of_its_number() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let name =
        fixture.part("entropy-1")?.file_name().expect("a file").to_string_lossy().replace("00000", "00001");
    let part = fixture.dir("entropy-1").join(name);
    let found = json(&part);
    assert_eq!(found["looked_at"]["rows"].as_u64(), Some(7));
    let row = found["view"]["entropy"]["passage"]["row"].as_u64().expect("a passage");
    assert!((30..37).contains(&row), "{row}");
    let alone = fixture.folder().join("alone.parquet");
    std::fs::copy(&part, &alone)?;
    assert_has(&inspect(&alone, &[]), &["entropy artifact", "not listed in a manifest", "column statistics"]);
    Ok(())
}

#[test]
fn further_measures_are_shown_by_name() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let mut part = Entropies::read(&fixture.part("entropy-1")?)?;
    let half = |nats: &Option<f32>| nats.map(|nats| nats / 2.0);
    let halves = Ragged {
        offsets: part.entropy.offsets.clone(),
        values: part.entropy.values.iter().map(half).collect(),
    };
    part.measures = [("renyi2".into(), halves.clone()), ("margin".into(), halves)].into();
    let file = fixture.folder().join("measured.parquet");
    part.write(&file, &[])?;
    assert_has(&inspect(&file, &[]), &["renyi2", "margin", "margin and normalized have no unit"]);
    let view = &json(&file)["view"]["entropy"];
    let mean = |summary: &Value| summary["mean"].as_f64().expect("a number");
    let (entropy, renyi2) = (mean(&view["entropy"]), mean(&view["measures"]["renyi2"]));
    assert!((entropy - 2.0 * renyi2).abs() < 1e-3, "{entropy} {renyi2}");
    assert!(!inspect(&fixture.dir("entropy-1"), &[]).contains("renyi2"));
    Ok(())
}

#[test]
fn masks_are_shown_with_rate_and_marks() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let text = inspect(&fixture.dir("masks-1"), &[]);
    assert_has(
        &text,
        &[
            "policy.name",
            "high",
            "rate",
            "tokens masked most often",
            "[womanhood]",
            "entropies of the masked",
        ],
    );
    let view = &json(&fixture.dir("masks-0"))["view"]["masks"];
    assert!(view["entropy"].is_null());
    assert!((view["rate"].as_f64().expect("tokens are there") - 0.15).abs() < 0.01);
    Ok(())
}

#[test]
fn a_selection_that_collapses_is_pointed_out() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let path = fixture.dir("masks-1").join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let masked =
        |id: u32, token: &str| serde_json::json!({"id": id, "token": token, "masked": 300, "maskable": 400});
    manifest["stats"]["report"] = serde_json::json!({
        "budget": 1000, "short": 12, "relaxed": 0, "corrupted": 0,
        "epochs": [{"epoch": 0, "rate": 0.3}, {"epoch": 1, "rate": 0.15}],
        "means": {"entropy": {"masked": 6.5, "unmasked": 2.25}, "excess": {"masked": 1.5, "unmasked": null}},
        "overlap": {"repeated": 0.98, "repeated_random": 0.15, "ever": 0.16, "ever_random": 0.28},
        "clustering": {"adjacent": 0.3, "adjacent_random": 0.15, "mean_gap": 4.0, "mean_gap_random": 6.0},
        "classes": [{"class": "word", "masked": 500, "maskable": 5000}, {"class": "digits", "masked": 488, "maskable": 600}],
        "tokens": {"distinct": 90, "ever_masked": 12, "top_share": 0.6, "top_share_random": 0.2,
            "most_masked": [masked(7, "womanhood"), masked(8, "1905")]},
    });
    std::fs::write(&path, serde_json::to_vec(&manifest)?)?;
    let text = inspect(&fixture.dir("masks-1"), &[]);
    assert_has(
        &text,
        &[
            "30.0 % █▁ 15.0 %",
            "6.500 nats masked, 2.250 unmasked",
            "1.500 nats masked, – unmasked",
            "12 of 90 ids are ever masked",
            "the masks hardly change: 98.0 %",
            "class `digits`: 49.4 % of them, 4.6 × random",
            "2 tokens: 60.0 % of them, 3.0 × random",
            "1.2 % of the budget was not spent",
        ],
    );
    assert!(!text.contains("report.budget"), "the report is shown once\n{text}");
    assert_eq!(json(&fixture.dir("masks-1"))["view"]["masks"]["selection"]["short"], 12);
    assert!(
        json(&fixture.dir("masks-0"))["view"]["masks"]["selection"].is_null(),
        "older artifacts have none"
    );
    Ok(())
}

#[test]
fn models_and_results_are_shown() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let model = inspect(&fixture.dir("model-1"), &[]);
    assert_has(
        &model,
        &["hidden_size", "parameters", "validation accuracy", "█", "▁", "120 on 360,000 tokens"],
    );
    let unofficial = "not the official splits: QNLI (500 of 5463 to score)";
    assert_has(
        &inspect(&fixture.dir("glue-1"), &[]),
        &["QNLI", "59.8 ± 0.8", "average of 2 tasks", "50.5", unofficial],
    );
    let dev = &json(&fixture.dir("glue-1"))["view"]["glue"]["tasks"][0]["dev"][0];
    assert_eq!(dev["official"].as_u64(), Some(5463));
    let elsewhere = fixture.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture.dir("model-1").join(file), elsewhere.join(file))?;
    }
    assert_has(&inspect(&elsewhere, &[]), &["from outside the pipeline", "parameters"]);
    Ok(())
}

#[test]
fn when_the_tokens_are_gone_the_rest_is_shown() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    std::fs::remove_dir_all(fixture.dir("tokens"))?;
    for name in ["entropy-1", "masks-1"] {
        let text = inspect(&fixture.dir(name), &[]);
        assert_has(&text, &["no text is shown: tokens: data/tokens is gone", "key"]);
    }
    assert_has(&inspect(&fixture.dir("entropy-1"), &[]), &["column statistics"]);
    Ok(())
}

#[test]
fn bad_paths_and_damage_are_input_errors_that_name_them() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let part = fixture.part("entropy-1")?;
    let bytes = std::fs::read(&part)?;
    std::fs::write(&part, &bytes[..bytes.len() / 2])?;
    let notes = fixture.folder().join("notes.txt");
    std::fs::write(&notes, "x")?;
    let cases = [
        (fixture.dir("nowhere"), "no such file"),
        (fixture.folder().to_path_buf(), "manifest.json"),
        (fixture.dir("entropy-1"), "damaged"),
        (part, "damaged"),
        (notes, "neither a folder nor a Parquet part"),
    ];
    for (path, what) in cases {
        let (code, message) = failure(report().arg("inspect").arg(&path));
        assert_eq!(code, 3, "{message}");
        assert!(message.contains(what) && message.contains(&path.display().to_string()), "{message}");
    }
    let (code, message) = failure(report().arg("inspect").arg(fixture.dir("tokens")).args(["--row", "37"]));
    assert_eq!((code, message.contains("there are 37 rows")), (2, true), "{message}");
    Ok(())
}

#[test]
fn verifying_finds_a_changed_byte() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let weights = fixture.dir("model-1").join("model.safetensors");
    let mut bytes = std::fs::read(&weights)?;
    *bytes.last_mut().expect("not empty") = 1;
    std::fs::write(&weights, bytes)?;
    inspect(&fixture.dir("model-1"), &[]);
    let (code, message) = failure(report().args(["inspect", "--verify"]).arg(fixture.dir("model-1")));
    assert_eq!((code, message.contains("blake3")), (3, true), "{message}");
    Ok(())
}

#[test]
fn what_has_no_rows_shows_none() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (name, flags) in
        [("model-1", &["--row", "1"][..]), ("glue-1", &["--all"]), ("model-0", &["--min-count", "2"])]
    {
        let (code, message) = failure(report().arg("inspect").arg(fixture.dir(name)).args(flags));
        assert_eq!((code, message.contains(flags[0])), (2, true), "{message}");
    }
    Ok(())
}

#[test]
fn colours_take_no_room_in_tables() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let shown = |color: &str| inspect(&fixture.dir("masks-1"), &["--color", color]);
    let (coloured, plain) = (shown("always"), shown("never"));
    let pieces = coloured.split('\x1b').enumerate();
    let seen: String = pieces
        .map(|(i, text)| if i == 0 { text } else { text.split_once('m').map_or("", |(_, rest)| rest) })
        .collect();
    let headers: Vec<_> =
        plain.lines().filter(|line| line.contains("role  ") || line.contains("file  ")).collect();
    assert!(
        coloured.contains("\x1b[2m role") || coloured.contains("\x1b[2mrole"),
        "headers are faint: {coloured:?}"
    );
    assert!(
        headers.len() > 1 && headers.iter().all(|header| seen.lines().any(|line| line == *header)),
        "{seen}"
    );
    Ok(())
}

#[test]
fn the_doctor_names_what_is_missing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let doctor = || -> anyhow::Result<_> {
        let output = report().current_dir(folder.path()).args(["doctor", "--data", "elsewhere"]).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    std::fs::create_dir_all(folder.path().join("elsewhere/sample/corpus/book"))?;
    let (code, text) = doctor()?;
    assert_eq!(code, Some(1));
    assert_has(&text, &["memory", "cores", "free for elsewhere", "problem  sample/corpus", "git checkout"]);
    std::fs::create_dir_all(folder.path().join("data/sample/corpus/book"))?;
    assert!(!doctor()?.1.contains("problem  sample/corpus"), "runs read samples from `data` only");
    Ok(())
}
