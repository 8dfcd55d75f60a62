//! What is drawn, against probabilities that are computed.

use std::collections::BTreeMap;

use entromask_policy::corruption::Vocabulary;
use entromask_policy::{Config, Row, Scores, Selector};

use crate::exact::{self, Masks};
use crate::row::{TestRow, config};

const DRAWS: u64 = 100_000;
/// ln(2 / 1e-9)
const LOG_ODDS: f64 = 21.4;

/// The share of each set of masked positions in `DRAWS` rows like `row`.
fn drawn(config: &Config, row: &TestRow) -> Masks {
    let mut masks = Masks::new();
    for number in 0..DRAWS {
        let choice = TestRow { number, ..row.clone() }.positions(config, 0);
        *masks.entry(choice).or_default() += 1.0 / DRAWS as f64;
    }
    masks
}

/// Bernstein's bound: each count is this far from its mean with a probability of less than 1e-9, so a correct program
/// fails with less than 1e-9 times the number of masks, which is below 1000 here.
fn assert_drawn(name: &str, found: &Masks, wanted: &Masks) {
    assert!(wanted.len() < 1000 && (wanted.values().sum::<f64>() - 1.0).abs() < 1e-9, "{name}");
    assert!(found.keys().all(|mask| wanted.contains_key(mask)), "{name}: an impossible mask");
    for (mask, p) in wanted {
        let variance = DRAWS as f64 * p * (1.0 - p);
        let bound = LOG_ODDS / 3.0 + ((LOG_ODDS / 3.0).powi(2) + 2.0 * LOG_ODDS * variance).sqrt();
        let share = found.get(mask).copied().unwrap_or(0.0);
        assert!((share - p).abs() * DRAWS as f64 <= bound, "{name}: {mask:?} {share} instead of {p}");
    }
}

/// Seven words of one token each with the scores 0, 0.5, … 3.
fn seven() -> TestRow {
    let mut row = TestRow::of_words(&[1; 7]);
    row.scores = (0..9).map(|i| (1..8).contains(&i).then_some((i as f32 - 1.0) / 2.0)).collect();
    row
}

fn weights(row: &TestRow, weight: impl Fn(f64) -> f64) -> Vec<(u16, f64)> {
    row.scored().iter().map(|&(position, score)| (position, weight(f64::from(score)))).collect()
}

