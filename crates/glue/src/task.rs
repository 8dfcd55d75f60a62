//! What a task is: files, columns, labels, metrics. The table of GLUE's tasks is `tasks.toml`; others are read from files
//! of the same keys.

mod check;
mod column;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};

use crate::metric::Metric;
pub use column::Column;

/// A classification or regression task over single sentences or pairs of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name.
    pub name: String,
    /// Folder of its files, below that of all tasks or beside the file that defines the task; by default the name.
    #[serde(default, skip_serializing)]
    pub folder: Option<PathBuf>,
    /// File with the training rows.
    pub train: String,
    /// Splits to score.
    pub dev: Vec<DevSplit>,
    /// Unlabelled splits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<TestSplit>,
    /// Whether the first line of each labelled file names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Columns of the sentence or of the two sentences.
    pub text: Vec<Column>,
    /// Column of the label.
    pub label: Column,
    /// Labels in the order of the class numbers; empty for regression.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Least and largest target of a regression.
    #[serde(default)]
    pub range: Option<[f32; 2]>,
    /// What is measured, in the order of the report.
    pub metrics: Vec<Metric>,
    /// Whether rows with too few columns are expected, and skipped.
    #[serde(default)]
    pub short_rows: bool,
    /// Official number of rows of each file. Results say where it is another, so that it is part of a task of one's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, usize>,
    /// Why a file with more rows than `rows` says is refused; without it there is only a warning.
    #[serde(default, skip_serializing)]
    pub at_most: Option<String>,
    /// The folder that `folder` is below, where the task is not one of GLUE.
    #[serde(skip)]
    pub root: Option<PathBuf>,
}

/// One split to score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevSplit {
    /// Appended to the names of the metrics; empty if it is the only split.
    pub name: String,
    /// File.
    pub file: String,
}

/// One unlabelled split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSplit {
    /// File, with a header.
    pub file: String,
    /// File of predictions in a submission.
    pub out: String,
    /// Columns, where they are not the labelled files'.
    #[serde(default)]
    pub text: Option<Vec<Column>>,
}

impl Task {
    /// The GLUE task called `name`.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that lists the known names.
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        let known = || glue().iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = glue().iter().find(|task| task.name == name);
        Ok(found.ok_or_else(|| {
            Fault::usage(format!("task `{name}` is unknown")).remedy(format!("the tasks are {}", known()))
        })?)
    }

    /// The task that the TOML file `path` defines, with the keys of `tasks.toml`. Its data are beside the file.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if the file cannot be read, has unknown keys or contradicts itself.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let mut task: Self = entromask_cli::load_file(path)?;
        check::check(&task).map_err(|problem| {
            Fault::usage(format!("{}: {problem}", path.display())).remedy("data/README.md describes the keys")
        })?;
        task.root = Some(path.parent().unwrap_or(Path::new("")).into());
        Ok(task)
    }

    /// Those that the files define.
    ///
    /// # Errors
    /// As [`Task::from_file`].
    pub fn from_files(paths: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        paths.iter().map(|path| Self::from_file(path)).collect()
    }

    /// Whether the task is one of GLUE.
    pub fn is_glue(&self) -> bool {
        self.root.is_none()
    }

    /// Where the files are, `data` being the folder of GLUE.
    pub fn dir(&self, data: &Path) -> PathBuf {
        let folder = self.folder.clone().unwrap_or_else(|| self.name.clone().into());
        self.root.as_deref().unwrap_or(data).join(folder)
    }

    /// Where its file `file` is. `..` leads to the folder beside its own, wherever a link in that one's place leads.
    pub fn path(&self, data: &Path, file: &str) -> PathBuf {
        let mut path = self.dir(data);
        for part in Path::new(file).components() {
            match part {
                Component::ParentDir if path.file_name().is_some() => _ = path.pop(),
                part => path.push(part),
            }
        }
        path
    }

    /// Where all its files are, those of the unlabelled splits included.
    pub fn paths(&self, data: &Path) -> impl Iterator<Item = PathBuf> {
        let test = self.test.iter().map(|split| split.file.as_str());
        self.files().chain(test).map(|file| self.path(data, file))
    }

    /// Whether the target is a number.
    pub fn is_regression(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether a row is two sentences.
    pub fn is_pair(&self) -> bool {
        self.text.len() > 1
    }

    /// Outputs of the classification head: one per label, or one for a regression.
    pub fn outputs(&self) -> usize {
        self.labels.len().max(1)
    }

    /// The training file and the splits to score, in this order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.train.as_str()).chain(self.dev.iter().map(|split| split.file.as_str()))
    }
}

