//! Reads the tab-separated files of GLUE as they are.
//!
//! UTF-8, one row a line, no quoting: `"` is data. A byte-order mark before the header is dropped, and so are spaces
//! around texts and labels and blank lines at the end. Rows of the wrong width are errors, since their columns may have shifted; in files that are
//! known for short rows, these are skipped and counted. The number of rows is compared with the official one.

mod official;
mod survey;

use std::path::{Path, PathBuf};

use entromask_fault::{Fault, unreadable};
use fs_err as fs;

use crate::task::{Column, Task, TestSplit};
pub use survey::{Found, Survey};

/// One row of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The sentence, or the first one of a pair.
    pub first: String,
    /// The second sentence of a pair.
    pub second: Option<String>,
    /// Number of the class, or target of a regression; 0 in an unlabelled split.
    pub label: f32,
}

/// The rows of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Rows in the order of the file.
    pub examples: Vec<Example>,
    /// Rows that were too short and were left out.
    pub skipped: usize,
    /// Official number of rows, where it is another.
    pub official: Option<usize>,
    /// Rows that these were sampled from.
    pub sampled_from: Option<usize>,
}

impl Split {
    /// The labels, row by row.
    pub fn labels(&self) -> Vec<f32> {
        self.examples.iter().map(|example| example.label).collect()
    }
}

/// The paths of a task's files, training rows first; `data` is the folder of GLUE.
///
/// # Errors
/// A [`Fault`] of class input if the task's folder or one of the files is not there.
pub fn files(data: &Path, task: &Task) -> anyhow::Result<Vec<PathBuf>> {
    let folder = task.dir(data);
    if !folder.is_dir() {
        let remedy = if task.is_glue() {
            format!(
                "set `data` to a folder in GLUE's official layout (`make glue-data` fetches the official files), or leave {} out of \
                 `tasks`",
                task.name
            )
        } else {
            "put the task's files there, or name their folder by `folder` in the task's file".into()
        };
        return Err(Fault::input(format!("{}: no such folder", folder.display())).remedy(remedy).into());
    }
    let files: Vec<_> = task.files().map(|file| task.path(data, file)).collect();
    match files.iter().find(|file| !file.is_file()) {
        Some(file) => Err(missing(file, task).into()),
        None => Ok(files),
    }
}

/// Reads a labelled file of a task, of which `file` is the name in the task's definition.
///
/// # Errors
/// A [`Fault`] of class input that names file, line and value if a column is missing, a row has the wrong width, a
/// label is none of the task's, there are no rows, or so many that it is another version of the task.
pub fn read(data: &Path, task: &Task, file: &str) -> anyhow::Result<Split> {
    let path = task.path(data, file);
    let columns = Columns { task, header: task.header, text: &task.text, label: Some(&task.label) };
    let split = read_columns(&path, columns)?;
    official::check(&path, task, file, split)
}

/// Reads an unlabelled file of a task.
///
/// # Errors
/// As [`read`].
pub fn read_test(data: &Path, task: &Task, test: &TestSplit) -> anyhow::Result<Split> {
    let path = task.path(data, &test.file);
    let columns = test.text.as_deref().unwrap_or(&task.text);
    let split = read_columns(&path, Columns { task, header: true, text: columns, label: None })?;
    official::check(&path, task, &test.file, split)
}

fn missing(file: &Path, task: &Task) -> Fault {
    Fault::input(format!("{}: no such file", file.display())).remedy(whole_folder(task))
}

/// Where the files of a task are from.
fn whole_folder(task: &Task) -> &'static str {
    if task.is_glue() {
        "take the task's folder from GLUE's official download as it is"
    } else {
        "check `train` and `dev` in the task's file"
    }
}

