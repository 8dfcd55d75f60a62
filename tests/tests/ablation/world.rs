//! The micro grid, and what ran it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use entromask_artifact::Manifest;
use fs_err as fs;
use tempfile::TempDir;

/// A data folder of its own.
pub struct World {
    pub folder: TempDir,
}

impl World {
    /// Empty.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("data"))?;
        Ok(Self { folder })
    }

    /// Its path.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The binary, about to do something with a grid.
    pub fn command(&self, name: &str, grid: &str, flags: &[&str]) -> Command {
        self.command_of(Path::new("tests/pipelines"), name, grid, flags)
    }

    /// The same with other configurations.
    pub fn command_of(&self, pipelines: &Path, name: &str, grid: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("entromask-ablation"));
        command.current_dir(repository()).arg(name).arg(pipelines.join("grid").join(format!("{grid}.toml")));
        command
            .arg("--pipelines")
            .arg(pipelines)
            .arg("--data")
            .arg(self.data())
            .args(flags)
            .env_remove("RUST_LOG");
        command
    }

    /// Runs a grid.
    pub fn run(&self, grid: &str, flags: &[&str]) -> Result<Output> {
        Ok(self.command("run", grid, flags).output()?)
    }

    /// The manifests: folder below the data -> manifest, and when it was made.
    pub fn manifests(&self) -> Result<BTreeMap<String, (Manifest, SystemTime)>> {
        let mut found = BTreeMap::new();
        collect(&self.data(), &self.data(), &mut found)?;
        Ok(found)
    }

    /// A file of the reports.
    pub fn report(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(self.data().join("report").join(file))?)
    }
}

/// The micro grid, made once for all tests, and what was said.
pub fn micro() -> &'static (World, String, Duration) {
    static MICRO: OnceLock<(World, String, Duration)> = OnceLock::new();
    MICRO.get_or_init(|| {
        let world = World::new().expect("a folder");
        let started = Instant::now();
        let output = world.run("micro", &[]).expect("it starts");
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        (world, said, started.elapsed())
    })
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<String, (Manifest, SystemTime)>) -> Result<()> {
    let path = dir.join("manifest.json");
    if path.exists() {
        let name = dir.strip_prefix(root)?.display().to_string();
        found.insert(name, (Manifest::load_any(dir)?, fs::metadata(&path)?.modified()?));
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        }
    }
    Ok(())
}

/// Copies a folder and what lies in it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// What a run says.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").into()
}

/// The folder of the binaries that were built together with this test: `…/debug`, where the test is `…/debug/deps/x`.
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in <profile>/deps").to_path_buf();
    let program = folder.join("entromask-ablation");
    assert!(program.exists(), "{} is not built: run `cargo test --workspace`", program.display());
    folder
}
