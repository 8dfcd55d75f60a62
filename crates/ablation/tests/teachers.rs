//! Names of teachers in paths.

use std::path::{Path, PathBuf};

use entromask_ablation::grid::Grid;
use entromask_ablation::plan::{Plan, Program};
use fs_err as fs;
use tempfile::TempDir;

/// The configurations of the project, and a teacher of this name whose file says `text`.
fn with_teacher(name: &str, text: &str) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for kind in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines"))? {
        let kind = kind?;
        if kind.file_name() != "teacher" {
            std::os::unix::fs::symlink(kind.path(), folder.path().join(kind.file_name()))?;
        }
    }
    fs::create_dir(folder.path().join("teacher"))?;
    fs::write(folder.path().join("teacher").join(format!("{name}.toml")), text)?;
    Ok(folder)
}

/// Where the entropies of a teacher are.
fn scores(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let folder = with_teacher(name, text)?;
    let path = folder.path().join("test.toml");
    let axes = format!("strategy = \"high\"\nsource = \"teacher\"\nteacher = {name:?}");
    fs::write(&path, format!("title = \"t\"\n[axes]\n{axes}\n"))?;
    let plan = Plan::new(&Grid::load(&path, folder.path())?, Path::new("data"), folder.path())?;
    let score = plan.stages.into_iter().find(|stage| stage.program == Program::Score);
    Ok(score.expect("a teacher is asked").out)
}

/// `make plan GOAL=pretrain-teacher-mask TEACHER=…` says the same, so that what one has scored serves the other.
#[test]
fn a_teacher_with_a_file_is_called_as_in_the_makefile() -> anyhow::Result<()> {
    let folder = "path = \"/models/bert-base-uncased\"\n";
    assert_eq!(scores("external", folder)?, Path::new("data/entropy/sample/external/kfold"));
    assert_eq!(scores("lr=1e-3", folder)?, Path::new("data/entropy/sample/lr-1e-3/kfold"));
    let own = "student = \"modernbert-mini\"\nepochs = 2\n";
    assert_eq!(scores("lr=1e-3", own)?, Path::new("data/entropy/sample/lr-1e-3-mlm-e2/kfold"));
    Ok(())
}
