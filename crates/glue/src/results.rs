//! What a run measured. All scores are percentages.

mod summary;
mod table;

use serde::{Deserialize, Serialize};

use crate::config::FineTuning;
use crate::metric::{Metric, best_constant};
use crate::predict::Predictions;
use crate::rows::Tokenized;
use crate::task::Task;
pub use summary::{Estimate, Summary, TaskSummary, Tried};

/// The result of one task, recipe and seed.
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
    /// What was trained.
    #[serde(default)]
    pub parameters: Parameters,
    /// The rows that are reported, of each split.
    pub dev: Vec<SplitFacts>,
    /// Each metric on the rows to choose on; empty if nothing was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choose: Vec<Score>,
    /// Each metric on each split.
    pub metrics: Vec<Score>,
    /// The most that one answer to all rows of a split gets by the mean of the metrics; none in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
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
    /// Official number of rows of the file, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official: Option<usize>,
    /// Rows of the file that these were sampled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_from: Option<usize>,
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
    /// The same loss on the rows to choose on after each epoch, where training stops by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub valid_loss: Vec<f64>,
    /// The epoch with the lowest of them, from 0, whose model was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<u64>,
}

/// Numbers in the classifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// All.
    pub total: u64,
    /// Those that were trained in each epoch.
    pub trainable: Vec<u64>,
}

/// One metric of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Metric, and split if the task has several.
    pub name: String,
    /// The most that one answer to all rows of the split gets.
    pub floor: f64,
    /// What the model gets.
    pub value: f64,
}

impl SplitFacts {
    pub(crate) fn of(split: &Tokenized) -> Self {
        let &Tokenized { skipped, truncated, official, sampled_from, .. } = split;
        Self { rows: split.rows.len(), skipped, truncated, official, sampled_from }
    }
}

impl RunResult {
    /// The mean of the metrics on the rows to choose on.
    pub fn choice(&self) -> f64 {
        self.choose.iter().map(|score| score.value).sum::<f64>() / self.choose.len() as f64
    }
}

/// Each metric on each split, beside the most that one answer to all rows gets by it.
pub fn scores(task: &Task, predictions: &[Predictions], splits: &[Tokenized]) -> Vec<Score> {
    let mut scores = Vec::new();
    for ((split, rows), predictions) in task.dev.iter().zip(splits).zip(predictions) {
        scores.extend(task.metrics.iter().map(|metric| Score {
            name: format!("{metric} {}", split.name).trim_end().to_string(),
            floor: floor(task, &[*metric], rows),
            value: 100.0 * metric.of(&predictions.values, &rows.labels),
        }));
    }
    scores
}

/// The most that one answer to all rows of a split gets by the mean of the task's metrics, averaged over the splits.
pub fn mean_floor(task: &Task, splits: &[Tokenized]) -> f64 {
    splits.iter().map(|rows| floor(task, &task.metrics, rows)).sum::<f64>() / splits.len() as f64
}

fn floor(task: &Task, metrics: &[Metric], rows: &Tokenized) -> f64 {
    // A correlation with what is constant is 0.
    if task.is_regression() { 0.0 } else { 100.0 * best_constant(metrics, &rows.labels) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(labels: &[f32]) -> Tokenized {
        Tokenized { labels: labels.to_vec(), ..Tokenized::default() }
    }

    fn say(values: &[f32]) -> Predictions {
        Predictions { values: values.to_vec(), ..Predictions::default() }
    }

    #[test]
    fn each_split_has_its_own_scores_and_floors() -> anyhow::Result<()> {
        let dev = [rows(&[0.0, 0.0, 1.0, 2.0]), rows(&[2.0, 2.0])];
        let found = scores(Task::named("MNLI")?, &[say(&[0.0, 1.0, 1.0, 2.0]), say(&[2.0, 1.0])], &dev);
        let found: Vec<_> =
            found.iter().map(|s| format!("{} {:.1} {:.1}", s.name, s.floor, s.value)).collect();
        assert_eq!(found, ["accuracy matched 50.0 75.0", "accuracy mismatched 100.0 50.0"]);
        Ok(())
    }

    /// Of four rows one is positive: "no" to all has accuracy 3/4 and F1 0, "yes" to all 1/4 and 2/5.
    #[test]
    fn each_metric_has_the_floor_of_the_answer_that_is_best_by_it() -> anyhow::Result<()> {
        let (task, dev) = (Task::named("QQP")?, [rows(&[0.0, 0.0, 1.0, 0.0])]);
        let floors: Vec<_> = scores(task, &[say(&[0.0; 4])], &dev).iter().map(|score| score.floor).collect();
        assert_eq!(floors, [75.0, 40.0]);
        assert!((mean_floor(task, &dev) - 37.5).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn a_regression_has_floor_zero() -> anyhow::Result<()> {
        let found = scores(Task::named("STS-B")?, &[say(&[1.0, 2.0, 4.0])], &[rows(&[0.0, 1.0, 3.0])]);
        assert!(
            found.iter().all(|score| score.floor == 0.0 && (score.value - 100.0).abs() < 1e-9),
            "{found:?}"
        );
        Ok(())
    }

    #[test]
    fn results_of_earlier_versions_are_read() -> anyhow::Result<()> {
        let text = include_str!("../../../tests/golden/format-1/glue/WNLI-seed1-9df64599.json");
        let result: RunResult = serde_json::from_str(text)?;
        assert_eq!((result.task.as_str(), result.parameters), ("WNLI", Parameters::default()));
        Ok(())
    }
}