/// The nine tasks of GLUE.
pub fn glue() -> &'static [Task] {
    static TASKS: LazyLock<Vec<Task>> = LazyLock::new(|| {
        let table: Table =
            toml::from_str(include_str!("tasks.toml")).expect("the table is part of the program");
        table.task
    });
    &TASKS
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    task: Vec<Task>,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    #[test]
    fn the_table_is_glue() {
        let names: Vec<_> = glue().iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]);
    }

    #[test]
    fn every_task_is_consistent_and_knows_the_rows_of_its_files() {
        for task in glue() {
            assert_eq!(check::check(task), Ok(()), "{}", task.name);
            let known: Vec<_> = task.rows.keys().map(String::as_str).collect();
            let mut files: Vec<_> =
                task.files().chain(task.test.iter().map(|test| test.file.as_str())).collect();
            files.sort_unstable();
            assert_eq!(known, files, "{}", task.name);
        }
    }

    #[test]
    fn official_numbers_of_rows_are_in_the_key_where_there_are_any() -> anyhow::Result<()> {
        let mut task = Task { rows: BTreeMap::new(), ..Task::named("RTE")?.clone() };
        assert!(!serde_json::to_string(&task)?.contains("rows\":{"), "tasks without any keep their keys");
        task.rows.insert("dev.tsv".into(), 277);
        assert!(serde_json::to_string(&task)?.contains("\"rows\":{\"dev.tsv\":277}"));
        Ok(())
    }

    /// A task's folder may be a link to another disk.
    #[test]
    fn the_diagnostic_set_is_beside_the_folder_of_mnli_as_it_is_named() -> anyhow::Result<()> {
        let path = |file| Ok::<_, anyhow::Error>(Task::named("MNLI")?.path(Path::new("data"), file));
        assert_eq!(path("../diagnostic/diagnostic.tsv")?, Path::new("data/diagnostic/diagnostic.tsv"));
        assert_eq!(path("train.tsv")?, Path::new("data/MNLI/train.tsv"));
        Ok(())
    }

    #[test]
    fn an_unknown_task_lists_the_known_ones() {
        let error = Task::named("QNLI2").unwrap_err();
        assert_eq!(class_of(error.as_ref()).exit_code(), 2);
        assert!(error.to_string().contains("QNLI2") && error.to_string().contains("STS-B"), "{error}");
    }

    #[test]
    fn a_file_defines_a_task_whose_data_are_beside_it() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("mood.toml");
        let text = "name = \"mood\"\ntrain = \"a.tsv\"\ndev = [{ file = \"b.tsv\" }]\ntext = [\"text\"]\n\
                    label = \"mood\"\nlabels = [\"sad\", \"glad\", \"mad\"]\nmetrics = [\"accuracy\", \"matthews\"]\n";
        std::fs::write(&path, text)?;
        let task = Task::from_file(&path)?;
        assert_eq!((task.outputs(), task.is_glue()), (3, false));
        assert_eq!(task.dir(Path::new("elsewhere")), folder.path().join("mood"));
        std::fs::write(&path, format!("{text}folder = \".\"\n"))?;
        assert_eq!(Task::from_file(&path)?.dir(Path::new("elsewhere")), folder.path().join("."));
        for (wrong, named) in
            [("label = 1", "label"), ("ranges = 3", "ranges"), ("range = [0.0, 1.0]", "range")]
        {
            std::fs::write(&path, format!("{text}{wrong}\n"))?;
            let error = Task::from_file(&path).expect_err(wrong);
            assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
        Ok(())
    }
}
