//! Models, rounds and options that do not fit together are refused before anything is trained.

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use session::{Session, expect_failure, json, read, stderr};

/// A folder with files of `model`: another tool's, since it has no manifest.
fn copy(session: &Session, model: &Path, name: &str) -> Result<PathBuf> {
    let folder = session.fixture.path(name);
    std::fs::create_dir_all(&folder)?;
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model.join(file), folder.join(file))?;
    }
    Ok(folder)
}

/// Leaves the model in `folder` its first `positions` positions.
fn shorten(folder: &Path, positions: usize) -> Result<()> {
    let mut config = json(&folder.join("config.json"))?;
    config["max_position_embeddings"] = positions.into();
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let bytes = read(&folder.join("model.safetensors"))?;
    let shorter = |name: String, tensor: TensorView<'_>| -> Result<(String, Vec<usize>, Vec<u8>)> {
        let (mut shape, mut data) = (tensor.shape().to_vec(), tensor.data().to_vec());
        if name.contains("position_embeddings") {
            data.truncate(data.len() / shape[0] * positions);
            shape[0] = positions;
        }
        Ok((name, shape, data))
    };
    let file = SafeTensors::deserialize(&bytes)?;
    let tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, tensor)| shorter(name, tensor)).collect::<Result<_>>()?;
    let views = tensors.iter().map(|(name, shape, data)| {
        Ok((name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?)
}

#[test]
fn a_teacher_reads_rows_as_long_as_the_corpus_has_them() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let teacher = copy(&session, &session.train(&masks, "first", &[])?, "teacher")?;
    let distill = || {
        let mut command = session.command(&masks, "model");
        command.args(["--set", "objective.kd=1", "--teacher"]).arg(&teacher);
        command
    };
    shorten(&teacher, 4)?;
    expect_failure(&mut distill(), 3, "reads 4 tokens, but rows have up to 8")?;
    expect_failure(distill().arg("--dry-run"), 3, "reads 4 tokens")?;
    assert!(
        !session.fixture.path("model").exists(),
        "its shape is known before there is a folder to work in"
    );
    Ok(())
}

#[test]
fn models_know_tokens_by_the_numbers_of_the_corpus() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let other = copy(&session, &session.train(&masks, "first", &[])?, "other")?;
    let run = |flags: &[&str]| {
        let mut command = session.command(&masks, "model");
        command.args(flags).arg(&other);
        command
    };
    let (init, teacher) = (["--init"], ["--set", "objective.kd=1", "--teacher"]);
    let mut tokenizer = json(&other.join("tokenizer.json"))?;
    // The same tokens, written in another way.
    std::fs::write(other.join("tokenizer.json"), serde_json::to_string_pretty(&tokenizer)?)?;
    for flags in [&init[..], &teacher] {
        assert!(run(flags).arg("--dry-run").status()?.success(), "{flags:?}");
    }
    let vocabulary = tokenizer["model"]["vocab"].as_object().context("a map")?.clone();
    for (text, id) in [("[UNK]", 4), ("[MASK]", 1)] {
        let added = tokenizer["added_tokens"].as_array_mut().context("a list")?;
        added.iter_mut().filter(|token| token["content"] == text).for_each(|token| token["id"] = id.into());
    }
    let swapped = tokenizer.to_string();
    tokenizer["model"]["vocab"] = serde_json::json!({"another": 0});
    for odd in [swapped, tokenizer.to_string(), "[]".into()] {
        std::fs::write(other.join("tokenizer.json"), odd)?;
        for flags in [&init[..], &teacher] {
            expect_failure(&mut run(flags), 3, "its tokenizer is not that of")?;
        }
    }
    std::fs::remove_file(other.join("tokenizer.json"))?;
    let lines: Vec<&str> = vocabulary.keys().rev().map(String::as_str).collect();
    let shuffled = lines.join("\n");
    for (file, text, words) in [
        ("sentencepiece.bpe.model", "", "no tokenizer that is read"),
        ("vocab.txt", shuffled.as_str(), "its tokenizer is not that of"),
    ] {
        std::fs::write(other.join(file), text)?;
        for flags in [&init[..], &teacher] {
            expect_failure(&mut run(flags), 3, words)?;
        }
    }
    Ok(())
}

