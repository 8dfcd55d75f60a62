//! Whether a difference depends on what else was chosen: differences of differences.

use std::collections::BTreeSet;

use entromask_report::compare::{Difference, Verdict};
use serde::Serialize;

use super::findings::System;
use super::measure::Line;

/// How much the difference within one pair lies above that within another.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// What is measured: a task, or the loss.
    pub measure: String,
    /// A system and one of its baselines.
    pub pair: Pair,
    /// The pair of the grid that is nearest to it: it differs within itself by the same choices, and few other choices, the same
    /// ones for both of its systems, lead from it to the first pair.
    pub reference: Pair,
    /// Over seeds that all four have, by how much the first difference lies above the second.
    pub change: Difference,
    /// What that shows, in words.
    pub verdict: String,
}

/// A system and its baseline, as indices into [`Findings::systems`](super::Findings::systems).
pub type Pair = [usize; 2];

/// What the runs of a system have, by seed.
type Values = Vec<(u64, f64)>;

/// All contrasts of some measures, `lines` of which hold the values of all systems.
pub(super) fn contrasts(systems: &[System], lines: &[Line], lower_is_better: bool) -> Vec<Contrast> {
    let mut measures: Vec<&str> = lines.iter().map(|line| line.measure.as_str()).collect();
    measures.dedup();
    let of_measure = |measure: &str| {
        let values = |system: usize, _: &[usize]| {
            let line = lines.iter().find(|line| line.measure == measure && line.system == system);
            line.map(|line| line.values.clone()).unwrap_or_default()
        };
        contrasts_of(systems, measure, lower_is_better, &values)
    };
    measures.into_iter().flat_map(of_measure).collect()
}

/// All contrasts of one measure; `values` are those of a system where these four are held against each other, by seed.
pub(super) fn contrasts_of(
    systems: &[System],
    measure: &str,
    lower_is_better: bool,
    values: &dyn Fn(usize, &[usize]) -> Values,
) -> Vec<Contrast> {
    let contrast = |(pair, reference): (Pair, Pair)| {
        let four = [pair, reference].concat();
        let of = |pair: Pair| pair.map(|system| values(system, &four));
        let change = change(&of(pair), &of(reference))?;
        let verdict = verdict(&change, lower_is_better).into();
        Some(Contrast { measure: measure.to_owned(), pair, reference, change, verdict })
    };
    comparable(systems).into_iter().filter_map(contrast).collect()
}

/// Pairs, each with an earlier one that it can be held against: what tells its two systems apart tells those of the other apart,
/// and from one pair to the other both systems change by the same further choices, of all pairs by the fewest. Four systems are
/// held against each other once.
fn comparable(systems: &[System]) -> Vec<(Pair, Pair)> {
    let choice = |system: usize| &systems[system].choice;
    let all: Vec<Pair> = (0..systems.len())
        .flat_map(|system| systems[system].baselines.iter().map(move |&baseline| [system, baseline]))
        .collect();
    let within = |[system, baseline]: Pair| choice(system).differing(choice(baseline));
    let across = |side: usize, pair: Pair, other: Pair| choice(pair[side]).differing(choice(other[side]));
    let distance = |pair: Pair, other: Pair| {
        let (moved, apart) = (across(0, pair, other), within(pair));
        let fits = apart == within(other) && moved == across(1, pair, other) && moved.is_disjoint(&apart);
        (fits && !moved.is_empty()).then_some(moved.len())
    };
    let mut seen = BTreeSet::new();
    let found = all.iter().enumerate().filter_map(|(index, &pair)| {
        let (steps, reference) = nearest(&all[..index], |other| distance(pair, other))?;
        let later = nearest(&all[index..], |other| distance(pair, other));
        let is_nearest = later.is_none_or(|(fewest, _)| steps <= fewest);
        let four: BTreeSet<usize> = pair.into_iter().chain(reference).collect();
        (is_nearest && seen.insert(four)).then_some((pair, reference))
    });
    found.collect()
}

/// The first of those pairs that are nearest, and how far it is.
fn nearest(pairs: &[Pair], distance: impl Fn(Pair) -> Option<usize>) -> Option<(usize, Pair)> {
    let measured = pairs.iter().filter_map(|&pair| Some((distance(pair)?, pair)));
    measured.min_by_key(|(distance, _)| *distance)
}

/// None without a seed that all four have, and where both pairs have the same values: what was varied does not bear on them.
fn change(pair: &[Values; 2], reference: &[Values; 2]) -> Option<Difference> {
    let at = |values: &[(u64, f64)], seed| {
        values.iter().find(|(found, _)| *found == seed).map(|(_, value)| *value)
    };
    let within = |[system, baseline]: &[Values; 2], seed| Some(at(system, seed)? - at(baseline, seed)?);
    let seeds = pair[0].iter().map(|(seed, _)| *seed);
    let values: Vec<f64> =
        seeds.filter_map(|seed| Some(within(pair, seed)? - within(reference, seed)?)).collect();
    (!values.is_empty() && pair != reference).then(|| Difference::new(values))
}

