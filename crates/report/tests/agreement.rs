//! `entromask-report compare` of entropies: how far scorings of the same tokens agree, in every form.

mod fixture;

use std::path::Path;

use assert_cmd::Command;
use entromask_artifact::{Cost, Input, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_tables::Entropies;
use fixture::Fixture;
use serde_json::{Value, json};

fn compare(fixture: &Fixture, names: &[&str], flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("entromask-report").expect("built with the tests");
    command.current_dir(fixture.folder()).env_remove("RUST_LOG").arg("compare");
    command.args(names.iter().map(|name| format!("data/{name}"))).args(flags);
    command
}

fn stdout(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).expect("UTF-8")
}

fn complaint(mut command: Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).expect("UTF-8")
}

fn found(fixture: &Fixture, names: &[&str], flags: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&stdout(compare(fixture, names, &[flags, &["--json"]].concat())))?)
}

fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-4)
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

/// Scores of `like` as another artifact: `change` is given each part and its number.
fn rescored(
    fixture: &Fixture,
    name: &str,
    like: &str,
    config: &Value,
    change: impl Fn(usize, &mut Entropies),
) -> anyhow::Result<()> {
    let (from, dir) = (fixture.dir(like), fixture.dir(name));
    let manifest = Manifest::load(&from, Kind::Entropy)?;
    let mut whole = manifest.config.clone();
    config.as_object().into_iter().flatten().for_each(|(key, value)| whole[key] = value.clone());
    let recipe = Recipe { kind: Kind::Entropy, config: whole, inputs: manifest.inputs.clone() };
    let bench = Workbench::open(&dir, recipe, tool("test", "0", &[]))?;
    let mut outputs = Vec::new();
    for (index, part) in manifest.parts("part").enumerate() {
        let mut scores = Entropies::read(&from.join(&part.file))?;
        change(index, &mut scores);
        let name = bench.part_name("part", index);
        bench.write(&name, |path| scores.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(name, scores.rows() as u64));
    }
    bench.publish(outputs, json!({}), Cost::default()).map(drop)
}

/// Takes the scores of all rows but those that `keep` names.
fn only(scores: &mut Entropies, keep: impl Fn(u64) -> bool) {
    for (index, _) in scores.row.clone().iter().enumerate().filter(|(_, row)| !keep(**row)) {
        for list in [&mut scores.entropy, &mut scores.surprisal] {
            let range = list.range(index);
            list.values[range].fill(None);
        }
    }
}

/// Half of each entropy: the ranks stay, the mean is half as high; surprisals are the same.
#[test]
fn scorings_of_the_same_tokens_are_compared() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_entropy("halved", "model-1", |nats| nats / 2.0)?;
    fixture.make_entropy("opposite", "model-1", |nats| 10.5 - nats)?;
    let agreement = found(&fixture, &["entropy-1", "halved", "opposite"], &[])?;
    let measure = |other: usize, measure: usize| agreement["others"][other]["measures"][measure].clone();
    let (entropy, surprisal) = (measure(0, 0), measure(0, 1));
    assert_eq!((&entropy["measure"], &surprisal["measure"]), (&"entropy".into(), &"surprisal".into()));
    assert_eq!(entropy["positions"], 3182);
    let mean = entropy["means"][0].as_f64().expect("a number");
    assert!(near(&entropy["means"][1], mean / 2.0) && near(&entropy["difference"], -mean / 2.0), "{entropy}");
    assert!(near(&entropy["absolute_mean"], mean / 2.0) && near(&entropy["absolute_max"], 5.0), "{entropy}");
    for key in ["spearman", "spearman_in_rows", "top", "top_in_rows"] {
        assert!(near(&entropy[key], 1.0), "{key}: {entropy}");
    }
    assert!(near(&surprisal["difference"], 0.0) && near(&surprisal["absolute_max"], 0.0), "{surprisal}");
    assert!((measure(1, 0)["spearman"].as_f64().expect("ranked") + 1.0).abs() < 1e-4);
    assert!(near(&measure(1, 0)["top"], 0.0), "the most uncertain by one are the surest by the other");
    // What is highest is halved most.
    let shifts = &agreement["others"][0]["shifts"];
    let lowest = shifts["below"].as_array().and_then(|list| list.last()).expect("ranked");
    assert!(
        lowest["token"] == "distinctly" && lowest["count"].as_u64() >= shifts["min_count"].as_u64(),
        "{shifts}"
    );
    assert_eq!(agreement["looked_at"]["rows"], 37);
    Ok(())
}

