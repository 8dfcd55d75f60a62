//! Whether the GLUE server would take a submission.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use zip::ZipArchive;

use super::{Report, table};
use crate::task::{Task, TestSplit, glue};

/// Checks names, headers, indices, predictions and row counts of a submission.
///
/// # Errors
/// A [`Fault`] of class input that names the first mistake.
pub fn validate(zip: &Path) -> anyhow::Result<Report> {
    let refused = |problem: String| {
        Fault::input(format!("{}: {problem}", zip.display()))
            .remedy("`entromask-glue submit` writes what the GLUE server takes")
    };
    let file = fs::File::open(zip)
        .map_err(|error| Fault::input(unreadable(zip, &error)).remedy("check the path"))?;
    let mut archive = ZipArchive::new(file).map_err(|error| refused(format!("no zip file: {error}")))?;
    names(&archive).map_err(refused)?;
    let mut files = Vec::new();
    for (task, test) in splits() {
        let mut text = String::new();
        archive
            .by_name(&test.out)?
            .read_to_string(&mut text)
            .map_err(|error| refused(format!("{}: {error}", test.out)))?;
        let rows =
            table::check(task, &text).map_err(|problem| refused(format!("{}: {problem}", test.out)))?;
        let official = task.rows[&test.file];
        if rows != official {
            return Err(refused(format!("{}: {rows} rows, the test split has {official}", test.out)).into());
        }
        files.push((test.out.clone(), rows));
    }
    Ok(Report { zip: zip.into(), files, truncated: Vec::new() })
}

/// A test split that is not the official one makes a submission that is refused.
///
/// # Errors
/// A [`Fault`] of class input.
pub(super) fn rows(path: &Path, task: &Task, test: &TestSplit, found: usize) -> anyhow::Result<()> {
    let official = task.rows[&test.file];
    if official == found {
        return Ok(());
    }
    Err(Fault::input(format!("{}: {found} rows, the official test split has {official}", path.display()))
        .remedy("the GLUE server takes whole splits only: take the official file")
        .into())
}

/// Exactly the eleven files, and no folders.
fn names<R: Read + std::io::Seek>(archive: &ZipArchive<R>) -> Result<(), String> {
    let found = archive.file_names().collect::<Result<BTreeSet<_>, _>>();
    let found = found.map_err(|error| format!("a name that is none: {error}"))?;
    let wanted: BTreeSet<_> = splits().map(|(_, test)| Cow::Borrowed(test.out.as_str())).collect();
    match (wanted.difference(&found).next(), found.difference(&wanted).next()) {
        (Some(missing), _) => Err(format!("{missing} is missing")),
        (_, Some(more)) => Err(format!("{more} is no file of a submission; the zip must be flat")),
        _ => Ok(()),
    }
}

fn splits() -> impl Iterator<Item = (&'static Task, &'static TestSplit)> {
    glue().iter().flat_map(|task| task.test.iter().map(move |test| (task, test)))
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::super::pack;
    use super::*;

    /// A submission that says the first class, or 2.5, everywhere.
    fn constant() -> Vec<(String, String)> {
        splits()
            .map(|(task, test)| {
                let value = if task.is_regression() { 2.5 } else { 0.0 };
                (test.out.clone(), table::write(task, &vec![value; task.rows[&test.file]]))
            })
            .collect()
    }

    fn outcome(files: &[(String, String)]) -> anyhow::Result<Report> {
        let folder = tempfile::tempdir()?;
        let zip = folder.path().join("submission.zip");
        fs::write(&zip, pack(files.iter().map(|(name, text)| (&**name, &**text)))?)?;
        validate(&zip)
    }

    #[test]
    fn eleven_whole_files_are_taken() -> anyhow::Result<()> {
        let report = outcome(&constant())?;
        let names: Vec<_> = report.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "CoLA.tsv",
                "SST-2.tsv",
                "MRPC.tsv",
                "STS-B.tsv",
                "QQP.tsv",
                "MNLI-m.tsv",
                "MNLI-mm.tsv",
                "AX.tsv",
                "QNLI.tsv",
                "RTE.tsv",
                "WNLI.tsv"
            ]
        );
        assert_eq!(report.files.iter().map(|(_, rows)| rows).sum::<usize>(), 426_309);
        Ok(())
    }

    #[test]
    fn wrong_submissions_are_refused() -> anyhow::Result<()> {
        let refused = |named: &str, change: fn(&mut Vec<(String, String)>)| {
            let mut files = constant();
            change(&mut files);
            let error = outcome(&files).expect_err(named);
            assert_eq!(class_of(error.as_ref()).exit_code(), 3);
            assert!(error.to_string().contains(named), "{error}");
        };
        refused("CoLA.tsv is missing", |files| drop(files.remove(0)));
        refused("notes.txt is no file", |files| files.push(("notes.txt".into(), String::new())));
        refused("CoLA.tsv is missing", |files| files[0].0 = "glue/CoLA.tsv".into());
        refused("CoLA.tsv: 1064 rows, the test split has 1063", |files| files[0].1.push_str("1063\t0\n"));
        refused("AX.tsv: line 2 predicts `maybe`", |files| {
            files[7].1 = "index\tprediction\n0\tmaybe\n".into();
        });
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("a.zip");
        std::fs::write(&file, "no zip")?;
        assert!(validate(&file).expect_err("refused").to_string().contains("no zip file"));
        assert!(validate(&folder.path().join("b.zip")).expect_err("refused").to_string().contains("b.zip"));
        Ok(())
    }
}
