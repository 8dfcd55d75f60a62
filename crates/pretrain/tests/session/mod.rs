//! A corpus, a student and a recipe, and the binary that trains on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::Fixture;

/// Shape of the student, whose dropout has to be drawn again exactly by whoever goes on.
pub const STUDENT: &str = "hidden_size = 8\nnum_hidden_layers = 2\nnum_attention_heads = 2\nintermediate_size = 16\n\
                       max_position_embeddings = 8\nhidden_dropout_prob = 0.1\n\
                       attention_probs_dropout_prob = 0.1\n";
const TRAIN: &str = "batch_size = 1\nepochs = 4\nvalidation.every = 10\n\
                     run.checkpoint_every = 7\nrun.log_every = 1\n";

/// What one test trains with.
pub struct Session {
    pub fixture: Fixture,
}

impl Session {
    /// A corpus, a student and a recipe.
    pub fn new() -> Result<Self> {
        let fixture = Fixture::new()?;
        fixture.file("student.toml", STUDENT)?;
        fixture.file("train.toml", TRAIN)?;
        Ok(Self { fixture })
    }

    /// The binary, about to train.
    pub fn command(&self, masks: &Path, out: &str) -> Command {
        let mut command = self.command_without_student(masks, out);
        command.arg("--student").arg(self.fixture.path("student.toml"));
        command
    }

    /// The binary, about to train something whose shape has to be said.
    pub fn command_without_student(&self, masks: &Path, out: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("entromask-pretrain"));
        command.current_dir(self.fixture.path(""));
        for (flag, path) in [
            ("--config", self.fixture.path("train.toml")),
            ("--tokens", self.fixture.tokens()),
            ("--masks", masks.into()),
            ("--out", self.fixture.path(out)),
        ] {
            command.arg(flag).arg(path);
        }
        command
    }

    /// Trains to the end.
    pub fn train(&self, masks: &Path, out: &str, more: &[&str]) -> Result<PathBuf> {
        let output = self.command(masks, out).args(more).output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(self.fixture.path(out))
    }

    /// Starts training and waits until `rows` rows of metrics are there.
    pub fn started(&self, masks: &Path, out: &str, rows: usize, more: &[&str]) -> Result<Child> {
        let mut command = self.command(masks, out);
        let mut child = command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.wait_for(&mut child, out, rows)?;
        Ok(child)
    }

    /// Waits until `rows` rows of metrics are there.
    pub fn wait_for(&self, child: &mut Child, out: &str, rows: usize) -> Result<()> {
        while self.logged(out) < rows {
            ensure!(child.try_wait()?.is_none(), "ended before {rows} rows");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Rows of metrics that are there.
    pub fn logged(&self, out: &str) -> usize {
        let Ok(states) = std::fs::read_dir(self.fixture.path(out).join("state")) else { return 0 };
        let logs = states.flatten().map(|state| state.path().join("metrics.jsonl"));
        logs.filter_map(|log| std::fs::read_to_string(log).ok()).map(|text| text.lines().count()).sum()
    }
}

/// Sends a signal to a run.
pub fn signal(child: &Child, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
    ensure!(sent.success(), "SIG{name} was not sent");
    Ok(())
}

/// Runs a command that has to fail with `code` and name `named`.
pub fn expect_failure(command: &mut Command, code: i32, named: &str) -> Result<()> {
    let output = command.output()?;
    let text = stderr(&output);
    ensure!(output.status.code() == Some(code), "expected {code}: {:?} {text}", output.status);
    ensure!(text.contains(named), "`{named}` is not in: {text}");
    ensure!(!text.contains("panicked"), "{text}");
    Ok(())
}

/// What a run says.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// A JSON file.
pub fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&read(path)?)?)
}

/// The rows of a model's metrics.
pub fn rows(model: &Path) -> Result<Vec<Value>> {
    let text = String::from_utf8(read(&model.join("metrics.jsonl"))?)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Names and bytes of the tensors in a file, whatever its metadata.
pub fn tensors(file: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let bytes = read(file)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let mut tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
    tensors.sort();
    Ok(tensors)
}

/// Whether two models are the same bits.
pub fn assert_same_content(one: &Path, other: &Path) -> Result<()> {
    for file in ["metrics.jsonl", "model.safetensors", "config.json"] {
        assert!(read(&one.join(file))? == read(&other.join(file))?, "{file} differs");
    }
    let content =
        |model: &Path| json(&model.join("manifest.json")).map(|manifest| manifest["content"].clone());
    assert_eq!(content(one)?, content(other)?);
    Ok(())
}
