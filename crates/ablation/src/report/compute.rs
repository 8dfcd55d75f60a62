//! The loss where two systems have spent as much.

use super::contrast::contrasts_of;
use super::costs::without;
use super::curve::{Axis, Point, loss_at, tokens_at};
use super::findings::{RunFindings, System};
use super::measure::{Group, Line, comparisons, line, losses_group, values};

const MEASURE: &str = "validation loss";
/// How far apart parts of schedules may be, to compare losses there.
const SAME_PART: f64 = 0.05;

const NOTE: &str = "The same loss when as many operations were spent, the teacher's training and all scoring included: of \
                    each pair where the first of its runs ends (column `at`). Models of a single step are left out. Between \
                    validations it is interpolated. The learning rate of a longer run has not fallen yet there, and a run \
                    planned for this budget may end elsewhere: where the two are at different parts of their schedules, \
                    nothing is said to be shown.";

/// Losses at equal compute, but for the training of the teachers that are `uncharged`; none without a run that was trained.
pub(super) fn group(systems: &[System], runs: &[RunFindings], uncharged: &[String]) -> Option<Group> {
    let at = Spending { systems, runs };
    let lines: Vec<Line> = comparisons(systems).filter_map(|pair| at.line(pair)).collect();
    let contrasts = contrasts_of(systems, MEASURE, true, &|system, four| at.comparable(system, four));
    let is_there = lines.iter().any(|line| !line.values.is_empty());
    let (title, note) = ("Validation loss at equal compute", format!("{NOTE}{}", without(uncharged)));
    let group = || losses_group((systems, runs), title, note, (lines, contrasts));
    is_there.then(group)
}

struct Spending<'a> {
    systems: &'a [System],
    runs: &'a [RunFindings],
}

