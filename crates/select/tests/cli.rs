//! The binary: exit codes, resuming, the same bytes on any number of threads.

use std::path::{Path, PathBuf};

use anyhow::Result;
use assert_cmd::Command;
use entromask_artifact::{Cost, Input, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_tables::{Entropies, Masks, Ragged, Tokens};
use tempfile::TempDir;

const PARTS: u64 = 3;
const ROWS: u64 = 20;

/// A folder with a tokens artifact of three parts and the entropies of its tokens.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Result<Self> {
        let world = Self { folder: tempfile::tempdir()? };
        let tokens = make_tokens(&world.path("tokens"), "first")?;
        make_entropies(&world.path("entropy"), &world.path("tokens"), &tokens, Some)?;
        Ok(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn select(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("entromask-select").expect("the binary is built");
        command.args(["--tokens", self.path("tokens").to_str().expect("UTF-8"), "--out"]).arg(self.path(out));
        command.arg("--entropy").arg(self.path("entropy")).args(arguments);
        command
    }
}

fn make_tokens(out: &Path, name: &str) -> Result<Manifest> {
    let recipe =
        Recipe { kind: Kind::Tokens, format: 1, config: serde_json::json!({"name": name}), inputs: vec![] };
    let bench = Workbench::open(out, recipe, tool("test", "0", &[]))?;
    let mut outputs = Vec::new();
    for part in 0..PARTS {
        let rows = part * ROWS..(part + 1) * ROWS;
        let length = |row: u64| 10 + (row % 30) as u32;
        let ids = |row| [vec![101], (200..200 + length(row)).collect(), vec![102]].concat();
        let words = |row| [vec![None], (0..length(row) as u16).map(Some).collect(), vec![None]].concat();
        let tokens = Tokens {
            row: rows.clone().collect(),
            doc: rows.clone().collect(),
            text: rows.clone().map(|_| String::new()).collect(),
            input_ids: Ragged::from_rows(rows.clone().map(ids)),
            word: Ragged::from_rows(rows.clone().map(words)),
            begin: Ragged::from_rows(rows.clone().map(ids)),
            end: Ragged::from_rows(rows.map(ids)),
        };
        let file = bench.part_name("part", part as usize);
        bench.write(&file, |path| tokens.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(file, ROWS));
    }
    let special = serde_json::json!({"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103});
    let stats =
        serde_json::json!({"rows": PARTS * ROWS, "maskable": 1000, "vocab_size": 1000, "special": special});
    bench.publish(outputs, stats, Cost::default())
}

fn make_entropies(out: &Path, of: &Path, tokens: &Manifest, score: fn(f32) -> Option<f32>) -> Result<()> {
    make_entropies_as(serde_json::json!({}), out, of, tokens, score)
}

fn make_entropies_as(
    config: serde_json::Value,
    out: &Path,
    of: &Path,
    tokens: &Manifest,
    score: fn(f32) -> Option<f32>,
) -> Result<()> {
    let inputs = vec![Input::artifact("tokens", tokens, of)];
    let recipe = Recipe { kind: Kind::Entropy, format: 1, config, inputs };
    let bench = Workbench::open(out, recipe, tool("test", "0", &[]))?;
    let mut outputs = Vec::new();
    for (index, part) in tokens.parts("part").enumerate() {
        let tokens = Tokens::read(
            &of.join(&part.file),
            entromask_tables::TokenColumns { word: true, ..Default::default() },
        )?;
        let scores = tokens.word.iter().map(|words| {
            words.iter().map(|word| word.and_then(|word| score(f32::from(word) / 10.0))).collect::<Vec<_>>()
        });
        let entropy = Ragged::from_rows(scores);
        let (row, surprisal) = (tokens.row.clone(), entropy.clone());
        let entropies = Entropies { row, surprisal, entropy, ..Entropies::default() };
        let file = bench.part_name("part", index);
        bench.write(&file, |path| entropies.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(file, ROWS));
    }
    bench.publish(outputs, serde_json::Value::Null, Cost::default()).map(drop)
}

/// File name -> bytes of all masks in `out`.
fn masks(out: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let manifest = Manifest::load(out, Kind::Masks)?;
    manifest.verify(out)?;
    manifest.outputs.iter().map(|o| Ok((o.file.clone(), std::fs::read(out.join(&o.file))?))).collect()
}

#[test]
fn high_masks_the_tokens_of_highest_entropy() -> Result<()> {
    let world = World::new()?;
    world.select("high", &["--set", "policy.name=high", "--set", "epochs=2"]).assert().success();
    let manifest = Manifest::load(&world.path("high"), Kind::Masks)?;
    assert_eq!(manifest.outputs.len() as u64, 2 * PARTS);
    let part = manifest.parts("epoch-001").next().expect("the masks of epoch 1");
    let masks = Masks::read(&world.path("high").join(&part.file))?;
    // Row 0: [CLS], 10 tokens of rising entropy, [SEP]; round(0.15 · 10) = 2 of them.
    assert_eq!((masks.positions.row(0), masks.epoch[0]), (&[9, 10][..], 1));
    assert!(
        manifest.stats["mean_entropy_masked"].as_f64() > manifest.stats["mean_entropy_unmasked"].as_f64()
    );
    Ok(())
}

/// A teacher with another tokenizer has no value for words 3, 13, 23, …: they are taken for average.
#[test]
fn gaps_of_carried_scores_are_average() -> Result<()> {
    let world = World::new()?;
    let tokens = Manifest::load(&world.path("tokens"), Kind::Tokens)?;
    let config = serde_json::json!({"carry": "sum"});
    make_entropies_as(config, &world.path("gaps"), &world.path("tokens"), &tokens, |score| {
        (((score * 10.0).round() as u32) % 10 != 3).then_some(score)
    })?;
    for (policy, expected) in [("high", [9, 10]), ("low", [1, 2])] {
        let mut command = Command::cargo_bin("entromask-select")?;
        command.arg("--tokens").arg(world.path("tokens")).arg("--entropy").arg(world.path("gaps"));
        command.arg("--out").arg(world.path(policy)).args(["--set", &format!("policy.name={policy}")]);
        command.assert().success();
        let part = Manifest::load(&world.path(policy), Kind::Masks)?.outputs[0].file.clone();
        let masks = Masks::read(&world.path(policy).join(part))?;
        assert_eq!(masks.positions.row(0), expected, "{policy}");
    }
    Ok(())
}

#[test]
fn threads_and_restarts_do_not_change_a_byte() -> Result<()> {
    let world = World::new()?;
    let sample = ["--set", "policy={name=\"sample\", temperature=1}", "--set", "epochs=3"];
    world.select("one", &sample).args(["--threads", "1"]).assert().success();
    world.select("two", &sample).args(["--threads", "2"]).assert().success();
    assert_eq!(masks(&world.path("one"))?, masks(&world.path("two"))?);

    let before = masks(&world.path("two"))?;
    std::fs::remove_file(world.path("two").join("manifest.json"))?;
    std::fs::remove_file(world.path("two").join(&before[1].0))?;
    world.select("two", &sample).assert().success();
    assert_eq!(masks(&world.path("two"))?, before);
    Ok(())
}

#[test]
fn one_epoch_can_be_made_alone() -> Result<()> {
    let world = World::new()?;
    world.select("all", &["--set", "epochs=3"]).assert().success();
    world.select("last", &["--set", "first_epoch=2"]).assert().success();
    let epoch = |out: &str| -> Result<Masks> {
        let manifest = Manifest::load(&world.path(out), Kind::Masks)?;
        let part = manifest.parts("epoch-002").next().expect("the masks of epoch 2");
        Masks::read(&world.path(out).join(&part.file))
    };
    assert_eq!(epoch("all")?, epoch("last")?);
    Ok(())
}

#[test]
fn a_second_run_is_up_to_date_and_a_dry_run_says_why_not() -> Result<()> {
    let world = World::new()?;
    world.select("out", &[]).assert().success();
    let again = world.select("out", &[]).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stdout).contains("up to date"));
    let plan = world.select("out", &["--set", "rate=0.3", "--dry-run"]).assert().success();
    assert!(String::from_utf8_lossy(&plan.get_output().stdout).contains("rate: 0.15 -> 0.3"));
    Ok(())
}

#[test]
fn bad_input_has_its_exit_code_and_leaves_nothing() -> Result<()> {
    let world = World::new()?;
    let other = make_tokens(&world.path("other"), "second")?;
    make_entropies(&world.path("of-other"), &world.path("other"), &other, Some)?;
    let tokens = Manifest::load(&world.path("tokens"), Kind::Tokens)?;
    make_entropies(&world.path("holes"), &world.path("tokens"), &tokens, |score| {
        (score < 2.0).then_some(score)
    })?;
    let entropy = |name: &str| ["--entropy".to_string(), world.path(name).display().to_string()].to_vec();
    let set = |value: &str| ["--set".to_string(), value.to_string()].to_vec();
    let high = set("policy.name=high");
    let cases = [
        (set("rate=0"), 2, "rate = 0"),
        (set("rate=1.5"), 2, "rate = 1.5"),
        (set("policy.name=best"), 2, "random"),
        (set("polisy=1"), 2, "polisy"),
        (set("policy={name=\"sample\", temperature=0}"), 2, "temperature"),
        (set("corruption.mask=0.5"), 2, "corruption"),
        ([high.clone(), entropy("of-other")].concat(), 3, "scores the tokens"),
        ([high.clone(), entropy("holes")].concat(), 3, "without a score"),
        ([high.clone(), entropy("nowhere")].concat(), 3, "manifest.json"),
        ([high, entropy("tokens")].concat(), 3, "expected an artifact of kind entropy"),
    ];
    for (arguments, code, named) in cases {
        let mut command = Command::cargo_bin("entromask-select")?;
        command.arg("--tokens").arg(world.path("tokens")).arg("--out").arg(world.path("bad"));
        let output = command.args(&arguments).assert().code(code);
        let message = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(message.contains(named), "{arguments:?}: {message}");
        assert!(!world.path("bad").join("manifest.json").exists());
    }
    Ok(())
}

#[test]
fn a_damaged_part_is_named() -> Result<()> {
    let world = World::new()?;
    let manifest = Manifest::load(&world.path("tokens"), Kind::Tokens)?;
    let part = world.path("tokens").join(&manifest.outputs[1].file);
    let mut bytes = std::fs::read(&part)?;
    bytes[100] ^= 1;
    std::fs::write(&part, bytes)?;
    let output = world.select("out", &[]).assert().code(3);
    let message = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(message.contains(&manifest.outputs[1].file) && message.contains("delete it"), "{message}");
    Ok(())
}