#[test]
fn rounds_keep_their_tokenizer() -> Result<()> {
    let session = Session::new()?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &[])?;
    // As if the corpus had another one of this size.
    let tokenizer = String::from_utf8(read(&first.join("tokenizer.json"))?)?;
    std::fs::write(first.join("tokenizer.json"), tokenizer.replace("\"w10\"", "\"x10\""))?;
    let mut second = session.command(&session.fixture.masks(1, 1)?, "second");
    expect_failure(second.arg("--continue-from").arg(&first), 3, "its tokenizer is not that of")?;
    Ok(())
}

#[test]
fn rounds_keep_their_optimizer() -> Result<()> {
    let session = Session::new()?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &["--set", "optimizer=muon"])?;
    let second = |optimizer: &str| {
        let mut command = session.command(&session.fixture.masks(1, 1)?, "second");
        command.arg("--continue-from").arg(&first).args(["--set", optimizer]);
        Ok::<_, anyhow::Error>(command)
    };
    expect_failure(&mut second("optimizer=adamw")?, 2, "was trained with muon")?;
    assert!(second("optimizer=muon")?.status()?.success());
    let running =
        ["--set", "optimizer=muon", "--set", "online={mode=\"running\",mask={policy={name=\"high\"}}}"];
    let mut command = session.command(&session.fixture.masks(1, 1)?, "third");
    expect_failure(command.arg("--continue-from").arg(&first).args(running), 2, "online.mode")?;
    Ok(())
}

/// Weights without their optimizer begin in the midst of the schedule if their masks do.
#[test]
fn weights_that_begin_late_are_warned_of() -> Result<()> {
    let session = Session::new()?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &[])?;
    let said = |masks: &Path, more: &[&str]| -> Result<String> {
        let output = session.command(masks, "second").arg("--init").arg(&first).args(more).output()?;
        anyhow::ensure!(output.status.success(), "{}", stderr(&output));
        Ok(stderr(&output))
    };
    let (later, anew) = (session.fixture.masks(1, 1)?, session.fixture.masks(0, 1)?);
    let late = said(&later, &[])?;
    assert!(late.contains("begins at step 24 of 96") && late.contains("first_epoch = 0"), "{late}");
    // With a budget of tokens it begins anew.
    for text in [said(&anew, &[])?, said(&later, &["--set", "budget={tokens=500}"])?] {
        assert!(!text.contains("schedule begins at"), "{text}");
    }
    Ok(())
}

#[test]
fn fractions_that_leave_no_steps_to_a_phase_are_refused() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    for (fraction, found) in
        [(0.99, "a first phase of 24 of 24 steps"), (0.01, "a first phase of 0 of 24 steps")]
    {
        let transfer = format!("mask_transfer={{mode='after-init',init_fraction={fraction}}}");
        let mut command = session.command(&masks, "model");
        command.arg("--init-masks").arg(&masks).args(["--set", "epochs=1", "--set", &transfer]);
        expect_failure(&mut command, 2, found)?;
    }
    Ok(())
}

/// A round is 24 steps.
#[test]
fn a_budget_that_ended_the_round_before_is_named() -> Result<()> {
    let session = Session::new()?;
    let first = session.train(&session.fixture.masks(0, 1)?, "first", &["--set", "budget={steps=20}"])?;
    let masks = session.fixture.masks(1, 1)?;
    for budget in ["budget={steps=20}", "budget={steps=48}"] {
        let mut second = session.command(&masks, "second");
        second.arg("--continue-from").arg(&first).args(["--set", budget]);
        expect_failure(&mut second, 2, "stopped at step 20, but the masks begin at step 24: its budget")?;
    }
    // One that ends with the round leaves nothing for another, unless that has more.
    let first = session.train(&session.fixture.masks(0, 1)?, "whole", &["--set", "budget={steps=24}"])?;
    let second = |budget| {
        let mut second = session.command(&masks, "second");
        second.arg("--continue-from").arg(&first).args(["--set", budget]);
        second
    };
    let other = second("budget={steps=48}").output()?;
    assert!(stderr(&other).contains("not the schedule of the round before (budget: "), "{}", stderr(&other));
    expect_failure(&mut second("budget={steps=24}"), 2, "which counts all rounds, was used up")?;
    assert!(other.status.success());
    Ok(())
}