fn read_columns(path: &Path, columns: Columns) -> anyhow::Result<Split> {
    let bytes = fs::read(path)
        .map_err(|error| Fault::input(unreadable(path, &error)).remedy(whole_folder(columns.task)))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| not_utf8(path, &bytes, error.valid_up_to()))?;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let first = if columns.header { lines.next() } else { lines.clone().next() };
    let header: Vec<_> = first.map(|(_, line)| line.split('\t').map(str::trim).collect()).unwrap_or_default();
    let layout = Layout::new(path, &columns, &header)?;
    let mut split = Split::default();
    for (index, line) in without_blank_end(lines, layout.width) {
        match layout.example(index + 1, line)? {
            Some(example) => split.examples.push(example),
            None => split.skipped += 1,
        }
    }
    if split.examples.is_empty() {
        let remedy = if columns.task.is_glue() {
            "take the file from GLUE's official download again"
        } else {
            "it must have rows below its header"
        };
        return Err(Fault::input(format!("{}: no rows", path.display())).remedy(remedy).into());
    }
    Ok(split)
}

/// The numbered lines but the blank ones at the end, which are rows only where a row is one column.
fn without_blank_end<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
    width: usize,
) -> Vec<(usize, &'a str)> {
    let mut lines: Vec<_> = lines.collect();
    while width > 1 && lines.last().is_some_and(|(_, line)| line.trim_matches(' ').is_empty()) {
        lines.pop();
    }
    lines
}

/// What is read of a file.
#[derive(Clone, Copy)]
struct Columns<'a> {
    task: &'a Task,
    header: bool,
    text: &'a [Column],
    label: Option<&'a Column>,
}

/// Where the columns of one file are.
struct Layout<'a> {
    path: &'a Path,
    task: &'a Task,
    width: usize,
    text: Vec<usize>,
    label: Option<usize>,
}

impl<'a> Layout<'a> {
    fn new(path: &'a Path, columns: &Columns<'a>, header: &[&str]) -> anyhow::Result<Self> {
        let find = |column: &Column| find(path, columns.task, header, column);
        let text = columns.text.iter().map(find).collect::<anyhow::Result<_>>()?;
        let label = columns.label.map(find).transpose()?;
        Ok(Self { path, task: columns.task, width: header.len(), text, label })
    }

    /// `None` for a short row where short rows are expected.
    fn example(&self, line_number: usize, line: &str) -> anyhow::Result<Option<Example>> {
        let fields: Vec<_> = line.split('\t').map(str::trim).collect();
        if fields.len() < self.width && self.task.short_rows {
            return Ok(None);
        }
        if fields.len() != self.width {
            return Err(self.wrong_width(line_number, fields.len()).into());
        }
        let mut texts = self.text.iter().map(|&column| fields[column].to_string());
        let first = texts.next().unwrap_or_default();
        Ok(Some(Example {
            first,
            second: texts.next(),
            label: self.label.map_or(Ok(0.0), |column| self.parse_label(line_number, fields[column]))?,
        }))
    }

    fn parse_label(&self, line_number: usize, value: &str) -> anyhow::Result<f32> {
        let found = match self.task.range {
            Some([least, largest]) => value.parse().ok().filter(|target| (least..=largest).contains(target)),
            None => self.task.labels.iter().position(|label| label == value).map(|class| class as f32),
        };
        Ok(found.ok_or_else(|| self.wrong_label(line_number, value))?)
    }

    fn wrong_width(&self, line_number: usize, found: usize) -> Fault {
        let (path, width) = (self.path.display(), self.width);
        Fault::input(format!("{path}:{line_number}: {found} columns, the first line has {width}"))
            .remedy("the columns are separated by tabs, without quoting; mend the line or remove it")
    }

    fn wrong_label(&self, line_number: usize, value: &str) -> Fault {
        let expected = match self.task.range {
            Some([least, largest]) => format!("a number from {least} to {largest}"),
            None => format!("one of `{}`", self.task.labels.join("`, `")),
        };
        Fault::input(format!("{}:{line_number}: the label is `{value}`", self.path.display()))
            .remedy(format!("{} expects {expected} in column {}", self.task.name, self.task.label))
    }
}