#[test]
fn random_is_uniform_over_all_masks() {
    let row = seven();
    let wanted = exact::without_replacement(&weights(&row, |_| 1.0), 3);
    assert_eq!(wanted.len(), 35);
    assert_drawn("random", &drawn(&config(r#"{"rate": 0.43}"#), &row), &wanted);
    let hot = config(r#"{"rate": 0.43, "policy": {"name": "sample", "temperature": 1e9}}"#);
    assert_drawn("hot", &drawn(&hot, &row), &wanted);
    let shard = config(r#"{"rate": 0.43, "budget": "shard"}"#);
    assert_drawn("shard", &drawn(&shard, &row), &wanted);
}

#[test]
fn sample_draws_one_after_the_other_in_proportion_to_exp_of_the_score() {
    let row = seven();
    let wanted = exact::without_replacement(&weights(&row, |score| (score / 0.8).exp()), 3);
    for policy in ["sample", "reducible"] {
        let config =
            config(&format!(r#"{{"rate": 0.43, "policy": {{"name": "{policy}", "temperature": 0.8}}}}"#));
        assert_drawn(policy, &drawn(&config, &row), &wanted);
    }
}

#[test]
fn mixed_is_random_first_and_then_by_score() {
    let row = seven();
    let wanted = exact::mixed(&weights(&row, |score| (score / 0.8).exp()), 1, 3);
    // 0.99 and 1.35 tokens of the budget of three.
    for share in [0.33, 0.45] {
        let config = config(&format!(
            r#"{{"rate": 0.43, "policy": {{"name": "mixed", "share": {share}, "temperature": 0.8}}}}"#
        ));
        assert_drawn("mixed", &drawn(&config, &row), &wanted);
    }
}

#[test]
fn band_is_uniform_inside_and_takes_the_nearest_outside() {
    let row = seven();
    // The ranks 2 to 5 are the quantiles 0.36 to 0.79.
    let inside: Vec<_> = weights(&row, |_| 1.0)[2..6].to_vec();
    let wanted = exact::without_replacement(&inside, 3);
    let text = r#"{"rate": 0.43, "policy": {"name": "band", "lo": 0.3, "hi": 0.8}}"#;
    assert_drawn("band", &drawn(&config(text), &row), &wanted);
    // Only the ranks 2 to 4 are inside, and 1 is nearer than 5: of a budget of four all four are certain.
    let text = r#"{"rate": 0.5, "policy": {"name": "band", "lo": 0.23, "hi": 0.74}}"#;
    assert_drawn("a narrow band", &drawn(&config(text), &row), &BTreeMap::from([(vec![2, 3, 4, 5], 1.0)]));
}

/// Weights 8^-0.7, 1, 64^-0.7, … from the counts of a corpus.
#[test]
fn frequency_draws_in_proportion_to_a_power_of_the_count() {
    let row = seven();
    let counts = [8.0, 1.0, 64.0, 2.0, 1000.0, 1.0, 20.0f64];
    let rarity: Vec<f32> = (0..=208u32)
        .map(|id| if (201..208).contains(&id) { -0.7 * counts[id as usize - 201].ln() } else { 0.0 } as f32)
        .collect();
    let config = config(r#"{"rate": 0.43, "policy": {"name": "frequency"}}"#);
    let vocabulary = Vocabulary { size: 1000, mask: 103, special: vec![103] };
    let selector = Selector { config: &config, vocabulary: &vocabulary, excluded: &[] };
    let mut found = Masks::new();
    for number in 0..DRAWS {
        let (input_ids, word) = (&row.input_ids, &row.word);
        let row = Row { number, input_ids, word, scores: Scores::ByToken(&rarity) };
        let choice = selector.select(&[row], 0).expect("nothing stops it").rows.remove(0);
        *found.entry(choice.0).or_default() += 1.0 / DRAWS as f64;
    }
    let weights: Vec<_> = (1..8).zip(counts.map(|count| count.powf(-0.7))).collect();
    assert_drawn("frequency", &found, &exact::without_replacement(&weights, 3));
}

/// Lengths 1, 2, 3 with P ∝ 1, 0.6, 0.36.
#[test]
fn spans_start_anywhere_and_have_geometric_lengths() {
    let row = TestRow::of_words(&[1, 3, 1, 2, 1, 1]);
    let words = [vec![1], vec![2, 3, 4], vec![5], vec![6, 7], vec![8], vec![9]];
    let lengths = [1.0, 0.6, 0.36].map(|weight| weight / 1.96);
    for (rate, budget) in [(0.11, 1), (0.45, 4), (0.6, 5)] {
        let config =
            config(&format!(r#"{{"rate": {rate}, "policy": {{"name": "span", "p": 0.4, "longest": 3}}}}"#));
        assert_drawn("span", &drawn(&config, &row), &exact::spans(&words, &lengths, budget));
    }
}

/// Masks of two epochs are independent: two sets of 30 of 200 share 4.5 on average, and over 400 rows the mean has a
/// standard deviation of 0.09, so that 6 of them are 0.54.
#[test]
fn epochs_are_independent() {
    let config = config("{}");
    let row = TestRow::of_words(&[1; 200]);
    let shared: usize = (0..400)
        .map(|number| {
            let row = TestRow { number, ..row.clone() };
            let [first, second] = [0, 1].map(|epoch| row.positions(&config, epoch));
            first.iter().filter(|position| second.contains(position)).count()
        })
        .sum();
    assert!((shared as f64 / 400.0 - 4.5).abs() < 0.54, "{shared}");
}

/// 1,000 rows of 126 tokens at 80 %: 100,800 masked tokens, split 80/10/10. Six standard deviations of a share are at
/// most 0.76 %, so that ±1 % fails for a correct program with a probability below 1e-8.
#[test]
fn corruption_splits_as_configured() {
    let config = config(r#"{"rate": 0.8, "corruption": {"mask": 0.8, "random": 0.1, "keep": 0.1}}"#);
    let row = TestRow::of_words(&[1; 126]);
    let (mut masked, mut kept, mut total) = (0, 0, 0);
    for number in 0..1000 {
        let row = TestRow { number, ..row.clone() };
        for (positions, inputs) in row.select(&config, 0).rows {
            total += inputs.len();
            masked += inputs.iter().filter(|input| **input == 103).count();
            let original = |position: &u16| row.input_ids[usize::from(*position)];
            kept +=
                positions.iter().zip(inputs).filter(|(position, input)| original(position) == *input).count();
        }
    }
    let share = |count: usize| count as f64 / total as f64;
    assert_eq!(total, 101_000);
    // A random token is the original one with probability 1/995.
    assert!((share(masked) - 0.8).abs() < 0.01 && (share(kept) - 0.1 - 0.1 / 995.0).abs() < 0.01);
}
