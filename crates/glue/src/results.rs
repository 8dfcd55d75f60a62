//! What a run measured, and the summary over tasks and seeds. All scores are percentages.

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use serde::{Deserialize, Serialize};

use crate::config::FineTuning;
use crate::rows::Tokenized;

/// The result of one task and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Task.
    pub task: String,
    /// Seed of head, order and dropout.
    pub seed: u64,
    /// The recipe.
    pub recipe: FineTuning,
    /// The training rows and what became of them.
    pub train: TrainFacts,
    /// The splits that were scored.
    pub dev: Vec<SplitFacts>,
    /// Each metric on each split.
    pub metrics: Vec<Score>,
    /// Tokens read, in training and scoring.
    pub tokens: u64,
    /// Floating-point operations of the layers' matrix products on these tokens, by formula.
    pub flops: f64,
}

/// Counts of one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitFacts {
    /// Rows used.
    pub rows: usize,
    /// Rows of the file that were too short and were left out.
    pub skipped: usize,
    /// Rows that were too long for the model and were cut.
    pub truncated: usize,
}

/// What training did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainFacts {
    /// The training rows.
    pub split: SplitFacts,
    /// Optimizer steps.
    pub steps: u64,
    /// Mean training loss of each epoch, in nats (squared error for regressions).
    pub loss: Vec<f64>,
}

/// One metric of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Metric, and split if the task has several.
    pub name: String,
    /// What a classifier that always says the split's most frequent class gets.
    pub floor: f64,
    /// What the model gets.
    pub value: f64,
}

/// A quantity over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Metric or average.
    pub name: String,
    /// What a constant classifier gets.
    pub floor: f64,
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds (n − 1); none for a single seed.
    pub std: Option<f64>,
    /// One value per seed, in the order of [`Summary::seeds`].
    pub values: Vec<f64>,
}

/// One task over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Task.
    pub task: String,
    /// The training rows.
    pub train: SplitFacts,
    /// The splits that were scored.
    pub dev: Vec<SplitFacts>,
    /// Mean loss of the last epoch, over the seeds.
    pub train_loss: f64,
    /// Each metric.
    pub metrics: Vec<Estimate>,
    /// The mean of the metrics, which is what averages are made of.
    pub score: Estimate,
}

/// All tasks over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Content digest of the model.
    pub model: String,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Tasks, in the order of GLUE's table.
    pub tasks: Vec<TaskSummary>,
    /// Averages over the tasks: all, and those without WNLI where that makes a difference.
    pub averages: Vec<Estimate>,
}

impl SplitFacts {
    pub(crate) fn of(split: &Tokenized) -> Self {
        Self { rows: split.rows.len(), skipped: split.skipped, truncated: split.truncated }
    }
}

impl Estimate {
    /// The estimate from one value per seed.
    fn new(name: impl Into<String>, floor: f64, values: Vec<f64>) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Self { name: name.into(), floor, mean, std, values }
    }

    /// The mean of several estimates, seed by seed.
    fn mean_of<'a>(name: impl Into<String>, of: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let n = of.clone().count() as f64;
        let seeds = of.clone().next().map_or(0, |first| first.values.len());
        let values = (0..seeds).map(|seed| of.clone().map(|one| one.values[seed]).sum::<f64>() / n).collect();
        Self::new(name, of.map(|one| one.floor).sum::<f64>() / n, values)
    }

    fn shown(&self) -> String {
        match self.std {
            Some(std) => format!("{:.1} ± {std:.1}", self.mean),
            None => format!("{:.1}", self.mean),
        }
    }
}

impl TaskSummary {
    /// The runs of one task, one per seed.
    fn new(runs: &[RunResult]) -> Self {
        let first = &runs[0];
        let last_loss = |run: &RunResult| run.train.loss.last().copied().unwrap_or(f64::NAN);
        let metric = |index: usize| {
            let score = &first.metrics[index];
            Estimate::new(&score.name, score.floor, runs.iter().map(|run| run.metrics[index].value).collect())
        };
        let metrics: Vec<_> = (0..first.metrics.len()).map(metric).collect();
        Self {
            task: first.task.clone(),
            train: first.train.split,
            dev: first.dev.clone(),
            train_loss: runs.iter().map(last_loss).sum::<f64>() / runs.len() as f64,
            score: Estimate::mean_of("mean", metrics.iter()),
            metrics,
        }
    }

    fn total(&self, count: fn(&SplitFacts) -> usize) -> usize {
        count(&self.train) + self.dev.iter().map(count).sum::<usize>()
    }
}

impl Summary {
    /// Sums up the runs of each task; all tasks have the same seeds in the same order.
    ///
    /// # Panics
    /// If there is no task, or a task without runs.
    pub fn new(model: &str, runs: &[Vec<RunResult>]) -> Self {
        let tasks: Vec<_> = runs.iter().map(|runs| TaskSummary::new(runs)).collect();
        Self {
            model: model.into(),
            seeds: runs[0].iter().map(|run| run.seed).collect(),
            averages: averages(&tasks),
            tasks,
        }
    }
}