#[test]
fn samples_are_compared_where_both_scored() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let sample = |name: &str, keep: fn(u64) -> bool| {
        rescored(&fixture, name, "entropy-1", &json!({"rows": 18}), |_, part| only(part, keep))
    };
    sample("even", |row| row % 2 == 0)?;
    sample("thirds", |row| row % 3 == 0)?;
    sample("odd", |row| row % 2 == 1)?;
    let of = |names: &[&str]| found(&fixture, names, &[]);
    let positions = |agreement: &Value| agreement["others"][0]["measures"][0]["positions"].as_u64();
    let whole = positions(&of(&["entropy-1", "even"])?);
    let both = positions(&of(&["even", "thirds"])?);
    assert!(both < whole && both > Some(300), "every sixth row is in both: {both:?} of {whole:?}");
    let text = stdout(compare(&fixture, &["entropy-1", "even"], &[]));
    assert_has(&text, &["note: even: scored otherwise, rows 18 instead of the default"]);
    let said = complaint(compare(&fixture, &["even", "odd"], &[]), 3);
    assert_has(&said, &["data/odd: no position", "data/even", "--all", "`seed`"]);
    assert!(!complaint(compare(&fixture, &["even", "odd"], &["--all"]), 3).contains("--all"));
    Ok(())
}

#[test]
fn further_measures_are_compared_where_both_have_them() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let scored = |name: &str, measures: &'static [&str]| {
        rescored(&fixture, name, "entropy-1", &json!({"measures": measures}), |_, part| {
            let list = part.entropy.clone();
            part.measures = measures.iter().map(|name| (name.to_string(), list.clone())).collect();
        })
    };
    scored("two", &["margin", "renyi2"])?;
    scored("one", &["margin"])?;
    let text = stdout(compare(&fixture, &["two", "one"], &["--format", "markdown"]));
    assert_has(
        &text,
        &[
            "| one against two | entropy | surprisal | margin |",
            "margin and normalized have no unit",
            "* one: left out: renyi2 (not in both)",
        ],
    );
    assert!(!stdout(compare(&fixture, &["entropy-1", "one"], &[])).contains("no unit"));
    Ok(())
}

#[test]
fn what_has_to_be_known_is_said() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_entropy("flat", "model-1", |nats| 6.63 + nats / 1000.0)?;
    rescored(&fixture, "unmasked", "flat", &json!({"conditioning": "unmasked", "folds": null}), |_, _| {})?;
    let text = stdout(compare(&fixture, &["flat", "unmasked", "unmasked"], &[]));
    assert_has(
        &text,
        &[
            "A: flat",
            "C: unmasked",
            "B against A",
            "C against A",
            "unmasked: scored otherwise, conditioning unmasked instead of kfold, folds the default instead of 7",
            "unmasked: the same scores as those of the reference",
            "looked at 37 of 37 rows, 2 of 2 parts",
        ],
    );
    let flat = "flat: its entropies hardly differ (standard deviation 0.002 nats): their ranks are noise";
    assert_eq!(text.matches(flat).count(), 1, "{text}");
    std::fs::remove_dir_all(fixture.dir("tokens"))?;
    let text = stdout(compare(&fixture, &["entropy-1", "flat"], &[]));
    assert_has(&text, &["note: no tokens are ranked: tokens: data/tokens is gone", "rank correlation"]);
    assert!(!text.contains("differs most"), "{text}");
    Ok(())
}

