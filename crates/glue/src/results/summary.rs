//! The summary over tasks and seeds.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Parameters, RunResult, SplitFacts};
use crate::config::FineTuning;

/// A quantity over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Metric or average.
    pub name: String,
    /// The most that one answer to all rows gets.
    pub floor: f64,
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds (n − 1); none for a single seed.
    pub std: Option<f64>,
    /// One value per seed, in the order of [`Summary::seeds`].
    pub values: Vec<f64>,
}

/// One recipe of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The recipe.
    pub recipe: FineTuning,
    /// The mean of the metrics on the rows to choose on, over the seeds.
    pub choice: f64,
}

/// One task over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Task.
    pub task: String,
    /// The recipe that is reported.
    #[serde(default)]
    pub recipe: FineTuning,
    /// All recipes of the grid; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// What was trained.
    #[serde(default)]
    pub parameters: Parameters,
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
    /// Key in the model's manifest; none for a folder without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_key: Option<String>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Tasks, in the order of GLUE's table.
    pub tasks: Vec<TaskSummary>,
    /// Averages over the tasks: all, and those without WNLI where that makes a difference.
    pub averages: Vec<Estimate>,
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
}

impl TaskSummary {
    /// The runs of one task: for each recipe one per seed. The recipe with the highest choice is reported; of several, as where small
    /// models give one answer to all rows, the one that has learned its training rows best.
    fn new(recipes: &[Vec<RunResult>]) -> Self {
        let tried: Vec<_> = recipes.iter().map(|runs| Tried::new(runs)).collect();
        let last_loss = |run: &RunResult| run.train.loss.last().copied().unwrap_or(f64::NAN);
        let known = |value: f64, worst: f64| if value.is_nan() { worst } else { value };
        let loss = |index: usize| known(recipes[index].iter().map(last_loss).sum(), f64::INFINITY);
        let choice = |index: usize| known(tried[index].choice, f64::NEG_INFINITY);
        let is_better = |index: usize, best: usize| match choice(index).total_cmp(&choice(best)) {
            Ordering::Equal => loss(index) < loss(best),
            order => order.is_gt(),
        };
        let better = |best: usize, index: usize| if is_better(index, best) { index } else { best };
        let runs = &recipes[(1..recipes.len()).fold(0, better)];
        let first = &runs[0];
        let metric = |index: usize| {
            let score = &first.metrics[index];
            Estimate::new(&score.name, score.floor, runs.iter().map(|run| run.metrics[index].value).collect())
        };
        let metrics: Vec<_> = (0..first.metrics.len()).map(metric).collect();
        let mean = Estimate::mean_of("mean", metrics.iter());
        Self {
            task: first.task.clone(),
            recipe: first.recipe.clone(),
            parameters: first.parameters.clone(),
            train: first.train.split,
            dev: first.dev.clone(),
            train_loss: runs.iter().map(last_loss).sum::<f64>() / runs.len() as f64,
            score: Estimate { floor: first.floor.unwrap_or(mean.floor), ..mean },
            metrics,
            tried: if tried.len() > 1 { tried } else { Vec::new() },
        }
    }

    pub(super) fn total(&self, count: fn(&SplitFacts) -> usize) -> usize {
        count(&self.train) + self.dev.iter().map(count).sum::<usize>()
    }
}

impl Tried {
    fn new(runs: &[RunResult]) -> Self {
        let choice = runs.iter().map(RunResult::choice).sum::<f64>() / runs.len() as f64;
        Self { recipe: runs[0].recipe.clone(), choice }
    }
}

