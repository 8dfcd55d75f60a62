//! The binary as a user runs it: training, damaged checkpoints, rounds, distillation, mistakes.

#[expect(dead_code, reason = "the unit tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use session::{Session, assert_same_content, expect_failure, json, read, rows, stderr, tensors};

#[test]
fn a_damaged_checkpoint_is_not_used() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let whole = session.train(&masks, "whole", &[])?;
    let mut child = session.started(&masks, "damaged", 30, &[])?;
    child.kill()?;
    child.wait()?;
    let state = std::fs::read_dir(session.fixture.path("damaged/state"))?.next().context("state")??.path();
    let mut checkpoints: Vec<_> = std::fs::read_dir(state)?.flatten().map(|entry| entry.path()).collect();
    checkpoints.retain(|path| path.join("trainer.json").exists());
    checkpoints.sort();
    let weights = checkpoints.pop().context("a checkpoint")?.join("model.safetensors");
    let bytes = read(&weights)?;
    std::fs::write(&weights, &bytes[..bytes.len() / 2])?;
    let output = session.command(&masks, "damaged").output()?;
    assert!(stderr(&output).contains("damaged checkpoint"), "{}", stderr(&output));
    assert_same_content(&whole, &session.fixture.path("damaged"))
}

#[test]
fn two_rounds_are_one_run() -> Result<()> {
    let session = Session::new()?;
    let whole = session.train(&session.fixture.masks(0, 2)?, "whole", &[])?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &[])?;
    let go_on = ["--continue-from", first.to_str().context("utf-8")?];
    let second = session.train(&session.fixture.masks(1, 1)?, "second", &go_on)?;
    let weights = "model.safetensors";
    assert_eq!(tensors(&whole.join(weights))?, tensors(&second.join(weights))?);
    assert_ne!(tensors(&first.join(weights))?, tensors(&second.join(weights))?);
    let losses = |model: &Path| -> Result<Vec<Value>> {
        Ok(rows(model)?.into_iter().filter(|row| row.get("loss").is_some()).collect())
    };
    assert_eq!(losses(&whole)?, losses(&second)?, "the second round's log begins with the first's");
    Ok(())
}

#[test]
fn a_second_call_does_nothing_and_a_changed_recipe_trains_again() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let model = session.train(&masks, "model", &[])?;
    let written = std::fs::metadata(model.join("model.safetensors"))?.modified()?;
    session.train(&masks, "model", &["--set", "run.checkpoint_every=3", "--set", "run.log_every=9"])?;
    assert_eq!(std::fs::metadata(model.join("model.safetensors"))?.modified()?, written);
    let planned = session.command(&masks, "model").args(["--dry-run", "--set", "lr=2e-3"]).output()?;
    assert!(String::from_utf8_lossy(&planned.stdout).contains("lr: 0.001 -> 0.002"));
    let content = json(&model.join("manifest.json"))?["content"].clone();
    let short_key = entromask_artifact::Manifest::load_any(&model)?.short_key().to_owned();
    let trained = session.command(&masks, "model").args(["--set", "lr=2e-3"]).output()?;
    let said = format!("replaces model {short_key} (lr: 0.001 -> 0.002)");
    let log = String::from_utf8_lossy(&trained.stderr).into_owned();
    assert!(trained.status.success() && log.contains(&said), "{log}");
    assert_ne!(json(&model.join("manifest.json"))?["content"], content);
    Ok(())
}

#[test]
fn the_folder_is_complete_and_verifies() -> Result<()> {
    let session = Session::new()?;
    let model = session.train(&session.fixture.masks(0, 1)?, "model", &["--json"])?;
    let manifest = entromask_artifact::Manifest::load(&model, entromask_artifact::Kind::Model)?;
    manifest.verify(&model)?;
    assert_eq!(
        (manifest.cost.tokens, manifest.stats["steps"].clone()),
        (manifest.stats["tokens"].as_u64().unwrap_or(0), 24.into())
    );
    assert!(manifest.cost.flops > 0.0);
    // Fewer rows than were asked for, with one masked token each.
    let validated = ["valid_rows", "valid_positions"].map(|name| manifest.stats[name].as_u64());
    assert_eq!(validated, [Some(6), Some(6)]);
    let tokenizer = json(&model.join("tokenizer_config.json"))?;
    assert_eq!((&tokenizer["mask_token"], &tokenizer["model_max_length"]), (&"[MASK]".into(), &8.into()));
    assert_eq!(json(&model.join("config.json"))?["vocab_size"], fixture::VOCAB_SIZE);
    let card = String::from_utf8(read(&model.join("README.md"))?)?;
    for fact in [
        "Validation",
        "tokens/s",
        "M parameters",
        "drawn from seed 1",
        "rows of up to 8 tokens",
        "lowest validation loss",
        "GB of memory",
    ] {
        assert!(card.contains(fact), "{fact} is not in: {card}");
    }
    let rows = rows(&model)?;
    assert_eq!(rows[0]["step"], 0, "validated before the first step");
    let loss = rows[0]["valid_loss"].as_f64().context("a loss")?;
    assert!(
        (loss - (fixture::VOCAB_SIZE as f64).ln()).abs() < 0.1,
        "an untrained model knows nothing: {loss}"
    );
    Ok(())
}

