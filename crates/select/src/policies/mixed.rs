//! `mixed`: part of the budget at random, the rest by score.

use rand::Rng;

use super::{random, sample};

/// Chooses round(share · budget) candidates at random, and the rest of the budget among the others as `sample` does.
pub(super) fn select(
    scores: &[f32],
    budget: usize,
    share: f64,
    temperature: f64,
    rng: &mut impl Rng,
) -> Vec<usize> {
    let at_random = (share * budget as f64).round() as usize;
    let mut chosen = random::select(scores.len(), at_random, rng);
    let others: Vec<usize> = (0..scores.len()).filter(|index| !chosen.contains(index)).collect();
    let remaining: Vec<f32> = others.iter().map(|&index| scores[index]).collect();
    let by_score = sample::select(&remaining, budget - chosen.len(), temperature, rng);
    chosen.extend(by_score.into_iter().map(|index| others[index]));
    chosen
}
