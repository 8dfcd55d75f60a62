//! The view of fine-tuning results, and how they are read.

use std::path::Path;

use entromask_fault::Fault;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::student::quantile;

/// What is said of tasks whose splits have other rows than GLUE's.
const UNOFFICIAL: &str = "not the official splits";

/// The results of all tasks and seeds: `results.json`. All scores are percentages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlueView {
    /// Content digest of the model.
    pub model: String,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// One entry a task.
    pub tasks: Vec<Task>,
    /// Averages over tasks.
    pub averages: Vec<Estimate>,
}

/// One task over all seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Name.
    pub task: String,
    /// How it was trained and scored.
    #[serde(default)]
    pub recipe: Recipe,
    /// The training rows.
    #[serde(default)]
    pub train: Split,
    /// The splits that were scored.
    #[serde(default)]
    pub dev: Vec<Split>,
    /// Each metric.
    pub metrics: Vec<Estimate>,
    /// The mean of the metrics.
    pub score: Estimate,
}

/// What of a task's recipe has to be known to read its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Whether half of the rows to score chose the epoch or the recipe, and the other half was scored.
    #[serde(default)]
    pub halves: bool,
}

/// One split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Rows.
    pub rows: u64,
    /// Rows that were too long and were cut.
    #[serde(default)]
    pub truncated: u64,
    /// Rows of the official split, if it has another number of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official: Option<u64>,
    /// Rows that these were sampled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_from: Option<u64>,
}

/// A quantity over seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Metric or average.
    pub name: String,
    /// The most that one answer to all rows gets.
    pub floor: f64,
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds; none for a single seed.
    pub std: Option<f64>,
    /// One value a seed.
    pub values: Vec<f64>,
}

/// One line of the results' table.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// Task; empty for averages.
    pub task: &'a str,
    /// What was measured.
    pub estimate: &'a Estimate,
    /// Whether it is an average over tasks.
    pub average: bool,
}

/// Reads the results in `dir`.
///
/// # Errors
/// A [`Fault`] of class input if there are none.
pub fn view(dir: &Path) -> anyhow::Result<GlueView> {
    let path = dir.join("results.json");
    let text = fs::read_to_string(&path).map_err(|error| {
        Fault::input(error.to_string()).remedy("run entromask-glue again, or check the path")
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Fault::input(format!("{}: not a table of results: {error}", path.display()))
            .remedy("delete manifest.json beside it and run entromask-glue again")
            .into()
    })
}

impl GlueView {
    /// What has to be known to read the scores, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        let about = |what: &str, say: fn(&Task) -> Option<String>| {
            let said = self.tasks.iter().filter_map(|task| Some(format!("{} {}", task.task, say(task)?)));
            let said: Vec<_> = said.collect();
            (!said.is_empty()).then(|| format!("{what}: {}", said.join(", ")))
        };
        let unofficial = about(UNOFFICIAL, Task::unofficial);
        let sampled = about("not the whole task, trained on a sample of the rows", Task::sampled);
        let halved =
            about("scored on one half of the dev rows, the other half being to choose on", Task::halved);
        let cut = about("rows cut to max_length tokens", Task::cut);
        [unofficial, sampled, halved, cut].into_iter().flatten().collect()
    }

    /// The same of an average, in a few words; `None` if there is nothing to say.
    pub fn caveat(&self) -> Option<&'static str> {
        let any = |say: fn(&Task) -> Option<String>| self.tasks.iter().any(|task| say(task).is_some());
        let sampled = any(Task::sampled).then_some("trained on samples of the rows");
        let halved = any(Task::halved).then_some("on one half of the dev rows");
        any(Task::unofficial).then_some(UNOFFICIAL).or(sampled).or(halved)
    }

    /// The lines of the table: each metric, the mean of tasks with several, the averages.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let metric = |task| move |estimate| Line { task, estimate, average: false };
        let mut lines = Vec::new();
        for task in &self.tasks {
            lines.extend(task.metrics.iter().map(metric(task.task.as_str())));
            if task.metrics.len() > 1 {
                lines.push(metric(task.task.as_str())(&task.score));
            }
        }
        lines.extend(self.averages.iter().map(|estimate| Line { task: "", estimate, average: true }));
        lines
    }
}

impl Task {
    /// `(12 of 34 to train on, 5 of 6 to score)`: rows of the file, whatever is sampled from it.
    fn unofficial(&self) -> Option<String> {
        let train = [(self.train, "to train on")].into_iter();
        let scored = if self.recipe.halves { "to score, half of another split" } else { "to score" };
        let dev = self.dev.iter().map(|&split| (split, scored));
        let rows = |split: &Split| split.sampled_from.unwrap_or(split.rows);
        let part =
            |(split, what): (Split, &str)| Some(format!("{} of {} {what}", rows(&split), split.official?));
        let parts: Vec<_> = train.chain(dev).filter_map(part).collect();
        (!parts.is_empty()).then(|| format!("({})", parts.join(", ")))
    }

    /// `(4907, 4916 rows)`
    fn halved(&self) -> Option<String> {
        let rows: Vec<_> = self.dev.iter().map(|split| split.rows.to_string()).collect();
        self.recipe.halves.then(|| format!("({} rows)", rows.join(", ")))
    }

    fn cut(&self) -> Option<String> {
        let rows = self.train.truncated + self.dev.iter().map(|split| split.truncated).sum::<u64>();
        (rows > 0).then(|| rows.to_string())
    }

