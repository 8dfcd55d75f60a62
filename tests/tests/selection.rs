//! The report that `entromask-select` leaves in its manifest is the one that `entromask-report inspect` shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/format-1").join(name)
}

/// The folder of the binaries that were built together with this test: `…/debug`, where the test is `…/debug/deps/x`.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in <profile>/deps").to_path_buf();
    let binary = folder.join(name);
    assert!(binary.exists(), "{} is not built: run `cargo test --workspace`", binary.display());
    binary
}

fn stdout(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[test]
fn what_select_reports_is_what_inspect_shows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut select = Command::new(binary("entromask-select"));
    select.arg("--tokens").arg(golden("tokens")).arg("--entropy").arg(golden("entropy"));
    select
        .args(["-q", "--json", "--set", "policy.name=high", "--set", "epochs=2", "--out"])
        .arg(folder.path());
    let made: Value = serde_json::from_slice(&stdout(&mut select)?)?;
    let report = || Command::new(binary("entromask-report"));
    let shown = stdout(report().args(["inspect", "--json"]).arg(folder.path()))?;
    let shown: Value = serde_json::from_slice(&shown)?;
    let (made, shown) = (&made["stats"]["report"], &shown["view"]["masks"]["selection"]);
    for key in ["budget", "epochs", "means", "overlap", "clustering", "classes", "tokens"] {
        ensure!(!made[key].is_null() && made[key] == shown[key], "{key}: {} and {}", made[key], shown[key]);
    }
    let text = String::from_utf8(stdout(report().arg("inspect").arg(folder.path()))?)?;
    ensure!(text.contains("beside random masks") && text.contains("the masks hardly change"), "{text}");
    Ok(())
}
