//! `low`: the lowest scores.

use super::high;

/// Chooses the `budget` candidates of the lowest score; of equal scores, the earlier candidate.
pub(super) fn select(scores: &[f32], budget: usize) -> Vec<usize> {
    let negated: Vec<f32> = scores.iter().map(|score| -score).collect();
    high::select(&negated, budget)
}