#[test]
fn distillation_follows_the_teacher() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let teacher = session.train(&masks, "teacher", &["--set", "lr=1e-2"])?;
    let teacher = teacher.to_str().context("utf-8")?;
    for positions in ["masked", "all"] {
        let set = format!("objective.positions={positions}");
        let more =
            ["--teacher", teacher, "--set", "objective.kd=2", "--set", "objective.cos=1", "--set", "lr=1e-2"];
        let student = session.train(&masks, positions, &[&more[..], &["--set", &set]].concat())?;
        let kd: Vec<f64> = rows(&student)?.iter().filter_map(|row| row["kd"].as_f64()).collect();
        assert_eq!(kd.len(), 24);
        assert!(kd[12..].iter().sum::<f64>() < kd[..12].iter().sum::<f64>(), "{positions}: {kd:?}");
    }
    Ok(())
}

/// Forward and backward pass are three forward passes, and a teacher of the same shape makes one more in the steps that ask it.
#[test]
fn a_teacher_is_charged_for_where_it_is_asked() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 4)?;
    let flops = |out: &str, more: &[&str]| -> Result<f64> {
        let model = session.train(&masks, out, more)?;
        json(&model.join("manifest.json"))?["cost"]["flops"].as_f64().context("a number")
    };
    let alone = flops("alone", &[])?;
    let teacher = session.fixture.path("alone");
    let guided = ["--teacher", teacher.to_str().context("utf-8")?, "--set", "objective.kd=1", "--set"];
    let with = |out: &str, transfer: &str| flops(out, &[&guided[..], &[transfer]].concat());
    let asked = |flops: f64| (flops - alone) / (alone / 3.0);
    assert!((asked(with("complete", "transfer.mode=complete")?) - 1.0).abs() < 1e-9);
    let late = asked(with("late", "transfer={mode='after-init',init_fraction=0.5}")?);
    assert!((0.4..0.6).contains(&late), "{late}");
    // At step 40 of 96 the teacher has not been asked yet.
    let so_far = |out: &str, step: u64| -> Result<f64> {
        let rows = rows(&session.fixture.path(out))?;
        let row = rows.iter().find(|row| row["step"] == step && row.get("valid_loss").is_some());
        row.context("a validation")?["flops"].as_f64().context("operations")
    };
    let found = [("late", 40), ("alone", 0), ("alone", 96)].map(|(out, step)| so_far(out, step).ok());
    assert_eq!(found, [so_far("alone", 40).ok(), Some(0.0), Some(alone)]);
    let less = asked(with("less", "transfer={mode='anneal',init_fraction=0.5}")?);
    assert!((less + late - 1.0).abs() < 0.1, "{less}");
    Ok(())
}

#[test]
fn weights_can_be_taken_from_another_model() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let first = session.train(&masks, "first", &["--set", "lr=1e-2"])?;
    let second = session.train(&masks, "second", &["--init", first.to_str().context("utf-8")?])?;
    let end = rows(&first)?.last().context("rows")?["valid_loss"].clone();
    assert_eq!(rows(&second)?[0]["valid_loss"], end, "begins where the other ended");
    assert_eq!(rows(&second)?[1]["step"], 1);
    Ok(())
}

