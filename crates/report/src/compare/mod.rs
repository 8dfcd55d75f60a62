//! Fine-tuning results of several models side by side, with paired differences: what is better, and what is not shown.
//!
//! Seeds are paired: for one seed two models have the same initial head and order of the rows, so their difference varies
//! less than their scores. A difference counts as shown only if neither its t interval nor its bootstrap interval
//! contains 0.

mod difference;
mod kind;
mod notes;
mod output;
mod page;
mod text;

use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, Manifest};
use entromask_fault::Fault;
use serde::Serialize;

use crate::inspect::glue::{self, GlueView, Task};
pub use difference::{Difference, Verdict};
pub use kind::kind;
pub use output::{Format, Forms, write};
pub(crate) use text::letter;

/// Several results side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What is compared; the first one is the baseline.
    pub systems: Vec<System>,
    /// One line for each task and average.
    pub lines: Vec<Line>,
    /// What has to be known to read them.
    pub notes: Vec<String>,
}

/// One set of results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct System {
    /// What tells its folder from the others.
    pub name: String,
    /// Folder.
    pub path: PathBuf,
    /// Content digest of the model.
    pub model: String,
    /// Seeds.
    pub seeds: Vec<u64>,
}

/// One task or average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Task or average.
    pub name: String,
    /// Whether it is an average over tasks.
    pub average: bool,
    /// The most that one answer to all rows gets.
    pub floor: f64,
    /// Each system's score.
    pub cells: Vec<Cell>,
}

/// One system's score on one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Mean over all of its seeds, in percent.
    pub mean: f64,
    /// Standard deviation over the seeds (n − 1); none for a single seed.
    pub std: Option<f64>,
    /// Number of seeds.
    pub seeds: usize,
    /// Difference from the baseline; none for the baseline itself.
    pub difference: Option<Difference>,
}

/// Compares the results in `folders` with those in the first of them.
///
/// # Errors
/// A [`Fault`] of class usage for fewer than two folders, of class input if one holds no results, or if they share neither
/// tasks nor seeds with the first.
pub fn compare(folders: &[PathBuf]) -> anyhow::Result<Comparison> {
    if folders.len() < 2 {
        return Err(Fault::usage("nothing to compare").remedy("name at least two folders of scores").into());
    }
    let results = folders.iter().map(|folder| Results::read(folder)).collect::<anyhow::Result<Vec<_>>>()?;
    results[1..].iter().try_for_each(|one| one.check(&results[0]))?;
    let in_all = |task: &String| results.iter().all(|one| one.obstacle(task, &results[0]).is_none());
    let shared: Vec<_> = results[0].names().filter(in_all).collect();
    if shared.is_empty() {
        return Err(Fault::input("no task is in all folders on the same rows and by the same metrics")
            .remedy("compare each with the first by itself")
            .into());
    }
    let names = names(folders);
    let systems = results.iter().zip(names).map(|(one, name)| System {
        name,
        path: one.path.clone(),
        model: one.view.model.clone(),
        seeds: one.view.seeds.clone(),
    });
    let systems: Vec<_> = systems.collect();
    let lines = lines(&results, &shared);
    Ok(Comparison { notes: notes::notes(&results, &systems, &shared, &lines), lines, systems })
}

/// The results in one folder.
struct Results {
    path: PathBuf,
    manifest: Manifest,
    view: GlueView,
}

