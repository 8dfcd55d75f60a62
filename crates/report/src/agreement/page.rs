//! An agreement as one self-contained HTML page.

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::text::{self, Line};
use super::{Agreement, Other};

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    caption: String,
    looked_at: String,
    notes: &'a [String],
    others: Vec<Section>,
}

/// One scoring beside the reference.
#[derive(Serialize)]
struct Section {
    name: String,
    header: Line,
    statistics: Vec<Line>,
    about_shifts: Option<String>,
    shift_header: Line,
    shifts: Vec<Line>,
}

/// The page.
pub(super) fn render(agreement: &Agreement) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("agreement.html", include_str!("../../templates/agreement.html"))?;
    // No template: braces mean something else in it.
    environment
        .add_global("style", Value::from_safe_string(include_str!("../../templates/style.css").into()));
    let scorings = &agreement.scorings;
    let reference = &scorings[0].name;
    let others = scorings[1..].iter().zip(&agreement.others);
    let page = Page {
        title: scorings.iter().map(|scoring| scoring.name.as_str()).collect::<Vec<_>>().join(" · "),
        caption: text::caption(agreement, reference),
        looked_at: text::looked_at(agreement),
        notes: &agreement.notes,
        others: others.map(|(scoring, other)| section([reference, &scoring.name], other)).collect(),
    };
    environment.get_template("agreement.html")?.render(Serde(&page)).context("failed to make the page")
}

fn section(names: [&String; 2], other: &Other) -> Section {
    let names = names.map(String::clone);
    Section {
        header: text::header(&names, other),
        statistics: text::statistics(&names, other),
        about_shifts: text::about_shifts(&other.shifts),
        shift_header: text::shift_header(&names),
        shifts: text::shifts(&other.shifts),
        name: names[1].clone(),
    }
}