/// WNLI was built to be unlearnable from its training rows, so GLUE is commonly averaged with and without it.
fn averages(tasks: &[TaskSummary]) -> Vec<Estimate> {
    let average = |tasks: Vec<&TaskSummary>, note: &str| {
        let name = format!("average of {} tasks{note}", tasks.len()).replace(" 1 tasks", " 1 task");
        Estimate::mean_of(name, tasks.iter().map(|task| &task.score))
    };
    let without: Vec<_> = tasks.iter().filter(|task| task.task != "WNLI").collect();
    let mut averages = vec![average(tasks.iter().collect(), "")];
    if !without.is_empty() && without.len() < tasks.len() {
        averages.insert(0, average(without, ", without WNLI"));
    }
    averages
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "dev scores in percent, mean ± standard deviation over seeds; floor: a constant classifier"
        )?;
        write!(f, "{}", self.table())?;
        self.note(f, "rows cut to the longest length", |split| split.truncated)?;
        self.note(f, "short rows left out", |split| split.skipped)
    }
}

impl Summary {
    fn table(&self) -> Table {
        let mut table = Table::new();
        let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["task", "metric", "floor", "score", "seeds"]);
        for task in &self.tasks {
            let mean = (task.metrics.len() > 1).then_some(&task.score);
            for estimate in task.metrics.iter().chain(mean) {
                table.add_row(cells(&task.task, estimate));
            }
        }
        for average in &self.averages {
            table.add_row(cells("", average));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Says for which tasks something was counted; nothing if for none.
    fn note(&self, f: &mut fmt::Formatter<'_>, what: &str, count: fn(&SplitFacts) -> usize) -> fmt::Result {
        let counts = self.tasks.iter().map(|task| (&task.task, task.total(count))).filter(|(_, n)| *n > 0);
        let counts: Vec<_> = counts.map(|(task, n)| format!("{task} {n}")).collect();
        if counts.is_empty() { Ok(()) } else { write!(f, "\n{what}: {}", counts.join(", ")) }
    }
}

fn cells(task: &str, estimate: &Estimate) -> [String; 5] {
    [
        task.into(),
        estimate.name.clone(),
        format!("{:.1}", estimate.floor),
        estimate.shown(),
        estimate.values.len().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(task: &str, seed: u64, metrics: &[(&str, f64, f64)]) -> RunResult {
        let metrics =
            metrics.iter().map(|&(name, floor, value)| Score { name: name.into(), floor, value }).collect();
        let split = SplitFacts { rows: 10, skipped: 0, truncated: 2 };
        let train = TrainFacts { split, steps: 1, loss: vec![0.9, 0.5] };
        let (recipe, dev) = (FineTuning::default(), vec![split]);
        RunResult { task: task.into(), seed, recipe, train, dev, metrics, tokens: 1, flops: 1.0 }
    }

    fn summary() -> Summary {
        let mrpc = |seed, value| run("MRPC", seed, &[("accuracy", 68.0, value), ("f1", 82.0, value + 10.0)]);
        let wnli = |seed, value| run("WNLI", seed, &[("accuracy", 56.0, value)]);
        Summary::new("c0", &[vec![mrpc(1, 70.0), mrpc(2, 74.0)], vec![wnli(1, 56.0), wnli(2, 50.0)]])
    }

    #[test]
    fn metrics_are_averaged_before_tasks_and_seeds_stay_paired() {
        let summary = summary();
        assert_eq!(summary.tasks[0].score.values, [75.0, 79.0]);
        let [without, all] = &summary.averages[..] else { panic!("two averages") };
        assert_eq!(
            (without.name.as_str(), without.floor, without.mean),
            ("average of 1 task, without WNLI", 75.0, 77.0)
        );
        assert_eq!((all.name.as_str(), all.floor), ("average of 2 tasks", 65.5));
        assert_eq!((&all.values[..], all.mean), (&[65.5, 64.5][..], 65.0));
        assert!((all.std.expect("two seeds") - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_seed_has_no_standard_deviation() {
        let summary = Summary::new("c0", &[vec![run("RTE", 3, &[("accuracy", 52.7, 60.0)])]]);
        assert_eq!((summary.tasks[0].score.std, summary.averages.len()), (None, 1));
        assert!(!summary.to_string().contains("60.0 ±"), "{summary}");
    }

    #[test]
    fn the_table_shows_every_number() {
        let text = summary().to_string();
        for part in
            ["MRPC", "f1", "82.0", "mean", "77.0 ± 2.8", "without WNLI", "65.0 ± 0.7", "MRPC 4, WNLI 4"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("short rows"), "{text}");
    }
}