fn verdict(change: &Difference, lower_is_better: bool) -> &'static str {
    match (change.verdict(), lower_is_better) {
        (Verdict::Better, false) | (Verdict::Worse, true) => "better than there",
        (Verdict::Worse, false) | (Verdict::Better, true) => "worse than there",
        (verdict, _) => verdict.words(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::grid::{Choice, Grid, Source};
    use crate::report::findings;

    fn system(strategy: &str, distillation: &str, data: f64, baselines: &[usize]) -> System {
        let by_teacher = strategy != "random";
        let choice = Choice {
            strategy: strategy.into(),
            distillation: distillation.into(),
            data,
            source: if by_teacher { Source::Teacher } else { Source::None },
            teacher: if by_teacher || !distillation.is_empty() { "mini" } else { "" }.into(),
            ..Choice::default()
        };
        System {
            label: String::new(),
            choice,
            baselines: baselines.to_vec(),
            is_baseline: baselines.is_empty(),
            runs: vec![],
        }
    }

    #[test]
    fn masks_with_distillation_are_held_against_masks_without() {
        let systems = [
            system("random", "", 1.0, &[]),
            system("mixed", "", 1.0, &[0]),
            system("random", "kd", 1.0, &[0]),
            // Its baselines: random without distillation, itself without it, random with it.
            system("mixed", "kd", 1.0, &[0, 1, 2]),
        ];
        assert_eq!(comparable(&systems), [([3, 1], [2, 0])], "the other way round is the same contrast");
    }

    #[test]
    fn amounts_of_data_are_held_against_the_first_one() {
        let systems = [
            system("random", "", 1.0, &[]),
            system("sample", "", 1.0, &[0]),
            system("high", "", 1.0, &[0]),
            system("random", "", 0.5, &[]),
            system("sample", "", 0.5, &[3]),
            system("high", "", 0.5, &[3]),
            system("random", "", 0.25, &[]),
            system("sample", "", 0.25, &[6]),
        ];
        assert_eq!(comparable(&systems), [([4, 3], [1, 0]), ([5, 3], [2, 0]), ([7, 6], [1, 0])]);
    }

    #[test]
    fn what_is_varied_within_a_pair_is_not_what_tells_pairs_apart() {
        let rate = |rate, baselines: &[usize]| {
            let one = system("mixed", "", 1.0, baselines);
            System { choice: Choice { rate: Some(rate), ..one.choice.clone() }, ..one }
        };
        // Each of two rates is the other one's baseline.
        assert_eq!(comparable(&[rate(0.15, &[1]), rate(0.3, &[0]), rate(0.5, &[0, 1])]), []);
    }

    /// In the grids of the paper's tables one choice leads from each pair to the one that it is held against.
    #[test]
    fn the_committed_grids_hold_against_each_other_what_one_choice_tells_apart() -> anyhow::Result<()> {
        let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines");
        let wanted = [
            ("strategies", 0),
            ("distillation", 4),
            ("transfer", 6),
            ("data", 4),
            ("rate", 4),
            ("cpu-first", 0),
            ("cpu-self", 0),
            ("cpu-teacher", 1),
        ];
        for (name, count) in wanted {
            let grid = Grid::load(&pipelines.join(format!("grid/{name}.toml")), &pipelines)?;
            let systems = findings::systems(&grid);
            let found = comparable(&systems);
            assert_eq!(found.len(), count, "{name}");
            for (pair, reference) in found {
                let [own, other] = [pair[1], reference[1]].map(|system| &systems[system].choice);
                let moved = own.differing(other);
                // The amount of data goes with the number of epochs, so that runs are equally long.
                let one = moved.len() == 1 || (name == "data" && moved.len() == 2);
                assert!(one, "{name}: {} against {}", systems[pair[0]].label, systems[reference[0]].label);
            }
        }
        Ok(())
    }

    #[test]
    fn seeds_are_paired_over_all_four() {
        let reference = [vec![(1, 5.0), (2, 6.0), (3, 7.0)], vec![(1, 5.5), (2, 6.25), (3, 7.5)]];
        let pair = [vec![(2, 4.0), (1, 3.0)], vec![(1, 4.0), (2, 4.765_625), (3, 5.0)]];
        let found = change(&pair, &reference).expect("two seeds");
        assert_eq!(found.values, [-0.765_625 + 0.25, -1.0 + 0.5]);
        assert_eq!(
            (verdict(&found, true), verdict(&found, false)),
            ("better than there", "worse than there")
        );
        assert!(change(&reference, &reference).is_none());
        assert!(change(&[vec![], vec![]], &reference).is_none());
    }
}