/// Nobody has to write down what its config.json says.
#[test]
fn the_shape_may_be_that_of_a_model() -> Result<()> {
    let session = Session::new()?;
    let (masks, later) = (session.fixture.masks(0, 2)?, session.fixture.masks(2, 2)?);
    let first = session.train(&masks, "first", &["--set", "lr=1e-2"])?;
    let name = first.to_str().context("utf-8")?;
    let with = |masks: &Path, out: &str, flags: &[&str]| -> Result<PathBuf> {
        let mut command = session.command_without_student(masks, out);
        let output = command.args(flags).output()?;
        anyhow::ensure!(output.status.success(), "{}", stderr(&output));
        Ok(session.fixture.path(out))
    };
    let whole = with(&masks, "same", &["--init", name])?;
    let config = |model: &Path| json(&model.join("config.json"));
    assert_eq!(config(&whole)?, config(&first)?);
    let same = session.train(&masks, "named", &["--init", name])?;
    assert_eq!(tensors(&whole.join("model.safetensors"))?, tensors(&same.join("model.safetensors"))?);
    let file = format!("{name}/config.json");
    let drawn = with(&masks, "drawn", &["--student", &file])?;
    assert_eq!(config(&drawn)?, config(&first)?);
    let (on, named) = (
        with(&later, "on", &["--continue-from", name])?,
        session.train(&later, "named-on", &["--continue-from", name])?,
    );
    assert_eq!(tensors(&on.join("model.safetensors"))?, tensors(&named.join("model.safetensors"))?);
    let mut none = session.command_without_student(&masks, "none");
    expect_failure(&mut none, 2, "--student <PATH>")?;
    expect_failure(none.args(["--student", "nothing"]), 2, "nothing: no such file")
}

