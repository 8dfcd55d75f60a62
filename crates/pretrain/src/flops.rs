//! What a step costs, by formula.

use entromask_encoder::EncoderConfig;

use crate::config::{ObjectiveConfig, Positions};
use crate::data::Example;

/// Floating-point operations of a step on `batch`.
///
/// Forward and backward pass are three forward passes; a teacher makes one where `objective` asks it. The last layer computes
/// the masked positions, or all that a teacher is compared at; heads are asked at the masked ones, and at all others to
/// distil there; a teacher's, only to distil.
pub(crate) fn of_step(
    student: &EncoderConfig,
    teacher: Option<&EncoderConfig>,
    objective: &ObjectiveConfig,
    batch: &[Example],
) -> f64 {
    let teacher = teacher.filter(|_| objective.needs_teacher());
    let everywhere = teacher.is_some() && objective.positions == Positions::All;
    let distils = objective.kd > 0.0;
    let of_row = |row: &Example| {
        let (tokens, masked) = (row.input_ids.len(), row.positions.len());
        let states = if everywhere { tokens } else { masked };
        let heads = if distils { states } else { masked };
        let asked = if distils { heads } else { 0 };
        3.0 * student.pass_flops(tokens, states, heads)
            + teacher.map_or(0.0, |teacher| teacher.pass_flops(tokens, states, asked))
    };
    batch.iter().map(of_row).sum()
}
