//! Properties of every policy, and what they draw.

use entromask_random::keyed;
use entromask_select::corruption::{Corruption, Vocabulary};
use entromask_select::policies::Policy;
use entromask_select::{Config, Row, budget, select_row};
use proptest::prelude::*;

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Random),
        Just(Policy::High),
        Just(Policy::Low),
        (0.01f64..100.0).prop_map(|temperature| Policy::Sample { temperature }),
        (0.0f64..=1.0, 0.01f64..100.0).prop_map(|(share, temperature)| Policy::Mixed { share, temperature }),
    ]
}

/// A row: each token special or not, with an entropy.
fn rows() -> impl Strategy<Value = Vec<Option<f32>>> {
    prop::collection::vec(prop::option::weighted(0.9, 0.0f32..10.3), 1..200)
}

fn vocabulary() -> Vocabulary {
    Vocabulary { size: 1000, mask: 103, special: vec![0, 100, 101, 102, 103] }
}

fn select(config: &Config, scores: &[Option<f32>], number: u64, epoch: u16) -> (Vec<u16>, Vec<u32>) {
    let input_ids: Vec<u32> = (0..scores.len() as u32).map(|i| 200 + i).collect();
    let word: Vec<Option<u16>> = scores.iter().enumerate().map(|(i, s)| s.map(|_| i as u16)).collect();
    select_row(config, &vocabulary(), Row { number, input_ids: &input_ids, word: &word, scores }, epoch)
}

proptest! {
    #[test]
    fn budget_is_exact_and_special_tokens_are_never_masked(
        policy in policies(), scores in rows(), rate in 0.01f64..=1.0, number in 0u64..1000, epoch in 0u16..10,
    ) {
        let config = Config { policy, rate, ..Config::default() };
        let (positions, inputs) = select(&config, &scores, number, epoch);
        let maskable = scores.iter().flatten().count();
        prop_assert_eq!(positions.len(), budget(rate, maskable));
        prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(positions.iter().all(|&position| scores[position as usize].is_some()));
        prop_assert_eq!(inputs, vec![103; positions.len()]);
        prop_assert_eq!(&positions, &select(&config, &scores, number, epoch).0, "deterministic");
    }

    #[test]
    fn high_and_low_are_what_sorting_gives(scores in rows(), rate in 0.01f64..=1.0) {
        for (policy, sign) in [(Policy::High, -1.0), (Policy::Low, 1.0)] {
            let (positions, _) = select(&Config { policy, rate, ..Config::default() }, &scores, 0, 0);
            let mut sorted: Vec<(f32, u16)> =
                scores.iter().enumerate().filter_map(|(i, s)| Some((sign * (*s)?, i as u16))).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut expected: Vec<u16> = sorted.iter().take(positions.len()).map(|&(_, i)| i).collect();
            expected.sort_unstable();
            prop_assert_eq!(positions, expected);
        }
    }

    #[test]
    fn sampling_at_a_low_temperature_is_high(scores in rows(), number in 0u64..1000) {
        let distinct: std::collections::BTreeSet<u32> = scores.iter().flatten().map(|s| s.to_bits()).collect();
        prop_assume!(distinct.len() == scores.iter().flatten().count());
        let at = |policy| select(&Config { policy, ..Config::default() }, &scores, number, 0).0;
        prop_assert_eq!(at(Policy::Sample { temperature: 1e-12 }), at(Policy::High));
    }
}

#[test]
fn budget_rounds_half_away_from_zero_and_is_at_least_one() {
    assert_eq!([10, 1, 0, 126].map(|maskable| budget(0.15, maskable)), [2, 1, 0, 19]);
    assert_eq!(budget(1.0, 7), 7);
}

/// How often each of `scores` is chosen first, in 100,000 draws of one.
fn first_choices(policy: Policy, scores: &[f32]) -> Vec<f64> {
    let mut counts = vec![0.0; scores.len()];
    for row in 0..100_000 {
        counts[policy.select(scores, 1, &mut keyed(3, "test", row, 0))[0]] += 1e-5;
    }
    counts
}

/// 6 standard deviations of a share in 100,000 draws are at most 0.0095.
#[test]
fn sample_draws_in_proportion_to_exp_of_the_score() {
    let scores = [0.0f32, 1.0, 2.0, 3.0];
    let weights = scores.map(|score| f64::from(score / 2.0).exp());
    let total: f64 = weights.iter().sum();
    for (share, weight) in first_choices(Policy::Sample { temperature: 2.0 }, &scores).iter().zip(weights) {
        assert!((share - weight / total).abs() < 0.0095, "{share} {}", weight / total);
    }
}

#[test]
fn random_and_sampling_at_a_high_temperature_are_uniform() {
    let scores = [0.0f32, 5.0, 10.0, 2.0, 1.0];
    for policy in
        [Policy::Random, Policy::Sample { temperature: 1e9 }, Policy::Mixed { share: 1.0, temperature: 1.0 }]
    {
        assert!(
            first_choices(policy, &scores).iter().all(|share| (share - 0.2).abs() < 0.0095),
            "{policy:?}"
        );
    }
}

/// Half of the budget by score: with two tokens of overwhelming score and a budget of four, both are always there.
#[test]
fn mixed_keeps_its_shares() {
    let scores: Vec<f32> = (0..40).map(|i| if i < 2 { 100.0 } else { 0.0 }).collect();
    let policy = Policy::Mixed { share: 0.5, temperature: 0.1 };
    for row in 0..200 {
        let chosen = policy.select(&scores, 4, &mut keyed(4, "test", row, 0));
        assert_eq!(chosen.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert!(chosen.contains(&0) && chosen.contains(&1), "{chosen:?}");
    }
}

/// Masks of two epochs are independent: two sets of 30 of 200 share 4.5 on average, and over 400 rows the mean has a
/// standard deviation of 0.09.
#[test]
fn epochs_differ() {
    let scores = vec![Some(1.0f32); 200];
    let config = Config::default();
    let shared: usize = (0..400)
        .map(|row| {
            let [first, second] = [0, 1].map(|epoch| select(&config, &scores, row, epoch).0);
            first.iter().filter(|position| second.contains(position)).count()
        })
        .sum();
    assert!((shared as f64 / 400.0 - 4.5).abs() < 0.54, "{shared}");
}

#[test]
fn corruption_keeps_the_positions() {
    let scores = vec![Some(1.0f32); 200];
    let corruption = Corruption { mask: 0.8, random: 0.1, keep: 0.1 };
    let plain = select(&Config::default(), &scores, 5, 0);
    let (positions, inputs) = select(&Config { corruption, ..Config::default() }, &scores, 5, 0);
    assert_eq!(positions, plain.0);
    assert!(inputs.contains(&103) && inputs.iter().any(|&id| id != 103));
}