impl Spending<'_> {
    /// A system beside a baseline where the first of them ends; none if one of them was not trained.
    fn line(&self, (system, against): (usize, Option<usize>)) -> Option<Line> {
        let which: Vec<usize> = [system].into_iter().chain(against).collect();
        if which.iter().any(|&system| self.is_untrained(system)) {
            return None;
        }
        let flops = self.first_end(&which);
        let at = |run: &RunFindings| Some((loss_at(&run.curve, Axis::Flops, flops?)?, None));
        let mut line = line((self.systems, self.runs), (system, against), (MEASURE, true), &at);
        line.at_flops = flops;
        if let Some(verdict) = flops.and_then(|flops| self.reservation(&line, flops)) {
            line.verdict = verdict;
        }
        Some(line)
    }

    /// What has to be said instead of a verdict. A run that was still waiting for its teacher has no loss.
    fn reservation(&self, line: &Line, flops: f64) -> Option<String> {
        let against = line.against?;
        let waits = |system: usize| self.has_curve(system) && self.part_of(system, flops).is_none();
        if waits(line.system) {
            return Some("not begun by then".into());
        }
        if waits(against) && line.difference.is_none() && self.has_curve(line.system) {
            return Some("its baseline had not begun by then".into());
        }
        let (own, others) = (self.part_of(line.system, flops)?, self.part_of(against, flops)?);
        let apart = (own - others).abs() > SAME_PART;
        apart.then(|| format!("at {:.0} % of its tokens, beside {:.0} %", 100.0 * own, 100.0 * others))
    }

    /// The losses of a system where the first of four ends, if all are at the same part of their schedules there.
    fn comparable(&self, system: usize, four: &[usize]) -> Vec<(u64, f64)> {
        let flops = self.first_end(four).filter(|_| !four.iter().any(|&system| self.is_untrained(system)));
        let parts =
            |flops| four.iter().map(|&system| self.part_of(system, flops)).collect::<Option<Vec<_>>>();
        let alike = |parts: Vec<f64>| parts.iter().all(|part| (part - parts[0]).abs() <= SAME_PART);
        let Some(flops) = flops.filter(|&flops| parts(flops).is_some_and(alike)) else { return vec![] };
        values(&self.systems[system], self.runs, &|run| {
            Some((loss_at(&run.curve, Axis::Flops, flops)?, None))
        })
    }

    fn curves(&self, system: usize) -> impl Iterator<Item = &[Point]> {
        let curves = self.systems[system].runs.iter().map(|&run| &self.runs[run].curve[..]);
        curves.filter(|curve| !curve.is_empty())
    }

    fn has_curve(&self, system: usize) -> bool {
        self.curves(system).next().is_some()
    }

    /// Whether its models are there to be compared with what was trained.
    fn is_untrained(&self, system: usize) -> bool {
        let ends_at_once = |curve: &[Point]| curve.last().is_some_and(|point| point.step <= 1);
        self.has_curve(system) && self.curves(system).all(ends_at_once)
    }

    /// Where that run ends that ends first.
    fn first_end(&self, systems: &[usize]) -> Option<f64> {
        let curves = systems.iter().flat_map(|&system| self.curves(system));
        curves.filter_map(|curve| curve.last()).map(|point| point.flops).reduce(f64::min)
    }

    /// The share of its tokens that a system has seen when `flops` were spent, on average over its runs.
    fn part_of(&self, system: usize, flops: f64) -> Option<f64> {
        let part = |curve: &[Point]| Some(tokens_at(curve, flops)? / curve.last()?.tokens);
        let parts: Vec<f64> = self.curves(system).filter_map(part).collect();
        (!parts.is_empty()).then(|| parts.iter().sum::<f64>() / parts.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::measure::tests::system;

    /// Losses by operations; a step takes one of them.
    fn run(system: usize, seed: u64, curve: &[(f64, f64)]) -> RunFindings {
        let begin = curve.first().map_or(0.0, |point| point.0);
        let point = |&(flops, loss): &(f64, f64)| {
            let tokens = flops - begin;
            Point { step: tokens as u64, tokens, flops, seconds: 0.0, loss }
        };
        RunFindings { system, seed, curve: curve.iter().map(point).collect(), ..RunFindings::default() }
    }

    fn verdicts(group: &Group) -> Vec<&str> {
        group.lines.iter().map(|line| line.verdict.as_str()).collect()
    }

    #[test]
    fn a_run_that_has_not_begun_at_some_compute_is_not_missing() {
        let mut runs = [
            run(0, 1, &[(0.0, 10.0), (4.0, 6.0)]),
            run(1, 1, &[(9.0, 10.0), (13.0, 5.0)]),
            RunFindings { system: 2, seed: 1, ..RunFindings::default() },
        ];
        runs[2].missing = Some("a model".into());
        let systems = [system(None, &[0]), system(Some(0), &[1]), system(Some(0), &[2])];
        let found = group(&systems, &runs, &[]).expect("curves");
        assert_eq!(verdicts(&found), ["baseline", "not begun by then", "missing"]);
        let systems = [system(Some(1), &[0]), system(None, &[1])];
        let found = group(&systems, &runs, &[]).expect("curves");
        assert_eq!(verdicts(&found), ["its baseline had not begun by then", "baseline"]);
        assert!(group(&[system(None, &[2])], &runs, &[]).is_none(), "nothing was trained");
    }

    /// Of two runs of one budget one was trained by half when the other was done.
    #[test]
    fn nothing_is_shown_between_different_parts_of_two_schedules() {
        let systems = [system(None, &[0, 1]), system(Some(0), &[2, 3]), system(Some(0), &[4, 5])];
        let runs: Vec<_> = [4.0, 4.0, 8.0, 8.0, 4.0, 4.0]
            .into_iter()
            .enumerate()
            .map(|(index, end)| {
                let loss = 6.0 + 0.01 * index as f64;
                run(index / 2, 1 + index as u64 % 2, &[(0.0, 10.0), (4.0, loss), (end, loss)])
            })
            .collect();
        let found = group(&systems, &runs, &[]).expect("curves");
        assert_eq!(found.lines[1].verdict, "at 50 % of its tokens, beside 100 %");
        assert!(found.lines[1].difference.is_some());
        assert_eq!(found.lines[2].verdict, "pairs differ alike: nothing shown");
    }

    /// A cheap run and an untrained one do not decide where others are compared: at 8, and with the cheap one at 4.
    #[test]
    fn each_pair_is_compared_where_the_first_of_the_two_ends() {
        let systems = [
            system(None, &[0]),
            system(Some(0), &[1]),
            System { baselines: vec![0, 1], ..system(Some(0), &[2]) },
            system(Some(0), &[3]),
        ];
        let runs = [
            run(0, 1, &[(0.0, 10.0), (8.0, 6.0)]),
            run(1, 1, &[(0.0, 10.0), (4.0, 5.0)]),
            run(2, 1, &[(0.0, 10.0), (10.0, 5.0)]),
            run(3, 1, &[(0.0, 10.0), (1.0, 10.0)]),
        ];
        let found = group(&systems, &runs, &[]).expect("curves");
        let at = |line: &Line| (line.system, line.against, line.at_flops, line.mean);
        let expected = [
            (0, None, Some(8.0), Some(6.0)),
            (1, Some(0), Some(4.0), Some(5.0)),
            (2, Some(0), Some(8.0), Some(6.0)),
            (2, Some(1), Some(4.0), Some(8.0)),
        ];
        assert_eq!(found.lines.iter().map(at).collect::<Vec<_>>(), expected);
    }
}