fn find(path: &Path, task: &Task, header: &[&str], column: &Column) -> anyhow::Result<usize> {
    let place = match column {
        Column::Name(name) => only(path, task, header, name)?,
        Column::Index(index) => Some(*index).filter(|&index| index < header.len()),
    };
    let missing = || {
        Fault::input(format!(
            "{}:1: no column {column}, found {} columns: {}",
            path.display(),
            header.len(),
            header.join(" | ")
        ))
        .remedy(if task.is_glue() {
            "the file must have the columns of GLUE's official download, separated by tabs"
        } else {
            "the file must have the columns that `text` and `label` in the task's file name, separated by tabs"
        })
    };
    Ok(place.ok_or_else(missing)?)
}

/// The place of the one column that is called `name`, if there is one.
fn only(path: &Path, task: &Task, header: &[&str], name: &str) -> anyhow::Result<Option<usize>> {
    let mut places = header.iter().enumerate().filter(|(_, found)| **found == name).map(|(place, _)| place);
    let first = places.next();
    let Some((one, other)) = first.zip(places.next()) else { return Ok(first) };
    let found = format!(
        "{}:1: columns number {} and {} are both called `{name}`",
        path.display(),
        one + 1,
        other + 1
    );
    let remedy = if task.is_glue() {
        "the file must have the columns of GLUE's official download".into()
    } else {
        format!("rename one of them, or write {one} or {other} instead of the name in the task's file")
    };
    Err(Fault::input(found).remedy(remedy).into())
}