    /// `10000 of 104743`
    fn sampled(&self) -> Option<String> {
        Some(format!("{} of {}", self.train.rows, self.train.sampled_from?))
    }
}

impl Estimate {
    /// `75.2 ± 1.1`
    pub fn shown(&self) -> String {
        match self.std {
            Some(std) => format!("{:.1} ± {std:.1}", self.mean),
            None => format!("{:.1}", self.mean),
        }
    }

    /// Whether the 95 % interval of the mean over seeds lies above the floor; `None` for a single seed. Seeds that
    /// do not differ have no interval.
    pub fn is_above_floor(&self) -> Option<bool> {
        let n = self.values.len() as f64;
        let error = self.std? / n.sqrt();
        Some(error > 0.0 && self.mean - quantile(0.975, n - 1.0) * error > self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(std: Option<f64>, values: &[f64]) -> Estimate {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Estimate { name: "accuracy".into(), floor: 50.0, mean, std, values: values.to_vec() }
    }

    #[test]
    fn a_score_is_above_its_floor_only_if_its_interval_is() {
        assert_eq!(estimate(Some(1.0), &[52.0; 4]).is_above_floor(), Some(true));
        assert_eq!(estimate(Some(2.0), &[51.0; 4]).is_above_floor(), Some(false));
        // t(0.975; 1) = 12.706, so that of two seeds 12.706 · 1/√2 = 8.98 is the least.
        assert_eq!(estimate(Some(1.0), &[58.0; 2]).is_above_floor(), Some(false));
        assert_eq!(estimate(Some(1.0), &[59.0; 2]).is_above_floor(), Some(true));
        assert_eq!(estimate(Some(0.0), &[59.0; 3]).is_above_floor(), Some(false));
        assert_eq!(estimate(None, &[99.0]).is_above_floor(), None);
    }

    #[test]
    fn tasks_with_several_metrics_have_their_mean_and_averages_come_last() {
        let one = estimate(None, &[60.0]);
        let task = |task: &str, n| Task {
            task: task.into(),
            metrics: vec![one.clone(); n],
            score: one.clone(),
            ..Task::default()
        };
        let view = GlueView {
            tasks: vec![task("MRPC", 2), task("RTE", 1)],
            averages: vec![one.clone()],
            ..GlueView::default()
        };
        let lines: Vec<_> = view.lines().iter().map(|line| (line.task, line.average)).collect();
        assert_eq!(lines, [("MRPC", false), ("MRPC", false), ("MRPC", false), ("RTE", false), ("", true)]);
    }

    #[test]
    fn splits_that_are_not_the_official_ones_and_samples_are_named() {
        let split = |rows, official, sampled_from| Split { rows, official, sampled_from, truncated: 0 };
        let task = |name: &str, train, dev| Task { task: name.into(), train, dev, ..Task::default() };
        let whole = task("WNLI", split(635, None, None), vec![split(71, None, None)]);
        let small = task("QNLI", split(2000, Some(104_743), None), vec![split(500, Some(5463), None)]);
        let sampled = task("RTE", split(64, None, Some(2490)), vec![split(277, None, None)]);
        let both = task("MNLI", split(64, Some(392_702), Some(2000)), vec![]);
        let view = |tasks: &[&Task]| GlueView {
            tasks: tasks.iter().map(|&task| task.clone()).collect(),
            ..GlueView::default()
        };
        assert_eq!((view(&[&whole]).remarks(), view(&[&whole]).caveat()), (vec![], None));
        assert_eq!(view(&[&whole, &sampled]).caveat(), Some("trained on samples of the rows"));
        assert_eq!(
            view(&[&both]).remarks(),
            [
                "not the official splits: MNLI (2000 of 392702 to train on)",
                "not the whole task, trained on a sample of the rows: MNLI 64 of 2000"
            ]
        );
        let all = view(&[&whole, &small, &sampled]);
        assert_eq!(all.caveat(), Some(UNOFFICIAL));
        assert_eq!(
            all.remarks(),
            [
                "not the official splits: QNLI (2000 of 104743 to train on, 500 of 5463 to score)",
                "not the whole task, trained on a sample of the rows: RTE 64 of 2490"
            ]
        );
    }

    #[test]
    fn halves_and_cut_rows_are_named() {
        let split = |rows, official, truncated| Split { rows, official, truncated, sampled_from: None };
        let task = |dev| Task {
            task: "RTE".into(),
            recipe: Recipe { halves: true },
            train: split(2490, None, 5),
            dev: vec![dev],
            ..Task::default()
        };
        let remarks = |dev| GlueView { tasks: vec![task(dev)], ..GlueView::default() }.remarks();
        let halved = "scored on one half of the dev rows, the other half being to choose on: RTE";
        assert_eq!(
            remarks(split(139, None, 1)),
            [format!("{halved} (139 rows)"), "rows cut to max_length tokens: RTE 6".into()]
        );
        let of_a_subset = remarks(split(38, Some(277), 0));
        assert_eq!(
            of_a_subset[..2],
            [
                "not the official splits: RTE (38 of 277 to score, half of another split)".into(),
                format!("{halved} (38 rows)")
            ]
        );
        let view = GlueView { tasks: vec![task(split(139, None, 0))], ..GlueView::default() };
        assert_eq!(view.caveat(), Some("on one half of the dev rows"));
    }
}