impl Summary {
    /// Sums up the runs of each task: for each recipe one per seed; all have the same seeds in the same order.
    ///
    /// # Panics
    /// If there is no task, or a task without runs.
    pub fn new(model: &str, model_key: Option<String>, runs: &[Vec<Vec<RunResult>>]) -> Self {
        let tasks: Vec<_> = runs.iter().map(|recipes| TaskSummary::new(recipes)).collect();
        Self {
            model: model.into(),
            model_key,
            seeds: runs[0][0].iter().map(|run| run.seed).collect(),
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
    if without.len() > 1 && without.len() < tasks.len() {
        averages.insert(0, average(without, ", without WNLI"));
    }
    averages
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::results::{Score, TrainFacts};

    pub(in crate::results) fn run(task: &str, seed: u64, metrics: &[(&str, f64, f64)]) -> RunResult {
        let metrics =
            metrics.iter().map(|&(name, floor, value)| Score { name: name.into(), floor, value }).collect();
        let split = SplitFacts { rows: 10, skipped: 0, truncated: 2, official: Some(20), sampled_from: None };
        let train =
            TrainFacts { split, steps: 1, loss: vec![0.9, 0.5], valid_loss: vec![], best_epoch: None };
        RunResult {
            task: task.into(),
            seed,
            recipe: FineTuning::default(),
            train,
            parameters: Parameters { total: 4_000, trainable: vec![4_000, 1_000] },
            dev: vec![split],
            choose: vec![],
            metrics,
            floor: None,
            tokens: 1,
            flops: 1.0,
        }
    }

    pub(in crate::results) fn summary() -> Summary {
        let mrpc = |seed, value| run("MRPC", seed, &[("accuracy", 68.0, value), ("f1", 82.0, value + 10.0)]);
        let wnli = |seed, value| run("WNLI", seed, &[("accuracy", 56.0, value)]);
        let runs = [vec![vec![mrpc(1, 70.0), mrpc(2, 74.0)]], vec![vec![wnli(1, 56.0), wnli(2, 50.0)]]];
        Summary::new("c0", Some("k0".into()), &runs)
    }

    #[test]
    fn metrics_are_averaged_before_tasks_and_seeds_stay_paired() {
        let summary = summary();
        assert_eq!(summary.tasks[0].score.values, [75.0, 79.0]);
        let [all] = &summary.averages[..] else { panic!("one average, since one task is none") };
        assert_eq!((all.name.as_str(), all.floor), ("average of 2 tasks", 65.5));
        assert_eq!((&all.values[..], all.mean), (&[65.5, 64.5][..], 65.0));
        assert!((all.std.expect("two seeds") - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_floor_of_the_mean_is_that_of_one_answer() {
        let both = [("accuracy", 63.2, 70.0), ("f1", 53.8, 60.0)];
        let floor = |floor| {
            let runs = [vec![vec![RunResult { floor, ..run("QQP", 1, &both) }]]];
            Summary::new("c0", None, &runs).tasks[0].score.floor
        };
        assert_eq!((floor(Some(45.3)), floor(None)), (45.3, 58.5));
    }

    #[test]
    fn all_of_glue_is_averaged_over_eight_and_nine_tasks() {
        let runs: Vec<_> = crate::task::glue()
            .iter()
            .map(|task| {
                vec![vec![run(
                    &task.name,
                    1,
                    &[("accuracy", 50.0, if task.name == "WNLI" { 0.0 } else { 90.0 })],
                )]]
            })
            .collect();
        let averages: Vec<_> = Summary::new("c0", None, &runs)
            .averages
            .into_iter()
            .map(|average| (average.name, average.mean))
            .collect();
        assert_eq!(
            averages,
            [("average of 8 tasks, without WNLI".into(), 90.0), ("average of 9 tasks".into(), 80.0)]
        );
    }

    #[test]
    fn a_grid_reports_what_was_best_on_the_other_half() {
        let with = |lr: f64, choice: f64, value: f64| RunResult {
            recipe: FineTuning { lr, ..FineTuning::default() },
            choose: vec![Score { name: "accuracy".into(), floor: 50.0, value: choice }],
            ..run("RTE", 1, &[("accuracy", 52.7, value)])
        };
        let recipes =
            vec![vec![with(1e-5, 60.0, 70.0)], vec![with(3e-5, 65.0, 55.0)], vec![with(5e-5, 65.0, 80.0)]];
        let summary = Summary::new("c0", None, &[recipes]);
        let task = &summary.tasks[0];
        assert_eq!((task.recipe.lr, task.score.mean), (3e-5, 55.0), "not what is best on the reported half");
        assert_eq!(task.tried.iter().map(|tried| tried.choice).collect::<Vec<_>>(), [60.0, 65.0, 65.0]);
        // Both give one answer to all rows, and one has learned nothing.
        let recipes = [(1.0, 6.5), (1e-4, 0.7)].map(|(lr, loss)| {
            let mut result = with(lr, 50.0, 52.7);
            result.train.loss = vec![loss];
            vec![result]
        });
        let reported = |recipes: Vec<Vec<RunResult>>| Summary::new("c0", None, &[recipes]).tasks[0].recipe.lr;
        assert!((reported(recipes.to_vec()) - 1e-4).abs() < 1e-12);
        let unknown = vec![with(2.0, f64::NAN, 52.7)];
        assert!((reported(vec![recipes[1].clone(), unknown]) - 1e-4).abs() < 1e-12);
        assert!((reported(recipes.into_iter().rev().collect()) - 1e-4).abs() < 1e-12);
    }
}
