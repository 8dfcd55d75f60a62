//! What a classifier says about each row of a labelled file.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use entromask_cli::Progress;
use entromask_encoder::SequenceClassifier;
use entromask_fault::Fault;
use entromask_kernels::Products;
use serde::Serialize;

use crate::data::Split;
use crate::labels::classes;
use crate::model::Source;
use crate::predict::Predictor;
use crate::results::RunResult;
use crate::task::Task;

/// What a classifier says about each row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// Labels of the task, in the order of the logits; empty for a regression.
    pub labels: Vec<String>,
    /// The rows in the order of the file.
    pub rows: Vec<Answer>,
    /// Rows that were too long and were cut.
    pub truncated: usize,
    /// Rows of the file that were left out.
    pub skipped: usize,
}

/// What a classifier says about one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The label, or the number, of the file.
    pub label: String,
    /// What is predicted.
    pub prediction: String,
    /// One logit a label, or the number of a regression.
    pub logits: Vec<f32>,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.rows.len())?;
        let counts = [(self.truncated, "cut"), (self.skipped, "left out")];
        counts
            .iter()
            .filter(|(rows, _)| *rows > 0)
            .try_for_each(|(rows, what)| write!(f, ", {rows} rows {what}"))
    }
}

impl Answers {
    /// Answers of the classifier in `folder`; rows longer than `max_length` tokens are cut.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the folder is no sequence classifier, or one of other labels.
    pub fn of(
        folder: &Path,
        task: &Task,
        split: &Split,
        max_length: usize,
        (device, products): &(Device, Products),
    ) -> anyhow::Result<Self> {
        let source = Source::open(folder)?;
        let (model, config) = SequenceClassifier::from_pretrained(folder, device)?;
        let model = model.with_products(*products);
        if model.num_labels() != task.outputs() {
            return Err(Fault::input(format!(
                "{}: {} labels, {} has {}",
                folder.display(),
                model.num_labels(),
                task.name,
                task.outputs()
            ))
            .remedy("name the classifier of this task")
            .into());
        }
        let classes = classes(task, model.labels(), folder)?;
        let rows = source.tokenizer(max_length)?.encode(split)?;
        let progress = Progress::new("predicting", rows.tokens());
        let predictor = Predictor { task, config: &config, batch_size: 64, device, progress: &progress };
        let found = predictor.predict(&model, &rows)?;
        progress.finish();
        let name = |value: f32| task.labels.get(value as usize).cloned().unwrap_or_else(|| value.to_string());
        let said = |value: f32| {
            if task.is_regression() { value.to_string() } else { name(classes[value as usize] as f32) }
        };
        let (truncated, skipped) = (rows.truncated, rows.skipped);
        let rows =
            found.values.iter().zip(found.logits).zip(&rows.labels).map(|((&value, logits), &label)| {
                Answer { label: name(label), prediction: said(value), logits: ordered(&logits, &classes) }
            });
        Ok(Self { labels: task.labels.clone(), rows: rows.collect(), truncated, skipped })
    }

    /// As a table: `index`, `label`, `prediction`, and one column of logits a label.
    pub fn table(&self) -> String {
        let fixed = ["index", "label", "prediction"].map(String::from).into_iter();
        let names: Vec<_> = fixed.chain(self.labels.iter().map(|label| format!("logit {label}"))).collect();
        let mut text = format!("{}\n", names.join("\t"));
        for (index, row) in self.rows.iter().enumerate() {
            // A string cannot fail to grow.
            let _ = write!(text, "{index}\t{}\t{}", row.label, row.prediction);
            for logit in row.logits.iter().filter(|_| !self.labels.is_empty()) {
                let _ = write!(text, "\t{logit}");
            }
            text.push('\n');
        }
        text
    }
}

/// The longest row that a classifier which was kept in `folder` was trained on: its result, beside it, says so.
pub fn trained_length(folder: &Path) -> Option<usize> {
    let result: RunResult = serde_json::from_slice(&fs_err::read(result_of(folder)?).ok()?).ok()?;
    Some(result.recipe.max_length)
}

/// Where the result of a classifier that was kept in `folder` lies.
pub fn result_of(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let name = format!("{}.json", folder.file_name()?.to_str()?);
    Some(folder.with_file_name(name))
}

/// The logits in the order of the task's labels; `classes` are what the outputs stand for.
fn ordered(logits: &[f32], classes: &[usize]) -> Vec<f32> {
    let mut found = vec![0.0; logits.len()];
    classes.iter().zip(logits).for_each(|(&class, &logit)| found[class] = logit);
    found
}
