//! `random`: uniformly at random without replacement.

use entromask_random::below;
use rand::Rng;

/// Chooses `budget` of `n` candidates: the first steps of a Fisher–Yates shuffle.
pub(super) fn select(n: usize, budget: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut items: Vec<usize> = (0..n).collect();
    for first in 0..budget.min(n) {
        items.swap(first, first + below(n - first, rng));
    }
    items.truncate(budget);
    items
}
