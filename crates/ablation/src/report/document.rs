//! A report before it has a form.

use serde::Serialize;

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

    /// One more column of words, before there are rows.
    pub fn add_column(&mut self, name: &'static str) {
        self.header.push(name);
        self.numeric.push(false);
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