/// Three shards of batches of eight, which have micro batches of their own.
#[test]
fn several_devices_train_what_one_trains() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 2)?;
    let train = |out: &str, devices: &str| {
        let sets = ["--set", "batch_size=8", "--set", "micro_batch=2", "--set", "lr=1e-2"];
        session.train(&masks, out, &[&sets[..], &["--device", devices]].concat())
    };
    let (one, three) = (train("one", "cpu")?, train("three", "cpu,cpu,cpu")?);
    let key = |model: &Path| Ok::<_, anyhow::Error>(json(&model.join("manifest.json"))?["key"].clone());
    assert_eq!(key(&one)?, key(&three)?, "devices are not in the key");
    assert_eq!(json(&three.join("manifest.json"))?["cost"]["device"], "cpu,cpu,cpu");
    let (one, three) = (rows(&one)?, rows(&three)?);
    assert!(one.len() > 6 && one.len() == three.len());
    for (a, b) in one.iter().zip(&three) {
        for name in ["loss", "valid_loss"] {
            let [a, b] = [a, b].map(|row| row[name].as_f64());
            assert_eq!(a.is_some(), b.is_some());
            assert!((a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
    // The same bits again, and up to date on another number of devices.
    let again = train("again", "cpu,cpu,cpu")?;
    assert_same_content(&session.fixture.path("three"), &again)?;
    let manifest = read(&again.join("manifest.json"))?;
    train("again", "cpu")?;
    assert_eq!(read(&again.join("manifest.json"))?, manifest);
    Ok(())
}

#[test]
fn mistakes_are_named_with_their_exit_codes() -> Result<()> {
    let session = Session::new()?;
    let (masks, later) = (session.fixture.masks(0, 1)?, session.fixture.masks(1, 1)?);
    let run = |more: &[&str]| {
        let mut command = session.command(&masks, "model");
        command.args(more);
        command
    };
    let other = session.fixture.other_tokens()?;
    let other = other.to_str().context("utf-8")?;
    expect_failure(&mut run(&["--set", "learning_rate=1"]), 2, "learning_rate")?;
    expect_failure(&mut run(&["--set", "batch_size=0"]), 2, "batch_size = 0")?;
    expect_failure(&mut run(&["--set", "objective.kd=1"]), 2, "--teacher")?;
    expect_failure(&mut run(&["--teacher", "nowhere"]), 2, "objective.kd")?;
    expect_failure(
        &mut run(&["--set", "objective.kd=1", "--teacher", "nowhere"]),
        3,
        "config.json: no such file; `--teacher`",
    )?;
    expect_failure(&mut run(&["--continue-from", "nowhere"]), 3, "nowhere")?;
    expect_failure(&mut run(&["--device", "cuda"]), 4, "cuda")?;
    expect_failure(&mut run(&["--device", "cuda:0,1"]), 4, "cuda")?;
    expect_failure(&mut run(&["--device", "cuda:0,0"]), 2, "`cuda:0` twice")?;
    expect_failure(&mut run(&["--device", "cuda:0,vulkan:1"]), 2, "several backends")?;
    expect_failure(&mut run(&["--device", "cpu,tpu"]), 2, "tpu")?;
    expect_failure(&mut run(&["--set", "lr=1e30", "--set", "warmup=0"]), 1, "diverged")?;
    expect_failure(&mut session.command(&later, "model"), 2, "--continue-from")?;
    expect_failure(&mut session.command(&session.fixture.masks(3, 2)?, "model"), 2, "epochs = 4")?;
    expect_failure(&mut session.command(Path::new("nowhere"), "model"), 3, "nowhere")?;
    let mut elsewhere = session.command(&masks, "model");
    let mut of_other_tokens = Command::new(elsewhere.get_program());
    let tokens = session.fixture.tokens();
    let arguments =
        elsewhere.get_args().map(|argument| if argument == tokens { other.as_ref() } else { argument });
    of_other_tokens.args(arguments);
    expect_failure(&mut of_other_tokens, 3, "content")?;
    expect_failure(elsewhere.arg("--out=/dev/null/below"), 2, "out")?;
    assert!(!session.fixture.path("model/manifest.json").exists());
    Ok(())
}

#[test]
fn the_version_names_the_backends() -> Result<()> {
    let output =
        Command::new(assert_cmd::cargo::cargo_bin!("entromask-pretrain")).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("backends: ")).context("backends")?;
    assert_eq!(line, entromask_device::compiled().join(", "));
    Ok(())
}

#[test]
fn a_damaged_part_is_an_input_error() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let manifest = entromask_artifact::Manifest::load(&masks, entromask_artifact::Kind::Masks)?;
    let part = masks.join(&manifest.outputs[1].file);
    let bytes = read(&part)?;
    std::fs::write(&part, &bytes[..bytes.len() / 2])?;
    expect_failure(&mut session.command(&masks, "model"), 3, &manifest.outputs[1].file)
}

#[test]
fn what_is_not_what_its_manifest_says_is_refused() -> Result<()> {
    let session = Session::new()?;
    let (tokens, masks) = (session.fixture.tokens(), session.fixture.masks(0, 1)?);
    let teacher = session.train(&masks, "teacher", &[])?;
    let train = || {
        let mut command = session.command(&masks, "model");
        command.args(["--set", "objective.kd=1", "--teacher"]).arg(&teacher);
        command
    };
    for (folder, name) in [
        (&tokens, "part-"),
        (&tokens, "valid-"),
        (&tokens, "tokenizer.json"),
        (&masks, "epoch-"),
        (&teacher, "model.safetensors"),
        (&teacher, "config.json"),
    ] {
        expect_refusal(&output_named(folder, name)?, &mut train())?;
    }
    ensure!(train().status()?.success());
    Ok(())
}

#[test]
fn soft_targets_and_first_masks_are_what_their_manifests_say_or_refused() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let targets = session.fixture.targets(&masks)?;
    let distill = || {
        let mut command = session.command(&masks, "distilled");
        command.args(["--set", "epochs=1", "--set", "objective.kd=1", "--set", "objective.temperature=2"]);
        command.arg("--targets").arg(&targets);
        command
    };
    let first_masks = session.fixture.masks_of_position(0, 1, 3)?;
    let switch = || {
        let mut command = session.command(&masks, "switched");
        command.args(["--set", "epochs=1", "--set", "mask_transfer={mode='after-init',init_fraction=0.9}"]);
        command.arg("--init-masks").arg(&first_masks);
        command
    };
    expect_refusal(&output_named(&targets, "epoch-")?, &mut distill())?;
    expect_refusal(&output_named(&first_masks, "epoch-")?, &mut switch())?;
    for mut command in [distill(), switch()] {
        let done = command.output()?;
        ensure!(done.status.success(), "{}", session::stderr(&done));
    }
    Ok(())
}

/// Runs `command` with a bit of `path` turned, which it has to notice; then the file is as it was.
fn expect_refusal(path: &Path, command: &mut Command) -> Result<()> {
    let whole = read(path)?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(path, damaged)?;
    expect_failure(command, 3, &format!("{}: the manifest says blake3", path.display()))?;
    Ok(std::fs::write(path, whole)?)
}

fn output_named(folder: &Path, start: &str) -> Result<PathBuf> {
    let manifest = entromask_artifact::Manifest::load_any(folder)?;
    let mut names = manifest.outputs.iter().map(|output| &output.file);
    let name = names.find(|name| name.starts_with(start)).with_context(|| start.to_owned())?;
    Ok(folder.join(name))
}
