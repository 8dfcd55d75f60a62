//! Models that runs begin with, and that guide them: what they may be like, and who is blamed where they are broken.

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use session::{Session, expect_failure, json, read, stderr};

/// What the decoder sees is multiplied by this.
const BEFORE_DECODER: &str = "cls.predictions.transform.LayerNorm.weight";

/// Another tool's model: that in `model`, with its logits `factor` times as far apart.
fn sharpened(session: &Session, model: &Path, name: &str, factor: f32) -> Result<PathBuf> {
    let folder = session.fixture.path(name);
    std::fs::create_dir_all(&folder)?;
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(model.join(file), folder.join(file))?;
    }
    let bytes = read(&model.join("model.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let scale = |bytes: &[u8]| -> Vec<u8> {
        let values = bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().expect("four")));
        values.flat_map(|value| (value * factor).to_le_bytes()).collect()
    };
    let tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let data = if name == BEFORE_DECODER { scale(tensor.data()) } else { tensor.data().to_vec() };
            (name, tensor.shape().to_vec(), data)
        })
        .collect();
    assert!(tensors.iter().any(|(name, ..)| name == BEFORE_DECODER));
    let views = tensors
        .iter()
        .map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)));
    safetensors::serialize_to_file(
        views.collect::<Result<Vec<_>>>()?,
        None,
        &folder.join("model.safetensors"),
    )?;
    Ok(folder)
}

/// A model for another domain, or one whose layers were chosen, may be wrong and sure of it at first.
#[test]
fn a_first_step_worse_than_guessing_is_no_divergence() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let first = session.train(&masks, "first", &["--set", "lr=1e-2"])?;
    let sure = sharpened(&session, &first, "sure", 1e4)?;
    let run = |steps: &str| {
        let mut command = session.command(&masks, "model");
        command.arg("--init").arg(&sure).args(["--set", "lr=1e-6", "--set", steps]);
        command
    };
    let output = run("budget={steps=12}").output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    // It is told later that it does not come down.
    expect_failure(&mut run("budget={steps=24}"), 1, "training diverged: the cross-entropy is")
}

/// Masks of a later epoch begin at a later step.
#[test]
fn a_budget_that_is_used_up_before_the_masks_begin_trains_nothing() -> Result<()> {
    let session = Session::new()?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &[])?;
    let masks = session.fixture.masks(1, 1)?;
    for only_asked in [false, true] {
        let mut command = session.command(&masks, "late");
        command.arg("--init").arg(&first).args(["--set", "budget={steps=5}"]);
        command.args(only_asked.then_some("--dry-run"));
        expect_failure(&mut command, 2, "begins at step 24, where the budget is used up")?;
    }
    Ok(())
}

#[test]
fn a_broken_model_is_blamed_and_not_the_learning_rate() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let first = session.train(&masks, "first", &["--set", "lr=1e-2"])?;
    let broken = sharpened(&session, &first, "broken", 1e38)?;
    let mut init = session.command(&masks, "model");
    expect_failure(init.arg("--init").arg(&broken), 3, "broken: its validation loss is no number")?;
    let mut taught = session.command(&masks, "model");
    taught.arg("--teacher").arg(&broken).args(["--set", "objective.kd=1"]);
    expect_failure(&mut taught, 3, "broken: the teacher computes what is no number: kd is")
}

/// Other tools' configurations say that all is tied, whatever the weights are; `transformers` goes by those, too.
#[test]
fn a_model_with_a_decoder_of_its_own_begins_as_its_own_shape() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let untied = format!("{}\ntie_word_embeddings = false\n", session::STUDENT);
    session.fixture.file("student.toml", &untied)?;
    let model = sharpened(&session, &session.train(&masks, "first", &[])?, "tied", 1.0)?;
    let mut config = json(&model.join("config.json"))?;
    assert_eq!(config["tie_word_embeddings"], false);
    config["tie_word_embeddings"] = true.into();
    std::fs::write(model.join("config.json"), config.to_string())?;
    let mut command = session.command_without_student(&masks, "model");
    let output = command.arg("--init").arg(&model).output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(&session.fixture.path("model/config.json"))?["tie_word_embeddings"], false);
    // With the head the decoder is left behind.
    let mut command = session.command_without_student(&masks, "fresh");
    let output = command.arg("--init").arg(&model).args(["--set", "init.fresh_head=true"]).output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(&session.fixture.path("fresh/config.json"))?["tie_word_embeddings"], true);
    Ok(())
}

/// In `make plan`, before hours of work.
#[test]
fn a_dry_run_looks_whether_a_run_can_begin() -> Result<()> {
    let session = Session::new()?;
    let (masks, later) = (session.fixture.masks(0, 1)?, session.fixture.masks(1, 1)?);
    let first = session.train(&masks, "first", &[])?;
    let plan = |masks: &Path, flags: &[&str]| {
        let mut command = session.command(masks, "model");
        command.arg("--dry-run").args(flags);
        command
    };
    let name = first.to_str().context("utf-8")?;
    expect_failure(&mut plan(&masks, &["--init", name, "--set", "init.layers=[0,9]"]), 2, "layer")?;
    expect_failure(
        &mut plan(&later, &["--continue-from", name, "--set", "batch_size=2"]),
        3,
        "same batch_size",
    )?;
    assert!(plan(&later, &["--continue-from", name]).status()?.success());
    // A round before that was interrupted has a folder, and no model yet.
    std::fs::create_dir_all(session.fixture.path("begun/state"))?;
    std::fs::write(session.fixture.path("begun/.lock"), "")?;
    std::fs::write(
        session.fixture.path("pending"),
        session.fixture.path("begun").display().to_string() + "\n",
    )?;
    let mut command = session.command_without_student(&later, "model");
    command.arg("--dry-run").arg("--continue-from").arg(session.fixture.path("begun"));
    let output = command.arg("--pending").arg(session.fixture.path("pending")).output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    session.fixture.file("student.toml", &session::STUDENT.replace("hidden_size = 8", "hidden_size = 16"))?;
    expect_failure(&mut plan(&masks, &["--init", name]), 2, "hidden_size is 8")?;
    expect_failure(&mut plan(&later, &["--continue-from", name]), 2, "its shape is not the one of")
}
