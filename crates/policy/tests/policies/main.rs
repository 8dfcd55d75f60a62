//! What the policies choose: against slow and obvious implementations, as properties, and in distribution.

mod distribution;
mod exact;
mod options;
mod reference;
mod row;

use entromask_policy::budget;
use proptest::prelude::*;
use row::{TestRow, config, policies, rows};

/// Deterministic policies that only look at scores; each with the sign of what it prefers.
const BY_SCORE: [(&str, f32); 3] = [
    (r#"{"policy": {"name": "high"}}"#, 1.0),
    (r#"{"policy": {"name": "low"}}"#, -1.0),
    (r#"{"policy": {"name": "reducible"}}"#, 1.0),
];

proptest! {
    #[test]
    fn budgets_are_exact_and_special_tokens_are_never_masked(
        policy in policies(), row in rows(), rate in 0.01f64..=1.0, epoch in 0u16..10,
    ) {
        let mut config = config(&format!(r#"{{"policy": {policy}}}"#));
        config.rate = rate.into();
        let choice = row.select(&config, epoch);
        let (positions, inputs) = &choice.rows[0];
        prop_assert_eq!(positions.len(), budget(rate, row.maskable()));
        prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(positions.iter().all(|&position| row.word[usize::from(position)].is_some()));
        prop_assert_eq!(inputs, &vec![103; positions.len()]);
        prop_assert_eq!((choice.short, choice.relaxed), (0, 0));
        prop_assert_eq!(&choice, &row.select(&config, epoch), "deterministic");
    }

    #[test]
    fn deterministic_policies_are_what_sorting_gives(row in rows(), rate in 0.01f64..=1.0) {
        for (text, sign) in BY_SCORE {
            let mut config = config(text);
            config.rate = rate.into();
            let positions = row.positions(&config, 0);
            let mut sorted = row.scored();
            sorted.sort_by(|a, b| (sign * b.1).total_cmp(&(sign * a.1)).then(a.0.cmp(&b.0)));
            let mut expected: Vec<u16> = sorted.iter().take(positions.len()).map(|&(i, _)| i).collect();
            expected.sort_unstable();
            prop_assert_eq!(positions, expected, "{}", text);
        }
    }

    #[test]
    fn a_higher_entropy_keeps_a_token_masked(row in rows(), which in any::<prop::sample::Index>(), by in 0.0f32..5.0) {
        let config = config(BY_SCORE[0].0);
        let before = row.positions(&config, 0);
        prop_assume!(!before.is_empty());
        let raised = before[which.index(before.len())];
        let mut row = row;
        row.scores[usize::from(raised)] = row.scores[usize::from(raised)].map(|score| score + by);
        prop_assert_eq!(row.positions(&config, 0), before);
    }

    #[test]
    fn sampling_at_a_low_temperature_is_high(row in rows(), number in 0u64..1000) {
        let distinct: std::collections::BTreeSet<u32> = row.scores.iter().flatten().map(|s| s.to_bits()).collect();
        prop_assume!(distinct.len() == row.maskable());
        let row = TestRow { number, ..row };
        let cold = config(r#"{"policy": {"name": "sample", "temperature": 1e-12}}"#);
        prop_assert_eq!(row.positions(&cold, 0), row.positions(&config(BY_SCORE[0].0), 0));
        let cold = config(r#"{"policy": {"name": "mixed", "share": 0, "temperature": 1e-12}}"#);
        prop_assert_eq!(row.positions(&cold, 0), row.positions(&config(BY_SCORE[0].0), 0));
    }

    #[test]
    fn a_band_holds_its_quantiles(row in rows(), lo in 0.0f64..0.5, width in 0.16f64..0.5) {
        let config = config(&format!(r#"{{"policy": {{"name": "band", "lo": {lo}, "hi": {}}}}}"#, lo + width));
        let mut sorted = row.scored();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let n = sorted.len() as f64;
        let quantile = |position: u16| {
            let rank = sorted.iter().position(|(other, _)| *other == position).expect("maskable");
            (rank as f64 + 0.5) / n
        };
        let inside = |q: f64| (lo..=lo + width).contains(&q);
        let members = sorted.iter().filter(|(position, _)| inside(quantile(*position))).count();
        let found = row.positions(&config, 0);
        let chosen = found.iter().filter(|position| inside(quantile(**position))).count();
        prop_assert_eq!(chosen, members.min(found.len()), "nothing outside before everything inside");
        let outside = |q: f64| (lo - q).max(q - lo - width);
        let farthest = found.iter().map(|&position| outside(quantile(position))).fold(f64::MIN, f64::max);
        let mut nearer = sorted.iter().filter(|(position, _)| outside(quantile(*position)) < farthest - 1e-9);
        prop_assert!(farthest <= 0.0 || nearer.all(|(position, _)| found.contains(position)), "the nearest come first");
    }

    #[test]
    fn epochs_and_rows_do_not_depend_on_each_other(
        policy in policies(), many in prop::collection::vec(rows(), 2..5), epoch in 0u16..5,
    ) {
        let config = config(&format!(r#"{{"policy": {policy}}}"#));
        let numbered: Vec<_> =
            many.into_iter().zip(0..).map(|(row, number)| TestRow { number, ..row }).collect();
        let forward: Vec<_> = numbered.iter().map(|row| row.select(&config, epoch)).collect();
        let mut backward: Vec<_> = numbered.iter().rev().map(|row| row.select(&config, epoch)).collect();
        backward.reverse();
        prop_assert_eq!(forward, backward);
    }
}

#[test]
fn budgets_round_half_away_from_zero_and_are_at_least_one() {
    assert_eq!([10, 1, 0, 126].map(|maskable| budget(0.15, maskable)), [2, 1, 0, 19]);
    assert_eq!(budget(1.0, 7), 7);
}

#[test]
fn rate_temperature_and_share_follow_their_schedules() {
    let row = TestRow::of_words(&[1; 100]);
    let masked = |rate: &str| {
        let config = config(&format!(r#"{{"rate": {rate}}}"#));
        [0, 1, 2, 5].map(|epoch| row.positions(&config, epoch).len())
    };
    assert_eq!(masked(r#"{"shape": "linear", "from": 0.3, "to": 0.1, "epochs": 3}"#), [30, 20, 10, 10]);
    assert_eq!(masked(r#"{"shape": "cosine", "from": 0.3, "to": 0.1, "epochs": 3}"#), [30, 20, 10, 10]);
    assert_eq!(masked(r#"{"shape": "step", "values": [0.3, 0.15], "every": 2}"#), [30, 30, 15, 15]);

    // From random to entropy: in the first epoch all of the budget is random, in the last one it is `high`.
    let curriculum = config(
        r#"{"policy": {"name": "mixed", "temperature": 1e-9,
            "share": {"shape": "linear", "from": 1, "to": 0, "epochs": 3}}}"#,
    );
    let high = row.positions(&config(BY_SCORE[0].0), 0);
    let shared = [0, 1, 2].map(|epoch| {
        row.positions(&curriculum, epoch).iter().filter(|position| high.contains(position)).count()
    });
    assert!(shared[0] < 9 && (7..15).contains(&shared[1]) && shared[2] == 15, "{shared:?}");

    let cooling = config(
        r#"{"policy": {"name": "sample",
            "temperature": {"shape": "step", "values": [1e9, 1e-9], "every": 1}}}"#,
    );
    assert_ne!(row.positions(&cooling, 0), high);
    assert_eq!(row.positions(&cooling, 1), high);
}

/// Half of the budget by score: with two tokens of overwhelming score and a budget of four, both are always there.
#[test]
fn mixed_keeps_its_shares() {
    let mut row = TestRow::of_words(&[1; 40]);
    row.scores = (0..42).map(|i| (1..41).contains(&i).then_some(if i < 3 { 100.0 } else { 0.0 })).collect();
    let config = config(r#"{"rate": 0.1, "policy": {"name": "mixed", "share": 0.5, "temperature": 0.1}}"#);
    for epoch in 0..200 {
        let chosen = row.positions(&config, epoch);
        assert_eq!(chosen.len(), 4);
        assert!(chosen.contains(&1) && chosen.contains(&2), "{chosen:?}");
    }
}

#[test]
fn corruption_keeps_the_positions() {
    let row = TestRow::of_words(&[1; 200]);
    let corrupted = config(r#"{"corruption": {"mask": 0.8, "random": 0.1, "keep": 0.1}}"#);
    let (positions, inputs) = row.select(&corrupted, 0).rows.remove(0);
    assert_eq!(positions, row.positions(&config("{}"), 0));
    assert!(inputs.contains(&103) && inputs.iter().any(|&id| id != 103));
}

#[test]
fn rows_without_maskable_tokens_get_no_mask() {
    for text in ["{}", BY_SCORE[0].0, r#"{"policy": {"name": "span"}, "whole_word": "max"}"#] {
        let row = TestRow::of_words(&[]);
        assert_eq!(row.select(&config(text), 0).rows, [(vec![], vec![])], "{text}");
    }
}
