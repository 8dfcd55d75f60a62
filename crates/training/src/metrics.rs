//! The metrics log: one JSON object a line, each with the `step` it belongs to.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use entromask_fault::Fault;
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// An append-only log that can be cut back to a checkpoint, so that a resumed run repeats no row and misses none.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    rows: u64,
}

/// The rows of a log that belong to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its step; there may be steps that have no row.
    pub last: u64,
    /// [`MetricsLog::rows`] when it was written, or less where rows may be missing.
    pub rows: u64,
}

/// The first rows of a log.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    rows: u64,
    bytes: u64,
}

impl MetricsLog {
    /// Opens the log at `path` with the rows that are to be kept; `None` starts an empty one.
    ///
    /// A last line that a kill has torn is dropped with the rows after the last step.
    ///
    /// # Errors
    /// A [`Fault`] of class input if rows to be kept are missing, or come after a line that is damaged. Then the file stays
    /// as it is.
    pub fn open(path: &Path, kept: Option<Kept>) -> anyhow::Result<Self> {
        let Extent { rows, bytes } = kept.map_or(Ok(Extent::default()), |kept| kept.find(path))?;
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok(Self { path: path.into(), file: file.into_parts().0, rows })
    }

    /// Adds `row`, which must be a JSON object with a `step`, as one line.
    pub fn append(&mut self, row: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("failed to write {}", self.path.display()))?;
        self.rows += 1;
        Ok(())
    }

    /// Rows that are in the log.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Waits until the rows are on disk. A checkpoint is written after that.
    pub fn sync(&self) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("failed to write {}", self.path.display()))
    }
}

impl Kept {
    /// How much of the log at `path` these rows are. It may be large: masks that were chosen while training ran are a line a row.
    fn find(self, path: &Path) -> anyhow::Result<Extent> {
        let mut found = Extent::default();
        let (mut line, mut bytes, mut lines, mut other) = (Vec::new(), 0, 0, None);
        let mut file = match fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check(path, found),
            file => BufReader::new(file?),
        };
        while file.read_until(b'\n', &mut line)? > 0 {
            (bytes, lines) = (bytes + line.len() as u64, lines + 1);
            if step(&line).is_some_and(|step| step <= self.last) {
                if let Some(other) = other {
                    return Err(damaged(path, other).into());
                }
                found = Extent { rows: lines, bytes };
            } else {
                other = other.or(Some(lines));
            }
            line.clear();
        }
        self.check(path, found)
    }

    fn check(self, path: &Path, found: Extent) -> anyhow::Result<Extent> {
        if found.rows < self.rows { Err(self.missing(path, found.rows).into()) } else { Ok(found) }
    }

    fn missing(self, path: &Path, found: u64) -> Fault {
        let Self { last, rows } = self;
        Fault::input(format!(
            "{}: has {found} rows up to step {last}, whose checkpoint was written with {rows}",
            path.display()
        ))
        .remedy(remedy(path))
    }
}

/// The step of a whole line.
fn step(line: &[u8]) -> Option<u64> {
    let row: Row = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
    Some(row.step)
}

/// What every row has.
#[derive(Deserialize)]
struct Row {
    step: u64,
}

fn damaged(path: &Path, line: u64) -> Fault {
    Fault::input(format!("{}: line {line} is damaged, and rows of the run come after it", path.display()))
        .remedy(remedy(path))
}

fn remedy(path: &Path) -> String {
    format!("restore the file, or delete {} to begin anew", path.parent().unwrap_or(path).display())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn up_to(last: u64) -> Kept {
        Kept { last, rows: 0 }
    }

    #[test]
    fn is_cut_back_to_a_step() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, None)?;
        for step in 1..=4 {
            log.append(&json!({"step": step, "loss": 0.5}))?;
        }
        log.sync()?;
        drop(log);
        fs::OpenOptions::new().append(true).open(&path)?.write_all(b"{\"step\":5,\"lo")?;
        let mut log = MetricsLog::open(&path, Some(up_to(2)))?;
        log.append(&json!({"step": 3}))?;
        assert_eq!(log.rows(), 3);
        let text = fs::read_to_string(&path)?;
        let steps: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].clone()).collect();
        assert_eq!(steps, [1, 2, 3]);
        drop(MetricsLog::open(&path, None)?);
        assert_eq!(fs::read_to_string(&path)?, "");
        Ok(())
    }

    #[test]
    fn a_damaged_line_among_those_that_are_kept_is_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let text = "{\"step\":1}\n{\"st\0\0\n{\"step\":3}\n{\"step\":4}\n";
        fs::write(&path, text)?;
        let error = MetricsLog::open(&path, Some(up_to(3))).expect_err("damaged");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        assert!(error.to_string().contains("metrics.jsonl: line 2 is damaged"), "{error}");
        assert_eq!(fs::read_to_string(&path)?, text, "nothing is thrown away");
        drop(MetricsLog::open(&path, Some(up_to(2)))?);
        assert_eq!(fs::read_to_string(&path)?, "{\"step\":1}\n", "what comes after is not the run's");
        Ok(())
    }

    #[test]
    fn rows_that_are_missing_are_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let kept = Some(Kept { last: 4, rows: 3 });
        MetricsLog::open(&path, kept).expect_err("no file");
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":9}\n{\"st";
        fs::write(&path, text)?;
        let error = MetricsLog::open(&path, kept).expect_err("too few");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        assert!(error.to_string().contains("metrics.jsonl: has 2 rows up to step 4"), "{error}");
        assert_eq!(fs::read_to_string(&path)?, text, "nothing is thrown away");
        assert_eq!(MetricsLog::open(&path, Some(Kept { last: 4, rows: 2 }))?.rows(), 2);
        Ok(())
    }

    #[test]
    fn a_torn_line_is_dropped() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"st")?;
        drop(MetricsLog::open(&path, Some(up_to(9)))?);
        assert_eq!(fs::read_to_string(&path)?, "{\"step\":1}\n");
        drop(MetricsLog::open(&folder.path().join("new.jsonl"), Some(up_to(9)))?);
        Ok(())
    }
}
