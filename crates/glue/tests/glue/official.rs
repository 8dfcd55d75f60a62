//! The real data, where they are: `GLUE_DIR` names a folder in the official layout. Without it these tests say so and
//! pass.

use std::path::PathBuf;

use entromask_glue::{Task, best_constant, glue, read, read_test};

fn data() -> Option<PathBuf> {
    let found = std::env::var_os("GLUE_DIR").map(PathBuf::from);
    if found.is_none() {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: GLUE_DIR is not set\n");
    }
    found
}

/// The most that one answer to all rows gets by the mean of the metrics, averaged over the splits, in percent.
fn floor(data: &std::path::Path, task: &Task) -> anyhow::Result<f64> {
    let mut found = Vec::new();
    for split in &task.dev {
        let labels = read(data, task, &split.file)?.labels();
        found.push(if task.is_regression() { 0.0 } else { 100.0 * best_constant(&task.metrics, &labels) });
    }
    Ok(found.iter().sum::<f64>() / found.len() as f64)
}

/// QQP's floor is that of the whole split; of a subset it is the subset's.
#[test]
fn constant_classifiers_get_the_known_floors() -> anyhow::Result<()> {
    let Some(data) = data() else { return Ok(()) };
    let known = [
        ("CoLA", 0.0),
        ("SST-2", 50.9),
        ("MRPC", 74.8),
        ("STS-B", 0.0),
        ("QQP", 45.3),
        ("MNLI", 35.3),
        ("QNLI", 50.5),
        ("RTE", 52.7),
        ("WNLI", 56.3),
    ];
    for (name, expected) in known {
        let task = Task::named(name)?;
        if !task.dir(&data).is_dir() {
            continue;
        }
        let found = floor(&data, task)?;
        let whole = task
            .dev
            .iter()
            .all(|split| read(&data, task, &split.file).is_ok_and(|split| split.official.is_none()));
        assert!((found - expected).abs() < 0.06 || !whole, "{name}: {found}, expected {expected}");
    }
    Ok(())
}

#[test]
fn every_file_of_the_official_layout_is_read() -> anyhow::Result<()> {
    let Some(data) = data() else { return Ok(()) };
    for task in glue().iter().filter(|task| task.dir(&data).is_dir()) {
        for file in task.files() {
            let split = read(&data, task, file)?;
            assert!(split.examples.iter().all(|example| !example.first.is_empty()), "{} {file}", task.name);
            assert!(split.official.is_none_or(|official| split.examples.len() < official));
        }
        for test in task.test.iter().filter(|test| task.dir(&data).join(&test.file).is_file()) {
            let split = read_test(&data, task, test)?;
            assert_eq!(split.examples.len(), task.rows[&test.file], "{} {}", task.name, test.file);
            assert!(split.examples.iter().all(|example| example.second.is_some() == task.is_pair()));
        }
    }
    Ok(())
}
