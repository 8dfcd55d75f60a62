//! Where a comparison goes, and in which form.

use std::path::Path;

use comfy_table::Table;
use entromask_cli::OutputFile;
use entromask_fault::Fault;
use entromask_tables::Comparisons;

use super::{Comparison, page, text};

/// The form of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables for people.
    Terminal,
    /// Tables in Markdown.
    Markdown,
    /// A page with plots, in one file.
    Html,
    /// One row for each task and system, or measure and scoring.
    Parquet,
}

impl Format {
    /// The format that the name of `out` asks for; for the terminal without one.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if the name has no known ending.
    pub fn of(out: Option<&Path>) -> anyhow::Result<Self> {
        let Some(out) = out else { return Ok(Self::Terminal) };
        match out.extension().and_then(|extension| extension.to_str()) {
            Some("md") => Ok(Self::Markdown),
            Some("html") => Ok(Self::Html),
            Some("parquet") => Ok(Self::Parquet),
            Some("txt") => Ok(Self::Terminal),
            _ => Err(Fault::usage(format!("{}: which format?", out.display()))
                .remedy("end it in .md, .html, .parquet or .txt, or give --format")
                .into()),
        }
    }
}

/// What can be written in every form.
pub trait Forms {
    /// Tables for a terminal of so many characters in a line; as wide as they are without a number.
    fn terminal(&self, width: Option<u16>) -> String;

    /// Tables in Markdown.
    fn markdown(&self) -> String;

    /// One self-contained page.
    fn html(&self) -> anyhow::Result<String>;

    /// The bytes of a table in a file of its own.
    fn parquet(&self) -> anyhow::Result<Vec<u8>>;
}

/// Writes the comparison to `out`, or returns it as text where there is no `out`.
///
/// # Errors
/// A [`Fault`] of class usage for Parquet without `out`, or an `out` that cannot be written.
pub fn write(comparison: &impl Forms, format: Format, out: Option<&Path>) -> anyhow::Result<String> {
    let Some(out) = out else { return text(comparison, format, Table::new().width()) };
    let file = OutputFile::create(out)?;
    let bytes = match format {
        Format::Parquet => comparison.parquet()?,
        _ => text(comparison, format, None)?.into_bytes(),
    };
    file.publish(&bytes)?;
    Ok(format!("{}: written", out.display()))
}

/// `width` is that of the terminal, if it goes to one.
fn text(comparison: &impl Forms, format: Format, width: Option<u16>) -> anyhow::Result<String> {
    match format {
        Format::Terminal => Ok(comparison.terminal(width)),
        Format::Markdown => Ok(comparison.markdown()),
        Format::Html => comparison.html(),
        Format::Parquet => {
            Err(Fault::usage("--format parquet without --out").remedy("name the file with --out").into())
        }
    }
}

impl Forms for Comparison {
    fn terminal(&self, width: Option<u16>) -> String {
        text::terminal(self, width)
    }

    fn markdown(&self) -> String {
        text::markdown(self)
    }

    fn html(&self) -> anyhow::Result<String> {
        page::render(self)
    }

    fn parquet(&self) -> anyhow::Result<Vec<u8>> {
        table(self).to_bytes()
    }
}

fn table(comparison: &Comparison) -> Comparisons {
    let mut table = Comparisons::default();
    for line in &comparison.lines {
        for (system, cell) in comparison.systems.iter().zip(&line.cells) {
            let difference = cell.difference.as_ref();
            let t = difference.and_then(|difference| difference.t);
            let bootstrap = difference.and_then(|difference| difference.bootstrap);
            table.name.push(line.name.clone());
            table.system.push(system.name.clone());
            table.model.push(system.model.clone());
            table.seeds.push(cell.seeds as u64);
            table.floor.push(line.floor);
            table.mean.push(cell.mean);
            table.std.push(cell.std);
            table.pairs.push(difference.map(|difference| difference.values.len() as u64));
            table.difference.push(difference.map(|difference| difference.mean));
            table.t_low.push(t.map(|interval| interval[0]));
            table.t_high.push(t.map(|interval| interval[1]));
            table.bootstrap_low.push(bootstrap.map(|interval| interval[0]));
            table.bootstrap_high.push(bootstrap.map(|interval| interval[1]));
            let verdict = difference.map_or("baseline", |difference| difference.verdict().words());
            table.verdict.push(verdict.into());
        }
    }
    table
}
