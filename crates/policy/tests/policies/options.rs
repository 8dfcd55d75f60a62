//! Options that hold for every policy: whole words, cap, spread, exclusion, budgets of a part, shortfall.

use entromask_policy::config::{Scope, Shortfall, Spread, WordScore};
use entromask_policy::{Config, Row, budget};
use proptest::prelude::*;

use crate::reference::{self, is_allowed};
use crate::row::{TestRow, config, policies, rows, select};

prop_compose! {
    /// Any policy with any options; what happens on a shortfall is left at `relax`.
    fn configs()(
        policy in policies(),
        rate in 0.01f64..=0.9,
        whole_word in prop::option::of(prop_oneof![Just(WordScore::Max), Just(WordScore::Mean)]),
        cap in prop::option::of(0.01f64..0.5),
        spread in prop::option::of((0.05f64..0.9, 2usize..30)),
    ) -> Config {
        let mut config = config(&format!(r#"{{"policy": {policy}}}"#));
        config.rate = rate.into();
        config.whole_word = whole_word;
        config.cap = cap;
        config.spread = spread.map(|(share, window)| Spread { share, window });
        config
    }
}

/// Rows in which some of the token ids may not be masked.
fn some_excluded() -> impl Strategy<Value = TestRow> {
    (rows(), prop::collection::vec(200usize..230, 0..8)).prop_map(|(mut row, ids)| {
        row.excluded = vec![false; 1000];
        for id in ids {
            row.excluded[id] = true;
        }
        row
    })
}

fn with(config: &Config, shortfall: Shortfall) -> Config {
    Config { shortfall, ..config.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn options_are_what_the_obvious_implementation_makes_of_them(row in some_excluded(), any in configs()) {
        for shortfall in [Shortfall::Relax, Shortfall::Accept] {
            for (policy, sign) in [("high", 1.0), ("low", -1.0)] {
                let policy = config(&format!(r#"{{"policy": {{"name": "{policy}"}}}}"#)).policy;
                let config = Config { policy, ..with(&any, shortfall) };
                prop_assert_eq!(row.select(&config, 0), reference::by_score(&config, &row, sign));
            }
        }
    }

    #[test]
    fn budgets_are_spent_as_far_as_there_is_something_to_mask(row in some_excluded(), config in configs()) {
        let choice = row.select(&config, 3);
        let positions = &choice.rows[0].0;
        let wanted = budget(config.rate.at(3), row.maskable());
        prop_assert_eq!(positions.len() + choice.short as usize, wanted);
        let open = reference::units(&config, &row).into_iter().filter(|u| !positions.contains(&u.positions[0]));
        prop_assert!(open.map(|unit| unit.positions.len()).all(|size| size > choice.short as usize));
        for &position in positions {
            prop_assert!(row.word[usize::from(position)].is_some(), "a special token");
            prop_assert!(!row.excluded[row.input_ids[usize::from(position)] as usize], "an excluded token");
        }
        prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(&choice, &row.select(&config, 3), "deterministic");
    }

    #[test]
    fn whole_words_are_masked_whole(row in some_excluded(), config in configs()) {
        prop_assume!(config.whole_word.is_some());
        let positions = row.positions(&config, 0);
        for unit in reference::units(&config, &row) {
            let masked = unit.positions.iter().filter(|position| positions.contains(position)).count();
            prop_assert!(masked == 0 || masked == unit.positions.len(), "{:?}", unit.positions);
        }
    }

    #[test]
    fn cap_and_spread_hold_or_the_shortfall_is_reported(row in some_excluded(), config in configs()) {
        let wanted = budget(config.rate.at(0), row.maskable());
        let accepted = row.select(&with(&config, Shortfall::Accept), 0);
        let strict = &accepted.rows[0].0;
        prop_assert!(is_allowed(&config, &row, wanted, strict));
        prop_assert_eq!(accepted.relaxed, 0);
        prop_assert_eq!(strict.len() + accepted.short as usize, wanted);

        let relaxed = row.select(&config, 0);
        let positions = &relaxed.rows[0].0;
        prop_assert_eq!(positions.len(), strict.len() + relaxed.relaxed as usize);
        prop_assert!(strict.iter().all(|position| positions.contains(position)));
        if relaxed.relaxed == 0 {
            prop_assert!(is_allowed(&config, &row, wanted, positions));
        }

        let failed = row.try_select(&with(&config, Shortfall::Fail), 0);
        match failed {
            Ok(choice) => prop_assert_eq!((choice, 0), (relaxed.clone(), relaxed.relaxed)),
            Err(error) => {
                let missing = format!("cap and spread leave {} tokens", relaxed.relaxed);
                prop_assert!(relaxed.relaxed > 0 && error.to_string().contains(&missing), "{}", error);
                prop_assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
            }
        }
    }

    #[test]
    fn a_part_has_one_budget(many in prop::collection::vec(rows(), 1..6), any in configs()) {
        let config = Config { budget: Scope::Shard, shortfall: Shortfall::Accept, ..any };
        let rows: Vec<Row> = many.iter().map(TestRow::as_row).collect();
        let choice = select(&config, &rows, &[], 0).expect("accepted");
        let maskable = many.iter().map(TestRow::maskable).sum();
        let masked: usize = choice.rows.iter().map(|(positions, _)| positions.len()).sum();
        prop_assert_eq!(choice.rows.len(), many.len());
        prop_assert_eq!(masked + choice.short as usize, budget(config.rate.at(0), maskable));
        for (row, (positions, inputs)) in many.iter().zip(&choice.rows) {
            prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(positions.iter().all(|&position| row.word[usize::from(position)].is_some()));
            prop_assert_eq!(positions.len(), inputs.len());
            let spread_only = Config { cap: None, ..config.clone() };
            prop_assert!(is_allowed(&spread_only, row, 0, positions), "spread looks at each row by itself");
        }
        if let (None, None, None) = (config.whole_word, config.cap, config.spread) {
            prop_assert_eq!(choice.short, 0);
        }
    }

    #[test]
    fn a_part_gets_the_highest_scores_of_all_rows(many in prop::collection::vec(rows(), 1..6), rate in 0.05f64..0.9) {
        let mut config = config(r#"{"policy": {"name": "high"}, "budget": "shard"}"#);
        config.rate = rate.into();
        let rows: Vec<Row> = many.iter().map(TestRow::as_row).collect();
        let choice = select(&config, &rows, &[], 0).expect("nothing stops it");
        let (mut masked, mut others) = (Vec::new(), Vec::new());
        for (row, (positions, _)) in many.iter().zip(&choice.rows) {
            for (position, score) in row.scored() {
                if positions.contains(&position) { masked.push(score) } else { others.push(score) }
            }
        }
        let least = masked.iter().copied().fold(f32::MAX, f32::min);
        prop_assert!(others.iter().all(|score| *score <= least));
    }
}

#[test]
fn spread_counts_in_every_window() {
    let config = config(
        r#"{"rate": 0.3, "policy": {"name": "high"}, "spread": {"share": 0.34, "window": 3}, "shortfall": "accept"}"#,
    );
    let mut row = TestRow::of_words(&[1; 9]);
    row.scores = (0..11).map(|i| (1..10).contains(&i).then_some(i as f32)).collect();
    assert_eq!(row.positions(&config, 0), [3, 6, 9], "one in any three");
}

/// With gaps as wide as the window the places of this part would not be 32-bit numbers.
#[test]
fn a_window_wider_than_all_rows_is_as_wide_as_they_are() {
    let row = TestRow::of_words(&[1, 1]);
    let rows = vec![row.as_row(); 1 << 16];
    let choose = |share: f64, window: usize| {
        let mut config = config(r#"{"rate": 0.5, "policy": {"name": "high"}, "budget": "shard"}"#);
        config.spread = Some(Spread { share, window });
        select(&config, &rows, &[], 0).expect("there is room for one token in each row")
    };
    let wide = choose(1e-5, 65_535);
    assert_eq!((wide.relaxed, wide.rows[65_535].0.as_slice()), (0, &[2][..]));
    assert_eq!(wide.rows, choose(0.25, 4).rows);
}

#[test]
fn a_cap_allows_one_occurrence_even_if_its_share_is_less() {
    let config = config(r#"{"rate": 0.5, "policy": {"name": "high"}, "cap": 0.1, "shortfall": "accept"}"#);
    let mut row = TestRow::of_words(&[1; 8]);
    row.input_ids[1..9].copy_from_slice(&[7, 7, 7, 7, 8, 8, 9, 9]);
    row.scores = (0..10).map(|i| (1..9).contains(&i).then_some(10.0 - i as f32)).collect();
    let choice = row.select(&config, 0);
    assert_eq!((choice.rows[0].0.as_slice(), choice.short), (&[1, 5, 7][..], 1));
}

#[test]
fn a_word_too_long_for_the_budget_is_passed_over() {
    let config = config(r#"{"rate": 0.3, "policy": {"name": "high"}, "whole_word": "max"}"#);
    let mut row = TestRow::of_words(&[4, 2, 2, 1, 1]);
    row.scores =
        [[None].as_slice(), &[Some(9.0); 4], &[Some(1.0); 2], &[Some(2.0); 2], &[Some(0.1); 2], &[None]]
            .concat();
    let choice = row.select(&config, 0);
    assert_eq!((choice.rows[0].0.as_slice(), choice.short), (&[7, 8, 9][..], 0));
}

/// A word of XLM-R is all that stands between two spaces: "hello," has a comma.
#[test]
fn an_excluded_piece_does_not_spare_its_word() {
    let config = config(r#"{"rate": 0.5, "policy": {"name": "high"}, "whole_word": "mean"}"#);
    let mut row = TestRow::of_words(&[3, 1, 2]);
    row.scores = [None, Some(2.0), Some(9.0), Some(3.0), Some(1.0), Some(0.5), Some(0.5), None].to_vec();
    row.excluded = (0..300).map(|id| id == 202 || id == 204).collect();
    let choice = row.select(&config, 0);
    assert_eq!((choice.rows[0].0.as_slice(), choice.short), (&[1, 3][..], 1));
}
