//! What a stage says about the files that it has made.

/// A file to be listed in the manifest.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    /// Path below the artifact's folder.
    pub file: String,
    /// Rows, for a table.
    pub rows: Option<u64>,
    /// True if it is a log and not content.
    pub log: bool,
}

impl OutputSpec {
    /// A table part with its number of rows.
    pub fn part(file: String, rows: u64) -> Self {
        Self { file, rows: Some(rows), log: false }
    }

    /// A file that is content, without rows.
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), rows: None, log: false }
    }

    /// A file that differs from run to run and is not part of the content.
    pub fn log(file: impl Into<String>) -> Self {
        Self { file: file.into(), rows: None, log: true }
    }
}
