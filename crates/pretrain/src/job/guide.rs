//! Whether a teacher's shape is one that can guide the student: known from its config.json, so before any work.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::Manifest;
use entromask_encoder::EncoderConfig;
use entromask_fault::Fault;

use super::checks;
use crate::config::ObjectiveConfig;

/// Refuses the teacher in `folder` if it cannot read the rows of `tokens`, or not be compared with `student`.
pub(super) fn check(
    folder: &Path,
    objective: &ObjectiveConfig,
    student: &EncoderConfig,
    tokens: &Manifest,
) -> Result<()> {
    let teacher = EncoderConfig::from_pretrained(folder)?;
    checks::vocabulary(folder, &teacher, student.vocab_size)?;
    checks::positions(folder, &teacher, tokens)?;
    if objective.needs_hidden_states() {
        check_width(teacher.hidden_size, student.hidden_size)?;
    }
    check_depths(objective, student, &teacher)
}

fn check_width(found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "objective.cos and objective.hidden: the teacher's width is {found}, the student's {wanted}"
    ))
    .remedy("set them to 0, or choose models of one width")
    .into())
}

/// Depths as `objective.hidden_layers` counts them: 0 is the embeddings.
fn check_depths(objective: &ObjectiveConfig, student: &EncoderConfig, teacher: &EncoderConfig) -> Result<()> {
    let most = [student.depths(), teacher.depths()];
    let beyond = |pair: &&[usize; 2]| pair[0] > most[0] || pair[1] > most[1];
    let Some(pair) = objective.hidden_layers.iter().find(beyond) else { return Ok(()) };
    Err(Fault::usage(format!("objective.hidden_layers: {pair:?} is not in the models"))
        .remedy(format!("the student's layers end with {}, the teacher's with {}", most[0], most[1]))
        .into())
}
