//! `sample`: without replacement with probability ∝ exp(score / temperature).

use entromask_random::open_unit;
use rand::Rng;

use super::high;

/// Chooses `budget` candidates by Gumbel top-k (Kool, van Hoof, Welling: *Stochastic Beams and Where to Find Them*,
/// 2019): the highest values of score / temperature + Gumbel noise are a sample without replacement.
///
/// Computed as score + temperature · noise, which orders alike and does not overflow for small temperatures.
pub(super) fn select(scores: &[f32], budget: usize, temperature: f64, rng: &mut impl Rng) -> Vec<usize> {
    let perturbed: Vec<f64> =
        scores.iter().map(|&score| f64::from(score) + temperature * gumbel(rng)).collect();
    high::select(&perturbed, budget)
}

/// A draw from the standard Gumbel distribution.
fn gumbel(rng: &mut impl Rng) -> f64 {
    -(-open_unit(rng).ln()).ln()
}
