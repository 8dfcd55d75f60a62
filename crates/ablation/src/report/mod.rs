//! What came out of a grid: tables with paired differences, learning curves, costs, and where each number is from.

mod compute;
mod contrast;
mod costs;
mod curve;
mod document;
mod earlier;
mod expenses;
mod findings;
mod frame;
mod inline;
mod markdown;
mod measure;
pub(crate) mod page;
mod plot;
mod provenance;
mod scale;
mod sections;
mod stages;
pub(crate) mod twins;
mod validated;

use std::path::{Path, PathBuf};

use entromask_cli::OutputFile;

pub use contrast::{Contrast, Pair};
pub use costs::Spent;
pub use curve::{Axis as Compute, Point};
pub use earlier::Earlier;
pub use findings::{Findings, Folders, RunFindings, System, read};
pub use measure::{Group, Line};
pub use stages::StageFindings;
pub use validated::Validated;

/// Writes the report as Markdown, HTML and JSON into `out`, its plots beside it, and returns the files' paths. `grid` is
/// the grid's file, as the user named it.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) of class usage if a file cannot be written.
pub fn write(findings: &Findings, out: &Path, grid: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let document = sections::document(findings, grid);
    let file = |ending: &str| out.join(format!("{}{ending}", findings.name));
    let mut files = vec![
        (file(".md"), markdown::render(&document)),
        (file(".html"), page::render(&document)?),
        (json_file(&findings.name, out), serde_json::to_string_pretty(findings)? + "\n"),
    ];
    files.extend(document.figures().map(|figure| (out.join(&figure.file), figure.svg.clone())));
    files.iter().try_for_each(|(path, text)| OutputFile::create(path)?.publish(text.as_bytes()))?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Where the numbers of the grid `name` are below `out`.
pub fn json_file(name: &str, out: &Path) -> PathBuf {
    out.join(format!("{name}.json"))
}

/// What there is, in a line: `Strategies: 5 of 6 runs, 3 seeds`.
pub fn headline(findings: &Findings) -> String {
    let complete = findings.runs.iter().filter(|run| run.missing.is_none()).count();
    format!("{}: {complete} of {} runs are there", findings.title, findings.runs.len())
}
