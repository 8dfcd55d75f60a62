//! A report before it has a form.

use serde::Serialize;

/// What stands where there is nothing.
pub(super) const DASH: &str = "–";

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Document {
    pub title: String,
    /// What was asked, and how much of it is there.
    pub lead: Vec<String>,
    pub sections: Vec<Section>,
}

/// A part with a headline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    pub title: String,
    pub notes: Vec<String>,
    pub tables: Vec<Table>,
    pub figures: Vec<Figure>,
}

/// A table.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Table {
    pub header: Vec<&'static str>,
    /// Whether each column holds numbers.
    pub numeric: Vec<bool>,
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    pub text: String,
    /// Whether it is a command or a key.
    pub code: bool,
    /// Whether it matters more than the others.
    pub strong: bool,
}

/// A plot.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// Name of the file beside the Markdown.
    pub file: String,
    pub svg: String,
    /// What it shows, in words.
    pub alt: String,
    /// What has to be known to read it.
    pub caption: String,
}

impl Document {
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|section| &section.figures)
    }
}

impl Section {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), notes: vec![], tables: vec![], figures: vec![] }
    }
}

impl Table {
    /// An empty table; the names of columns of numbers end in `#`, which is not shown.
    pub fn new(columns: &[&'static str]) -> Self {
        Self {
            header: columns.iter().map(|name| name.trim_end_matches('#')).collect(),
            numeric: columns.iter().map(|name| name.ends_with('#')).collect(),
            rows: vec![],
        }
    }

    pub fn drop_column(&mut self, column: usize) {
        self.header.remove(column);
        self.numeric.remove(column);
        self.rows.iter_mut().for_each(|row| drop(row.remove(column)));
    }

    /// Drops the columns in which all rows have a dash.
    pub fn drop_empty_columns(&mut self) {
        for column in (0..self.header.len()).rev() {
            if self.rows.iter().all(|row| row[column].text == DASH) {
                self.drop_column(column);
            }
        }
    }
}

impl Cell {
    pub fn code(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: true, strong: false }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}
