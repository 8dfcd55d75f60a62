//! One self-contained page about a run: what was trained and how, its curves, its text, its results, its costs.

mod curves;
mod lineage;
mod page;
mod plot;
mod stages;
mod story;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use entromask_artifact::{Kind, Manifest};
use entromask_cli::OutputFile;
use entromask_fault::Fault;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use crate::inspect::glue::{self, GlueView};
use crate::number::{bytes, count, counted};
use lineage::{Artifact, Group, Lineage};

/// What the page is about.
#[derive(Clone, Debug)]
pub struct Run {
    /// Folder of the model that came out.
    pub model: PathBuf,
    /// Folders of its fine-tuning results.
    pub glue: Vec<PathBuf>,
    /// Row to show; a typical one by default.
    pub row: Option<u64>,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The page.
    pub out: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Stages that it covers.
    pub stages: usize,
    /// What could not be shown, and why.
    pub notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let (stages, size) = (counted(self.stages as u64, "stage"), bytes(self.bytes));
        write!(f, "{}: {stages}, {size}", self.out.display())
    }
}

/// Writes the page about `run` to `out`.
///
/// # Errors
/// A [`Fault`] of class input if the model is not one of the pipeline's, an artifact that it came from is damaged, or
/// the fine-tuning results are another model's. What is gone is noted on the page instead.
pub fn write(run: &Run, out: &Path) -> anyhow::Result<Report> {
    let file = OutputFile::create(out)?;
    let mut lineage = Lineage::follow(&run.model)?;
    let results =
        run.glue.iter().map(|dir| results(&mut lineage, dir)).collect::<anyhow::Result<Vec<_>>>()?;
    let page = page::page(&lineage, &results, run)?;
    let html = render(&page)?;
    file.publish(html.as_bytes())?;
    let (bytes, stages) = (html.len() as u64, lineage.stages.len());
    Ok(Report { out: out.into(), bytes, stages, notes: page.notes })
}

/// Reads fine-tuning results, which must be those of the lineage's model, and adds their stage.
fn results(lineage: &mut Lineage, dir: &Path) -> anyhow::Result<GlueView> {
    let manifest = Manifest::load(dir, Kind::Glue)?;
    manifest.verify_read(dir, |file| file == "results.json")?;
    let model = manifest.input("model").map_or("unknown", |input| &input.content);
    let wanted = &lineage.model().manifest.content;
    if model != wanted {
        let dir = dir.display();
        return Err(Fault::input(format!(
            "{dir}: results of the model {model}, but the page is about {wanted}"
        ))
        .remedy("fine-tune this model with entromask-glue")
        .into());
    }
    let results = glue::view(dir)?;
    lineage.add(Artifact { dir: dir.into(), manifest }, Group::FineTuning);
    Ok(results)
}

fn render(page: &page::Page) -> anyhow::Result<String> {
    environment()?.get_template("page.html")?.render(Serde(page)).context("failed to make the page")
}

fn environment() -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("count", count);
    environment.add_template("macros.html", include_str!("../../templates/macros.html"))?;
    environment.add_template("page.html", include_str!("../../templates/page.html"))?;
    // Not templates: braces mean something else in them.
    environment
        .add_global("style", Value::from_safe_string(include_str!("../../templates/style.css").into()));
    environment
        .add_global("script", Value::from_safe_string(include_str!("../../templates/script.js").into()));
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_counts_of_a_page_have_one_form() -> anyhow::Result<()> {
        let tokens = serde_json::json!({"tokens": [{"token": "the", "mean": 1.5, "count": 2341}]});
        let call = "{% from 'macros.html' import ranking %}{{ ranking('id', 'name', tokens) }}";
        let mut environment = environment()?;
        environment.add_template("call.html", call)?;
        let html = environment.get_template("call.html")?.render(Serde(tokens))?;
        assert!(html.contains(">1.50</td>") && html.contains(">2,341</td>"), "{html}");
        Ok(())
    }
}