impl Results {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::load(path, Kind::Glue)?;
        manifest.verify_read(path, |file| file == "results.json")?;
        Ok(Self { path: path.into(), manifest, view: glue::view(path)? })
    }

    fn task(&self, name: &str) -> Option<&Task> {
        self.view.tasks.iter().find(|task| task.task == name)
    }

    /// Why its scores on `task` and those of `baseline` cannot be subtracted; `None` if they can.
    fn obstacle(&self, task: &str, baseline: &Self) -> Option<&'static str> {
        let (Some(own), Some(other)) = (self.task(task), baseline.task(task)) else {
            return Some("not in both");
        };
        let rows = |task: &Task| task.dev.iter().map(|split| split.rows).collect::<Vec<_>>();
        let metrics = |task: &Task| task.metrics.iter().map(|metric| metric.name.clone()).collect::<Vec<_>>();
        match (rows(own) == rows(other), metrics(own) == metrics(other)) {
            (false, _) => Some("not on the same rows"),
            (_, false) => Some("by other metrics"),
            (true, true) => None,
        }
    }

    /// Scores seed by seed, averaged over `tasks`, with the mean floor.
    fn average(&self, tasks: &[&String]) -> (Vec<f64>, f64) {
        let scores: Vec<_> =
            tasks.iter().filter_map(|task| self.task(task)).map(|task| &task.score).collect();
        let n = scores.len() as f64;
        let mean = |seed: usize| scores.iter().map(|score| score.values[seed]).sum::<f64>() / n;
        let floor = scores.iter().map(|score| score.floor).sum::<f64>() / n;
        ((0..self.view.seeds.len()).map(mean).collect(), floor)
    }

    /// The names of its tasks.
    fn names(&self) -> impl Iterator<Item = String> {
        self.view.tasks.iter().map(|task| task.task.clone())
    }

    fn check(&self, baseline: &Self) -> anyhow::Result<()> {
        let tasks = baseline.names().any(|task| self.obstacle(&task, baseline).is_none());
        let seeds = self.view.seeds.iter().any(|seed| baseline.view.seeds.contains(seed));
        let problem = match (tasks, seeds) {
            (false, _) => "no task on the same rows and by the same metrics",
            (_, false) => "no seed",
            _ => return Ok(()),
        };
        let (one, other) = (self.path.display(), baseline.path.display());
        Err(Fault::input(format!("{one}: it shares {problem} with {other}"))
            .remedy("fine-tune both models with the same configuration")
            .into())
    }
}

/// Tasks, then the averages over them: without WNLI where there is WNLI, and all.
fn lines(results: &[Results], shared: &[String]) -> Vec<Line> {
    let mut lines: Vec<_> = shared.iter().map(|task| line(results, task.clone(), &[task], false)).collect();
    let all: Vec<_> = shared.iter().collect();
    let without: Vec<_> = shared.iter().filter(|task| *task != "WNLI").collect();
    let name = |n: usize| format!("average of {n}");
    if without.len() > 1 && without.len() < all.len() {
        lines.push(line(results, format!("{}, without WNLI", name(without.len())), &without, true));
    }
    if all.len() > 1 {
        lines.push(line(results, name(all.len()), &all, true));
    }
    lines
}

fn line(results: &[Results], name: String, tasks: &[&String], average: bool) -> Line {
    let (baseline, floor) = results[0].average(tasks);
    let cell = |(index, one): (usize, &Results)| {
        let (values, _) = one.average(tasks);
        let paired = || {
            let seeds = one.view.seeds.iter().zip(&values);
            let pair = |(seed, value): (&u64, &f64)| {
                let place = results[0].view.seeds.iter().position(|found| found == seed)?;
                Some(value - baseline[place])
            };
            Difference::new(seeds.filter_map(pair).collect())
        };
        Cell::new(&values, (index > 0).then(paired))
    };
    Line { name, average, floor, cells: results.iter().enumerate().map(cell).collect() }
}

impl Cell {
    fn new(values: &[f64], difference: Option<Difference>) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Self { mean, std, seeds: values.len(), difference }
    }
}

/// The folders without what all of them begin and end with.
pub(crate) fn names(folders: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = folders
        .iter()
        .map(|folder| {
            folder.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
        })
        .collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &dyn Fn(&[String]) -> usize| {
        parts.iter().all(|part| part.get(at(part)) == parts[0].get(at(&parts[0])))
    };
    let start = (0..shortest).take_while(|&index| same(&|_| index)).count().min(shortest.saturating_sub(1));
    let end = (1..shortest - start).take_while(|&back| same(&|part| part.len() - back)).count();
    let name = |part: &Vec<String>| part[start..part.len() - end].iter().collect::<PathBuf>();
    parts.iter().map(|part| name(part).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_tells_folders_apart() {
        let of = |folders: &[&str]| names(&folders.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["data/glue/a/sample", "data/glue/b/sample"]), ["a", "b"]);
        assert_eq!(of(&["x/a", "x/a/b"]), ["a", "a/b"]);
        assert_eq!(of(&["same", "same"]), ["same", "same"]);
        assert_eq!(of(&["/t/one", "/u/one"]), ["t", "u"]);
        assert_eq!(of(&["/t/one", "data/one"]), ["/t", "data"]);
    }
}
