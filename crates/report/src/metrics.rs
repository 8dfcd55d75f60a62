//! `metrics.jsonl` of a model: the losses of each step and the validations.

use std::collections::BTreeMap;
use std::path::Path;

use entromask_fault::Fault;
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// The log of a training run, in the order of its steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// One entry a step.
    pub steps: Vec<Step>,
    /// One entry a validation.
    pub validations: Vec<Validation>,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Number, from 1.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// What was trained on: the cross-entropy, or a mean of it and of what a teacher says.
    pub loss: f64,
    /// Cross-entropy, in nats, which the first versions did not write.
    #[serde(default)]
    pub ce: Option<f64>,
    /// Learning rate.
    #[serde(default)]
    pub lr: f64,
}

impl Step {
    /// In nats, as that of validations.
    pub(crate) fn cross_entropy(&self) -> f64 {
        self.ce.unwrap_or(self.loss)
    }

    /// Whether a teacher's part is in the loss.
    pub(crate) fn is_distilled(&self) -> bool {
        self.ce.is_some_and(|ce| ce.to_bits() != self.loss.to_bits())
    }
}

/// One validation on the fixed random mask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps made before.
    pub step: u64,
    /// Tokens trained on before.
    pub tokens: u64,
    /// Mean surprisal of the masked tokens, in nats.
    pub valid_loss: f64,
    /// Share of them that are the most probable token.
    pub valid_accuracy: f64,
    /// exp of the loss.
    pub valid_perplexity: f64,
    /// Operations of this round before, which the first versions did not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
}

impl Metrics {
    /// Reads a log. Lines of other kinds are passed over, and so is a last line that a kill has torn.
    ///
    /// # Errors
    /// A [`Fault`] of class input if the file cannot be read or a line in its midst is damaged.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            Fault::input(error.to_string()).remedy("train the model again, or check the path")
        })?;
        let mut metrics = Self::default();
        let last = text.lines().count();
        for (number, line) in (1..).zip(text.lines()) {
            if metrics.line(line).is_err() && number < last {
                return Err(Fault::input(format!("{}: line {number} is damaged", path.display()))
                    .remedy("delete manifest.json beside it and train the model again")
                    .into());
            }
        }
        Ok(metrics)
    }

    /// Joins the logs of several rounds: a later round's log may begin with a copy of the earlier ones.
    pub fn joined(rounds: impl IntoIterator<Item = Self>) -> Self {
        let (mut steps, mut validations) = (BTreeMap::new(), BTreeMap::new());
        for round in rounds {
            steps.extend(round.steps.into_iter().map(|step| (step.step, step)));
            validations.extend(round.validations.into_iter().map(|validation| (validation.step, validation)));
        }
        Self { steps: steps.into_values().collect(), validations: validations.into_values().collect() }
    }

    /// Tokens trained on after `step` steps, if the log has the step.
    pub fn tokens_at(&self, step: u64) -> Option<u64> {
        let found = self.steps.binary_search_by_key(&step, |entry| entry.step).ok()?;
        Some(self.steps[found].tokens)
    }

    fn line(&mut self, line: &str) -> serde_json::Result<()> {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value.get("valid_loss").is_some() {
            self.validations.push(serde_json::from_value(value)?);
        } else if value.get("loss").is_some() {
            self.steps.push(serde_json::from_value(value)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"step":0,"epoch":0.0,"tokens":0,"valid_loss":10.3,"valid_accuracy":0.0,"valid_perplexity":29732.6}
{"step":1,"epoch":0.5,"tokens":100,"loss":10.2,"ce":10.2,"lr":0.001,"grad_norm":1.5}
{"step":2,"event":"checkpoint"}
{"step":2,"epoch":1.0,"tokens":200,"loss":9.8,"lr":0.0,"grad_norm":1.4}
"#;

    fn read(text: &str) -> anyhow::Result<Metrics> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), text)?;
        Metrics::read(file.path())
    }

    #[test]
    fn steps_and_validations_are_told_apart() -> anyhow::Result<()> {
        let metrics = read(LOG)?;
        assert_eq!((metrics.steps.len(), metrics.validations.len()), (2, 1));
        assert_eq!((metrics.tokens_at(2), metrics.tokens_at(3)), (Some(200), None));
        Ok(())
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_a_damaged_one_is_named() -> anyhow::Result<()> {
        assert_eq!(read(&format!("{LOG}{{\"step\":3,\"lo"))?, read(LOG)?);
        let error = read(&LOG.replacen("\"tokens\":100", "\"tokens\":", 1)).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        Ok(())
    }

    #[test]
    fn rounds_are_joined_whether_or_not_they_repeat_the_earlier_ones() -> anyhow::Result<()> {
        let all = read(LOG)?;
        let first = Metrics { steps: all.steps[..1].to_vec(), validations: all.validations.clone() };
        let second = Metrics { steps: all.steps[1..].to_vec(), validations: vec![] };
        assert_eq!(Metrics::joined([first.clone(), second]), all);
        assert_eq!(Metrics::joined([first, all.clone()]), all);
        Ok(())
    }
}
