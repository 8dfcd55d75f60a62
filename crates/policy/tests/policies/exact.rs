//! The probability of every possible mask of a short row, by following each policy step by step.

use std::collections::BTreeMap;

/// Probability of each set of masked positions.
pub type Masks = BTreeMap<Vec<u16>, f64>;

/// One draw after the other, each in proportion to `weights` among what is left.
pub fn without_replacement(weights: &[(u16, f64)], budget: usize) -> Masks {
    let mut masks = Masks::new();
    extend(&mut masks, weights, Vec::new(), budget, 1.0);
    masks
}

/// First `at_random` draws alike for all, then the rest of the `budget` in proportion to `weights`.
pub fn mixed(weights: &[(u16, f64)], at_random: usize, budget: usize) -> Masks {
    let equal: Vec<_> = weights.iter().map(|&(position, _)| (position, 1.0)).collect();
    let mut masks = Masks::new();
    for (first, probability) in without_replacement(&equal, at_random) {
        let rest: Vec<_> =
            weights.iter().copied().filter(|(position, _)| !first.contains(position)).collect();
        extend(&mut masks, &rest, first, budget, probability);
    }
    masks
}

fn extend(masks: &mut Masks, left: &[(u16, f64)], chosen: Vec<u16>, budget: usize, probability: f64) {
    if chosen.len() == budget {
        return add(masks, chosen, probability);
    }
    let total: f64 = left.iter().map(|(_, weight)| weight).sum();
    for &(position, weight) in left {
        let rest: Vec<_> = left.iter().copied().filter(|(other, _)| *other != position).collect();
        let chosen = [chosen.as_slice(), &[position]].concat();
        extend(masks, &rest, chosen, budget, probability * weight / total);
    }
}

/// `SpanBERT`'s loop: a token that is not masked yet, a number of words from there on, until the budget is spent.
///
/// `words` has the positions of each word, side by side; `lengths` the probability of 1, 2, … words.
pub fn spans(words: &[Vec<u16>], lengths: &[f64], budget: usize) -> Masks {
    let mut masks = Masks::new();
    next_span(&mut masks, words, lengths, Vec::new(), budget, 1.0);
    masks
}

fn next_span(
    masks: &mut Masks,
    words: &[Vec<u16>],
    lengths: &[f64],
    chosen: Vec<u16>,
    budget: usize,
    probability: f64,
) {
    if chosen.len() == budget {
        return add(masks, chosen, probability);
    }
    let open: Vec<u16> = words.concat().into_iter().filter(|position| !chosen.contains(position)).collect();
    for anchor in &open {
        let first = words.iter().position(|word| word.contains(anchor)).expect("a word");
        for (length, share) in (1..).zip(lengths) {
            let mut chosen = chosen.clone();
            for position in words[first..(first + length).min(words.len())].concat() {
                if chosen.len() < budget && !chosen.contains(&position) {
                    chosen.push(position);
                }
            }
            next_span(masks, words, lengths, chosen, budget, probability * share / open.len() as f64);
        }
    }
}

fn add(masks: &mut Masks, mut chosen: Vec<u16>, probability: f64) {
    chosen.sort_unstable();
    *masks.entry(chosen).or_default() += probability;
}
