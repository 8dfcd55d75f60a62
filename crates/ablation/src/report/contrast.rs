//! Whether a difference depends on what else was chosen: differences of differences.

use std::collections::BTreeSet;

use entromask_report::compare::{Difference, Verdict};
use serde::Serialize;

use super::findings::System;
use super::measure::Line;
use crate::grid::{Axis, Choice};

/// How much the difference within one pair lies above that within another.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// What is measured: a task, or the loss.
    pub measure: String,
    /// A system and one of its baselines.
    pub pair: Pair,
    /// The first pair of the grid that differs within itself by the same choices.
    pub reference: Pair,
    /// Over seeds that all four have, by how much the first difference lies above the second.
    pub change: Difference,
    /// What that shows, in words.
    pub verdict: String,
}

/// A system and its baseline, as indices into [`Findings::systems`](super::Findings::systems).
pub type Pair = [usize; 2];

/// All contrasts of some measures, `lines` of which hold the values of all systems.
pub(super) fn contrasts(systems: &[System], lines: &[Line], lower_is_better: bool) -> Vec<Contrast> {
    let pairs = comparable(systems);
    let mut measures: Vec<&str> = lines.iter().map(|line| line.measure.as_str()).collect();
    measures.dedup();
    let of_measure = |measure: &&str| {
        let values = |system: usize| {
            let line = lines.iter().find(|line| line.measure == *measure && line.system == system);
            line.map(|line| &line.values[..]).unwrap_or_default()
        };
        let contrast = |&(pair, reference): &(Pair, Pair)| {
            let change = change(pair.map(values), reference.map(values))?;
            let verdict = verdict(&change, lower_is_better).into();
            Some(Contrast { measure: (*measure).to_owned(), pair, reference, change, verdict })
        };
        pairs.iter().filter_map(contrast).collect::<Vec<_>>()
    };
    measures.iter().flat_map(of_measure).collect()
}

/// Pairs, each with the first one that it can be held against: what tells its two systems apart tells those of the other apart,
/// and from one pair to the other both systems change by the same choices. Four systems are held against each other once.
fn comparable(systems: &[System]) -> Vec<(Pair, Pair)> {
    let choice = |system: usize| &systems[system].choice;
    let all: Vec<Pair> = (0..systems.len())
        .flat_map(|system| systems[system].baselines.iter().map(move |&baseline| [system, baseline]))
        .collect();
    let within = |[system, baseline]: Pair| choice(system).differing(choice(baseline));
    let across = |side: usize, pair: Pair, other: Pair| choice(pair[side]).differing(choice(other[side]));
    let fits = |pair: Pair, other: Pair| {
        let moved = across(0, pair, other);
        within(pair) == within(other) && !moved.is_empty() && moved == across(1, pair, other)
    };
    let mut seen = BTreeSet::new();
    let found = all.iter().enumerate().filter_map(|(index, &pair)| {
        let reference = *all[..index].iter().find(|&&other| fits(pair, other))?;
        let four: BTreeSet<usize> = pair.into_iter().chain(reference).collect();
        seen.insert(four).then_some((pair, reference))
    });
    found.collect()
}

/// None without a seed that all four have, and where both pairs have the same values: what was varied does not bear on them.
fn change(pair: [&[(u64, f64)]; 2], reference: [&[(u64, f64)]; 2]) -> Option<Difference> {
    let at = |values: &[(u64, f64)], seed| {
        values.iter().find(|(found, _)| *found == seed).map(|(_, value)| *value)
    };
    let within = |[system, baseline]: [&[(u64, f64)]; 2], seed| Some(at(system, seed)? - at(baseline, seed)?);
    let seeds = pair[0].iter().map(|(seed, _)| *seed);
    let values: Vec<f64> =
        seeds.filter_map(|seed| Some(within(pair, seed)? - within(reference, seed)?)).collect();
    (!values.is_empty() && pair != reference).then(|| Difference::new(values))
}

fn verdict(change: &Difference, lower_is_better: bool) -> &'static str {
    match (change.verdict(), lower_is_better) {
        (Verdict::Better, false) | (Verdict::Worse, true) => "helps more",
        (Verdict::Worse, false) | (Verdict::Better, true) => "helps less",
        (verdict, _) => verdict.words(),
    }
}

impl Choice {
    /// The axes, without the seed, that both make a choice on, and not the same one. What has a bearing on one of them only,
    /// as a teacher where nobody is asked, follows from another axis.
    fn differing(&self, other: &Self) -> BTreeSet<Axis> {
        let differs = |axis: &Axis| {
            let [own, theirs] = [self, other].map(|choice| choice.get(*axis));
            own != theirs && !(axis.is_dependent() && (own.is_empty() || theirs.is_empty()))
        };
        Axis::all().filter(|axis| *axis != Axis::Seed).filter(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Source;

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
    fn seeds_are_paired_over_all_four() {
        let reference = [&[(1, 5.0), (2, 6.0), (3, 7.0)][..], &[(1, 5.5), (2, 6.25), (3, 7.5)]];
        let pair = [&[(2, 4.0), (1, 3.0)][..], &[(1, 4.0), (2, 4.75), (3, 5.0)]];
        let found = change(pair, reference).expect("two seeds");
        assert_eq!(found.values, [-0.75 + 0.25, -1.0 + 0.5]);
        assert_eq!((verdict(&found, true), verdict(&found, false)), ("helps more", "helps less"));
        assert!(change(reference, reference).is_none());
        assert!(change([&[], &[]], reference).is_none());
    }
}