#[test]
fn what_cannot_be_compared_is_refused() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let refused =
        |names: &[&str], parts: &[&str]| assert_has(&complaint(compare(&fixture, names, &[]), 3), parts);
    refused(
        &["entropy-1", "glue-1"],
        &["data/glue-1: of kind glue, but data/entropy-1 is of kind entropy", "of one kind"],
    );
    refused(&["glue-1", "entropy-1"], &["data/entropy-1: of kind entropy"]);
    refused(
        &["masks-0", "masks-1"],
        &["data/masks-0: of kind masks, which is not compared", "entromask-score"],
    );
    refused(&["entropy-1", "nowhere"], &["nowhere"]);
    for flags in [&["--all"][..], &["--min-count", "2"]] {
        let said = complaint(compare(&fixture, &["glue-1", "glue-1"], flags), 2);
        assert_has(&said, &[flags[0], "no rows to read"]);
    }
    other_tokens(&fixture)?;
    refused(
        &["entropy-1", "elsewhere"],
        &[
            "data/elsewhere: it scored the tokens data/others (ffff",
            "and data/entropy-1 data/tokens (",
            "entromask-score --tokens data/tokens",
        ],
    );
    rescored(&fixture, "short", "entropy-1", &json!({"seed": 2}), |index, part| {
        if index == 1 {
            part.row[0] += 1;
        }
    })?;
    refused(
        &["entropy-1", "short"],
        &["data/short: it has other rows than data/entropy-1", "inspect --verify"],
    );
    let part = fixture.part("short")?;
    let mut bytes = std::fs::read(&part)?;
    bytes[9] ^= 1;
    std::fs::write(&part, bytes)?;
    refused(&["entropy-1", "short"], &["the manifest says blake3"]);
    Ok(())
}

/// The same scores, of tokens with other content.
fn other_tokens(fixture: &Fixture) -> anyhow::Result<()> {
    let (from, dir) = (fixture.dir("entropy-1"), fixture.dir("elsewhere"));
    std::fs::create_dir(&dir)?;
    let mut manifest: Manifest = Manifest::load(&from, Kind::Entropy)?;
    let tokens = Input {
        content: "f".repeat(64),
        path: Path::new("data/others").into(),
        ..manifest.inputs[0].clone()
    };
    manifest.inputs[0] = tokens;
    manifest
        .outputs
        .iter()
        .try_for_each(|part| std::fs::copy(from.join(&part.file), dir.join(&part.file)).map(drop))?;
    Ok(std::fs::write(dir.join("manifest.json"), serde_json::to_vec(&manifest)?)?)
}

#[test]
fn every_form_has_the_same_numbers() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_entropy("halved", "model-1", |nats| nats / 2.0)?;
    let names = ["entropy-1", "halved"];
    let terminal = stdout(compare(&fixture, &names, &[]));
    let said = terminal.lines().find(|line| line.contains(" difference: mean")).unwrap_or_default();
    let difference = said.split_whitespace().nth(2).expect("a number");
    assert!(difference.starts_with('-'), "{terminal}");
    let file = |name: &str| -> anyhow::Result<Vec<u8>> {
        stdout(compare(&fixture, &names, &["--out", &format!("made/{name}")]));
        Ok(std::fs::read(fixture.folder().join("made").join(name))?)
    };
    let (page, text) = (String::from_utf8(file("a.html")?)?, String::from_utf8(file("a.md")?)?);
    for form in [&page, &text, &terminal] {
        assert_has(form, &[difference, "womanhood", "±", "15 % in common", "looked at 37 of 37 rows"]);
    }
    for outside in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_has(&text, &["\\<"]);
    file("a.parquet")?;
    assert_eq!(entromask_tables::rows(&fixture.folder().join("made/a.parquet"))?, 2);
    assert!(complaint(compare(&fixture, &names, &["--format", "parquet"]), 2).contains("--out"));
    Ok(())
}
