//! The view of a model folder.

use std::path::Path;

use entromask_fault::Fault;
use fs_err as fs;
use serde::Serialize;
use serde_json::Value;

use crate::metrics::{Metrics, Step, Validation};
use crate::weights::Weights;

/// What is in a model folder.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelView {
    /// `config.json`.
    pub config: Value,
    /// The tensors.
    pub weights: Weights,
    /// The last training step, if there is a log.
    pub last_step: Option<Step>,
    /// Mean cross-entropy of training over the last twentieth of the steps, in nats, without what a teacher adds.
    pub recent_loss: Option<f64>,
    /// The validations.
    pub validations: Vec<Validation>,
}

pub(super) fn view(dir: &Path) -> anyhow::Result<ModelView> {
    let path = dir.join("metrics.jsonl");
    let metrics = if path.exists() { Metrics::read(&path)? } else { Metrics::default() };
    Ok(ModelView {
        config: config(dir)?,
        weights: Weights::read(&dir.join("model.safetensors"))?,
        last_step: metrics.steps.last().copied(),
        recent_loss: recent(&metrics.steps),
        validations: metrics.validations,
    })
}

/// Reads `config.json`.
pub(crate) fn config(dir: &Path) -> anyhow::Result<Value> {
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path)
        .map_err(|error| Fault::input(error.to_string()).remedy("give the folder of a model"))?;
    serde_json::from_str(&text).map_err(|error| {
        Fault::input(format!("{}: not JSON: {error}", path.display())).remedy("make the model again").into()
    })
}

fn recent(steps: &[Step]) -> Option<f64> {
    let last = &steps[steps.len() - steps.len().div_ceil(20)..];
    (!last.is_empty()).then(|| last.iter().map(Step::cross_entropy).sum::<f64>() / last.len() as f64)
}
