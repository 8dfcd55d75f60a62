//! What there is of GLUE in a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use entromask_fault::Fault;
use serde::Serialize;

use super::{Split, read, read_test};
use crate::task::{Task, glue};

const REMEDY: &str = "`make glue-data` fetches the official files";

/// Every file of GLUE with what was found in its place.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// Folder in the official layout.
    pub data: PathBuf,
    /// The files.
    pub files: Vec<Found>,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Task.
    pub task: String,
    /// Name in the task's folder.
    pub file: String,
    /// Rows that can be used, and those that are too short, unless the file cannot be read.
    pub rows: Option<[usize; 2]>,
    /// Official number of rows.
    pub official: usize,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl Survey {
    /// Reads every file of GLUE in `data`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is no such folder.
    pub fn new(data: &Path) -> anyhow::Result<Self> {
        if !data.is_dir() {
            return Err(Fault::input(format!("{}: no such folder", data.display())).remedy(REMEDY).into());
        }
        let files = glue().iter().flat_map(|task| found(data, task)).collect();
        Ok(Self { data: data.into(), files })
    }

    /// # Errors
    /// A [`Fault`] of class input if files are missing or cannot be read.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.files.iter().filter(|found| found.problem.is_some()).count() {
            0 => Ok(()),
            n => Err(Fault::input(format!("{}: {n} files of GLUE cannot be read", self.data.display()))
                .remedy(REMEDY)
                .into()),
        }
    }
}

fn found<'a>(data: &'a Path, task: &'a Task) -> impl Iterator<Item = Found> + 'a {
    let one = |file: &str, split: anyhow::Result<Split>| {
        let (rows, problem) = match split {
            Ok(split) => (Some([split.examples.len(), split.skipped]), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Found { task: task.name.clone(), file: file.into(), rows, official: task.rows[file], problem }
    };
    let labelled = task.files().map(move |file| one(file, read(data, task, file)));
    labelled.chain(task.test.iter().map(move |test| one(&test.file, read_test(data, task, test))))
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["task", "file", "rows", "official", "short", ""]);
        for found in &self.files {
            let [rows, short] =
                found.rows.map_or(["–".into(), String::new()], |rows| rows.map(|n| n.to_string()));
            let note = match (&found.problem, found.rows) {
                (Some(_), _) => "see below",
                (None, Some([rows, _])) if rows != found.official => "not the official split",
                _ => "",
            };
            let cells =
                [&found.task, &found.file, &rows, &found.official.to_string(), &short, &note.to_string()];
            table.add_row(cells.map(String::as_str));
        }
        for column in table.column_iter_mut().skip(2).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")?;
        self.files
            .iter()
            .filter_map(|found| found.problem.as_ref())
            .try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_counted_and_what_is_missing_is_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("WNLI"))?;
        std::fs::write(
            folder.path().join("WNLI/dev.tsv"),
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n",
        )?;
        let survey = Survey::new(folder.path()).expect("a folder");
        assert_eq!(
            (survey.files.len(), survey.files.iter().filter(|found| found.rows.is_some()).count()),
            (30, 1)
        );
        let text = survey.to_string();
        assert!(
            text.contains("not the official split") && text.contains("diagnostic.tsv: no such file"),
            "{text}"
        );
        assert!(survey.check().expect_err("29 are missing").to_string().contains("29 files"));
        Ok(())
    }
}
