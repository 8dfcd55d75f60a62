//! `validate`: any model on the rows and the mask that runs validate on.

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
mod session;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use session::{Session, expect_failure, json, rows, stderr};

fn validate(session: &Session, model: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entromask-pretrain"));
    command.arg("validate").arg("--model").arg(model).arg("--tokens").arg(session.fixture.tokens());
    command
}

#[test]
fn a_model_scores_what_its_run_said_at_the_end() -> Result<()> {
    let session = Session::new()?;
    let model = session.train(&session.fixture.masks(0, 1)?, "model", &["--set", "lr=1e-2"])?;
    let output = validate(&session, &model).arg("--json").output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let last = rows(&model)?.into_iter().rfind(|row| row.get("valid_loss").is_some()).context("validated")?;
    for (ours, logged) in
        [("loss", "valid_loss"), ("accuracy", "valid_accuracy"), ("perplexity", "valid_perplexity")]
    {
        let [ours, logged] = [&found[ours], &last[logged]].map(|value| value.as_f64().unwrap_or(f64::NAN));
        assert!((ours - logged).abs() <= 1e-6 * logged, "{ours} is not {logged}");
    }
    assert_eq!((found["rows"].as_u64(), found["positions"].as_u64()), (Some(6), Some(6)));
    let text = validate(&session, &model).args(["--rows", "2"]).output()?;
    assert!(String::from_utf8(text.stdout)?.contains("2 tokens of 2 held-out rows"));
    Ok(())
}

#[test]
fn a_model_that_cannot_read_the_rows_is_refused() -> Result<()> {
    let session = Session::new()?;
    let model = session.train(&session.fixture.masks(0, 1)?, "model", &[])?;
    expect_failure(validate(&session, &model).args(["--set", "lr=1"]), 2, "validate has no use for --set")?;
    expect_failure(&mut validate(&session, &session.fixture.path("nowhere")), 3, "config.json")?;
    let mut tokenizer = json(&model.join("tokenizer.json"))?;
    tokenizer["model"]["vocab"] = serde_json::json!({"another": 0});
    let other = session.fixture.path("other");
    std::fs::create_dir_all(&other)?;
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(model.join(file), other.join(file))?;
    }
    std::fs::write(other.join("tokenizer.json"), tokenizer.to_string())?;
    expect_failure(&mut validate(&session, &other), 3, "its tokenizer is not that of")
}