fn not_utf8(path: &Path, bytes: &[u8], valid: usize) -> Fault {
    let line = bytes[..valid].split(|&byte| byte == b'\n').count();
    Fault::input(format!("{}:{line}: byte 0x{:02x} is not UTF-8", path.display(), bytes[valid]))
        .remedy("convert the file to UTF-8")
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    fn read_as(task: &str, text: &[u8]) -> anyhow::Result<Split> {
        let task = Task::named(task)?;
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(task.dir(folder.path()))?;
        std::fs::write(task.dir(folder.path()).join(&task.train), text)?;
        read(folder.path(), task, &task.train)
    }

    fn pair(first: &str, second: &str, label: f32) -> Example {
        Example { first: first.into(), second: Some(second.into()), label }
    }

    /// The error's text without the random file name; asserts that it is an input error.
    fn complaint(task: &str, text: &[u8]) -> String {
        let error = read_as(task, text).expect_err("must be refused");
        assert_eq!(class_of(error.as_ref()).exit_code(), 3);
        error.to_string()
    }

    #[test]
    fn cola_has_no_header_and_quotes_are_data() -> anyhow::Result<()> {
        let split = read_as("CoLA", b"gj04\t1\t\t\"Go, he said.\ngj04\t0\t*\tHim go \"to.\n")?;
        let texts: Vec<_> =
            split.examples.iter().map(|e| (e.first.as_str(), e.second.is_none(), e.label)).collect();
        assert_eq!(texts, [("\"Go, he said.", true, 1.0), ("Him go \"to.", true, 0.0)]);
        Ok(())
    }

    #[test]
    fn sst2_sentences_lose_their_last_space() -> anyhow::Result<()> {
        let split = read_as("SST-2", b"sentence\tlabel\nhide it \t0\n")?;
        assert_eq!(split.examples[0].first, "hide it");
        Ok(())
    }

    #[test]
    fn mrpc_has_a_byte_order_mark() -> anyhow::Result<()> {
        let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
        let split = read_as("MRPC", format!("{header}1\t7\t8\tOne .\t\" Two .\n").as_bytes())?;
        assert_eq!(split.examples, [pair("One .", "\" Two .", 1.0)]);
        Ok(())
    }

    #[test]
    fn stsb_targets_are_numbers_in_their_range() -> anyhow::Result<()> {
        let rows = |score: &str| format!("index\tsentence1\tsentence2\tscore\n0\ta\tb\t{score}\n");
        assert_eq!(read_as("STS-B", rows("3.800").as_bytes())?.examples, [pair("a", "b", 3.8)]);
        for score in ["5.5", "nan", "", "good"] {
            assert!(complaint("STS-B", rows(score).as_bytes()).contains("a number from 0 to 5"));
        }
        Ok(())
    }

    #[test]
    fn mnli_columns_go_by_name() -> anyhow::Result<()> {
        let train =
            read_as("MNLI", b"sentence1\tsentence2\tlabel1\tgold_label\na\tb\tneutral\tentailment\n")?;
        let dev = read_as("MNLI", b"gold_label\tsentence2\tsentence1\nentailment\tb\ta\n")?;
        assert_eq!(train, dev);
        assert_eq!(dev.examples, [pair("a", "b", 1.0)]);
        Ok(())
    }

    #[test]
    fn short_rows_are_skipped_in_qqp_only() -> anyhow::Result<()> {
        let split = read_as("QQP", b"question1\tquestion2\tis_duplicate\na\tb\t1\nc\td\ne\tf\t0\n")?;
        assert_eq!((split.examples.len(), split.skipped), (2, 1));
        let rte = complaint("RTE", b"sentence1\tsentence2\tlabel\na\tb\tentailment\nc\td\n");
        assert!(rte.contains(":3: 2 columns, the first line has 3"), "{rte}");
        Ok(())
    }

    #[test]
    fn line_ends_of_windows_do_no_harm() -> anyhow::Result<()> {
        let split = read_as("WNLI", b"index\tsentence1\tsentence2\tlabel\r\n0\ta\tb\t1\r\n")?;
        assert_eq!(split.examples, [pair("a", "b", 1.0)]);
        Ok(())
    }

    #[test]
    fn blank_lines_at_the_end_are_no_rows() -> anyhow::Result<()> {
        let rows = "sentence\tlabel\na\t1\n";
        for end in ["\n", "\n\n  \n", "\r\n", " "] {
            assert_eq!(read_as("SST-2", format!("{rows}{end}").as_bytes())?.examples.len(), 1, "{end:?}");
        }
        assert!(complaint("SST-2", b"sentence\tlabel\n\na\t1\n").contains(":2: 1 columns"));
        assert_eq!(read_as("SST-2", b"sentence\tlabel\n\t1\n")?.examples[0].first, "");
        let qqp = read_as("QQP", b"question1\tquestion2\tis_duplicate\na\tb\t1\nc\td\n\n")?;
        assert_eq!((qqp.examples.len(), qqp.skipped), (1, 1));
        Ok(())
    }

    #[test]
    fn a_name_is_that_of_one_column() -> anyhow::Result<()> {
        let text = complaint("SST-2", b"sentence\tnote\tlabel\tsentence\na\tb\t1\tc\n");
        assert!(text.contains(":1: columns number 1 and 4 are both called `sentence`"), "{text}");
        let others = read_as("SST-2", b"sentence\tnote\tnote\tlabel\na\tb\tc\t1\n")?;
        assert_eq!(others.examples[0].first, "a");
        Ok(())
    }

    #[test]
    fn mistakes_are_named_with_line_and_value() {
        let label = complaint("QNLI", b"question\tsentence\tlabel\na\tb\tentailment\nc\td\tmaybe\n");
        assert!(label.contains(":3: the label is `maybe`") && label.contains("`not_entailment`"), "{label}");
        let column = complaint("QNLI", b"question\tsentence\tgold\na\tb\tentailment\n");
        assert!(
            column.contains("no column `label`") && column.contains("question | sentence | gold"),
            "{column}"
        );
        let wide = complaint("SST-2", b"sentence\tlabel\na\tb\t1\n");
        assert!(wide.contains(":2: 3 columns, the first line has 2"), "{wide}");
        assert!(complaint("CoLA", b"only one column\n").contains("no column number 4"));
        assert!(complaint("SST-2", b"sentence\tlabel\n").contains("no rows"));
        assert!(complaint("CoLA", b"").contains("no column"));
        assert!(complaint("SST-2", b"sentence\tlabel\ncaf\xe9\t1\n").contains(":2: byte 0xe9"));
    }
}