#[test]
fn phases_have_something_to_learn() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let teacher = session.train(&masks, "teacher", &[])?;
    let alone = |objective: &str, mode: &str| {
        let mut command = session.command(&masks, "model");
        command.arg("--teacher").arg(&teacher).args(["--set", objective, "--set", mode]);
        command
    };
    let (begins, ends) = ("transfer.mode=after-init", "transfer.mode=anneal");
    expect_failure(&mut alone("objective={ce=0,kd=1}", begins), 2, "objective.ce = 0")?;
    expect_failure(&mut alone("objective={ce=0,cos=1}", ends), 2, "objective.ce + objective.kd = 0")?;
    assert!(alone("objective={ce=0,kd=1}", ends).arg("--dry-run").status()?.success());
    let path = masks.to_str().context("utf-8")?;
    for (option, words) in [
        ("mask_transfer.init_fraction=0.5", "mask_transfer.mode = \"complete\""),
        ("mask_transfer={mode='anneal',init_fraction=2}", "mask_transfer.init_fraction = 2"),
        ("mask_transfer={mode='anneal',init_fraction=0}", "mask_transfer.init_fraction = 0"),
        ("mask_transfer={mode='after-init',init_fraction=1.0}", "mask_transfer.init_fraction = 1"),
        ("mask_transfer={mode='after-init',init_tokens=0}", "mask_transfer.init_tokens = 0"),
    ] {
        let mut command = session.command(&masks, "model");
        expect_failure(command.args(["--init-masks", path, "--set", option]), 2, words)?;
    }
    let endless = "mask_transfer={mode='after-init',init_tokens=100000000}";
    let mut command = session.command(&masks, "model");
    let output = command.args(["--init-masks", path, "--set", "epochs=1", "--set", endless]).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("what should follow was never seen"), "{told}");
    Ok(())
}

/// What is computed with is f32.
#[test]
fn numbers_that_are_none_in_f32_are_refused() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    for (option, words) in [
        ("eps=1e-300", "eps = 0.000"),
        ("lr=1e300", "lr = 1000"),
        ("objective.temperature=1e-300", "objective.temperature = 0.000"),
    ] {
        expect_failure(session.command(&masks, "model").args(["--set", option]), 2, words)?;
    }
    Ok(())
}

#[test]
fn a_batch_larger_than_any_corpus_is_the_corpus() -> Result<()> {
    let session = Session::new()?;
    let model = session.train(
        &session.fixture.masks(0, 1)?,
        "model",
        &["--set", "epochs=1", "--set", "batch_size=9223372036854775807"],
    )?;
    assert_eq!(json(&model.join("manifest.json"))?["stats"]["steps"], 1);
    Ok(())
}

#[test]
fn help_names_what_flags_bring_along() -> Result<()> {
    let session = Session::new()?;
    let mut command = session.command(Path::new("masks"), "model");
    let help = String::from_utf8(command.arg("--help").output()?.stdout)?;
    for key in ["init.fresh_head", "transfer.mode", "mask_transfer.mode", "objective.hidden_layers"] {
        assert!(help.contains(key), "{key}: {help}");
    }
    Ok(())
}

/// The pass that chooses masks costs about a third of what learning from them does.
#[test]
fn choosing_masks_in_training_is_charged_for() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let flops = |out: &str, more: &[&str]| -> Result<f64> {
        let model = session.train(&masks, out, more)?;
        json(&model.join("manifest.json"))?["cost"]["flops"].as_f64().context("a number")
    };
    let masked = ["--set", "online.mask={policy={name=\"high\"},rate=0.3}", "--set"];
    let running = flops("running", &[&masked[..], &["online.mode=running"]].concat())?;
    let step = flops("step", &[&masked[..], &["online.mode=step"]].concat())?;
    assert!((1.2..1.5).contains(&(step / running)), "{step} {running}");
    Ok(())
}

#[test]
fn a_head_is_charged_for_where_it_is_asked() -> Result<()> {
    let session = Session::new()?;
    let masks = session.fixture.masks(0, 1)?;
    let teacher = session.train(&masks, "teacher", &[])?;
    let flops = |objective: &str| -> Result<f64> {
        let teacher = teacher.to_str().context("utf-8")?;
        let model = session.train(&masks, "model", &["--teacher", teacher, "--set", objective])?;
        json(&model.join("manifest.json"))?["cost"]["flops"].as_f64().context("a number")
    };
    let [near, near_all] = [flops("objective={cos=1}")?, flops("objective={cos=1,positions=\"all\"}")?];
    let [taught, taught_all] = [flops("objective={kd=1}")?, flops("objective={kd=1,positions=\"all\"}")?];
    // Everywhere the last layer is asked for more, and to distil the heads are, of student and teacher.
    assert!(near < taught && near < near_all && taught < taught_all);
    assert!(taught_all - near_all > 2.0 * (taught - near), "{near} {near_all} {taught} {taught_all}");
    Ok(())
}
