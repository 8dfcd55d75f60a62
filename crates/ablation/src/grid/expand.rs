//! From values of axes to runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use entromask_fault::{Class, Fault, class_of};
use toml::Value;

use super::file::{Block, File, values};
use super::{Axis, Catalogue, Choice, Grid, Run, overrides, rules};

/// The runs of `file`, which was read from `path`.
pub(super) fn expand(file: File, path: &Path, catalogue: &Catalogue) -> anyhow::Result<Grid> {
    let named = |error: anyhow::Error| name_file(&error, path);
    rules::check_file(&file, catalogue).map_err(named)?;
    let runs = runs(&file, catalogue).map_err(named)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Grid {
        name,
        title: file.title,
        about: file.about,
        jobs: file.jobs,
        threads: file.threads,
        glue: file.glue,
        schedules: file.schedules,
        varied: varied(&runs),
        runs,
    })
}

/// The runs in order: seeds as they come, and for each seed the product of the axes, then the further runs.
fn runs(file: &File, catalogue: &Catalogue) -> anyhow::Result<Vec<Run>> {
    let blocks: Vec<_> =
        (!file.axes.is_empty()).then_some(&file.axes).into_iter().chain(&file.runs).collect();
    if blocks.is_empty() {
        return Err(Fault::usage("there is no run").remedy("give [axes] or [[runs]] some values").into());
    }
    let schedules: Vec<_> = file.schedules.keys().collect();
    let products: Vec<_> = blocks.into_iter().map(product).collect::<anyhow::Result<_>>()?;
    let fits_none = |pattern: &&Block| !products.iter().flatten().any(|point| fits(pattern, point, file));
    rules::check_excludes(&file.exclude.iter().filter(fits_none).collect::<Vec<_>>())?;
    let mut runs: Vec<Run> = Vec::new();
    for points in &products {
        for point in
            points.iter().filter(|point| !file.exclude.iter().any(|pattern| fits(pattern, point, file)))
        {
            let with = |blocks: &[&Block]| choice(blocks)?.resolved(catalogue, &schedules);
            let chosen = with(&[&file.fixed, point])?;
            check_teacher(&chosen, catalogue)?;
            rules::check_choice(&chosen, file, catalogue)?;
            let mut baselines = Vec::new();
            for block in &file.baseline.0 {
                let resolved = with(&[&file.fixed, point, block]);
                let baseline = resolved.map_err(|error| prefixed(&error, "baseline"))?;
                if baseline != chosen && !baselines.contains(&baseline) {
                    baselines.push(baseline);
                }
            }
            let run = Run { baselines, choice: chosen };
            if runs.iter().all(|earlier| earlier.choice != run.choice) {
                runs.push(run);
            }
        }
    }
    if runs.is_empty() {
        return Err(Fault::usage("[[exclude]] leaves no run").remedy("exclude less").into());
    }
    overrides::check_runs(&runs, catalogue)?;
    sort_by_seed(&mut runs);
    Ok(runs)
}

/// Each value with each, the last axis fastest.
fn product(block: &Block) -> anyhow::Result<Vec<Block>> {
    let mut points = vec![Block::new()];
    for (axis, value) in block {
        let values = values(value);
        if values.is_empty() {
            return Err(Fault::usage(format!("`{}` is empty", axis.name()))
                .remedy("give it a value, or leave it out")
                .into());
        }
        if let Some(twice) = values.iter().enumerate().find(|(place, value)| values[..*place].contains(value))
        {
            return Err(Fault::usage(format!("`{}` has {} twice", axis.name(), twice.1))
                .remedy("name it once")
                .into());
        }
        let with = |point: &Block, value: &Value| {
            let mut point = point.clone();
            point.insert(*axis, value.clone());
            point
        };
        points = points.iter().flat_map(|point| values.iter().map(|value| with(point, value))).collect();
    }
    Ok(points)
}

/// Whether a pattern of what is left out fits a point. An empty one fits none.
fn fits(pattern: &Block, point: &Block, file: &File) -> bool {
    let has = |(axis, value): (&Axis, &Value)| {
        let found = point.get(axis).or_else(|| file.fixed.get(axis));
        found.is_some_and(|found| values(value).contains(found))
    };
    !pattern.is_empty() && pattern.iter().all(has)
}

fn choice(blocks: &[&Block]) -> anyhow::Result<Choice> {
    let mut choice = Choice::default();
    for (axis, value) in blocks.iter().flat_map(|block| block.iter()) {
        choice.set(*axis, value)?;
    }
    Ok(choice)
}

fn check_teacher(choice: &Choice, catalogue: &Catalogue) -> anyhow::Result<()> {
    if choice.teacher.is_empty() {
        return Ok(());
    }
    if let super::Teacher::Own { student, .. } = catalogue.teacher(&choice.teacher)? {
        catalogue.check("student", "student", &student)?;
    }
    Ok(())
}

/// All of the first seed, then all of the second, …: a grid that is cut short is balanced.
fn sort_by_seed(runs: &mut [Run]) {
    let mut order = BTreeMap::new();
    for run in runs.iter() {
        let next = order.len();
        order.entry(run.choice.seed).or_insert(next);
    }
    runs.sort_by_key(|run| order[&run.choice.seed]);
}

/// The axes in which runs differ, without the seed.
fn varied(runs: &[Run]) -> Vec<Axis> {
    let differs = |axis: &Axis| {
        let values: BTreeSet<_> = runs.iter().map(|run| run.choice.get(*axis)).collect();
        values.iter().filter(|value| !axis.is_dependent() || !value.is_empty()).count() > 1
    };
    // The strategy comes first in a name.
    let mut axes: Vec<_> = Axis::all().filter(|axis| *axis != Axis::Seed).filter(differs).collect();
    axes.sort_by_key(|axis| *axis != Axis::Strategy);
    axes
}

/// The same error with the grid's file, unless it names another file.
fn name_file(error: &anyhow::Error, path: &Path) -> anyhow::Error {
    let (text, path) = (format!("{error:#}"), path.display().to_string());
    if text.starts_with(&path) { Fault::usage(text).into() } else { prefixed(error, &path) }
}

/// The same error with what it is about.
fn prefixed(error: &anyhow::Error, about: &str) -> anyhow::Error {
    let text = format!("{about}: {error:#}");
    match class_of(error.as_ref()) {
        Class::Input => Fault::input(text).into(),
        _ => Fault::usage(text).into(),
    }
}
