//! Learning curves: the validation loss over tokens and over compute.

use std::path::Path;

use entromask_artifact::Manifest;
use entromask_report::metrics::{Metrics, Validation};
use serde::{Deserialize, Serialize};

use super::costs::Spent;
use crate::plan::Account;

/// One validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Optimizer steps before it.
    pub step: u64,
    /// Tokens that the student was trained on before.
    pub tokens: f64,
    /// Operations before: of the student, and of the teacher and all scoring that had to be done first.
    pub flops: f64,
    /// Seconds before, likewise.
    pub seconds: f64,
    /// Nats a masked token.
    pub loss: f64,
}

/// What a curve goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Tokens.
    Tokens,
    /// Floating-point operations.
    Flops,
    /// Seconds.
    Seconds,
}

impl Point {
    /// Where it lies.
    pub fn at(&self, axis: Axis) -> f64 {
        match axis {
            Axis::Tokens => self.tokens,
            Axis::Flops => self.flops,
            Axis::Seconds => self.seconds,
        }
    }
}

/// The validations of a run. What stages before training took is charged before the first step; what comes between two
/// rounds, between them. Within a round, operations are those that its log tells, and seconds in proportion to them; where the
/// log does not tell, both are in proportion to tokens.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) of class input if a log cannot be read.
pub(super) fn read(parts: &[(Account, &Path, &Manifest)]) -> anyhow::Result<Vec<Point>> {
    let (mut points, mut before) = (Vec::new(), Spent::default());
    for (account, folder, manifest) in parts.iter().filter(|(account, ..)| account.is_charged()) {
        let spent = Spent::of(manifest);
        if *account == Account::Training {
            let metrics = Metrics::read(&folder.join("metrics.jsonl"))?;
            let new = round(&metrics, manifest, before, points.last());
            points.extend(new);
        }
        before = before.and(spent);
    }
    Ok(points)
}

/// The validations of one round; its log may begin with those of the rounds before. What is spent between two rounds does
/// not change the loss, so a round begins with the loss of the one before.
fn round(metrics: &Metrics, manifest: &Manifest, before: Spent, last: Option<&Point>) -> Vec<Point> {
    let (spent, own) = (Spent::of(manifest), manifest.cost.tokens as f64);
    let earlier = manifest.stats["tokens"].as_f64().unwrap_or(own) - own;
    let start = last.map(|last| Point { flops: before.flops, seconds: before.seconds, ..*last });
    let is_new = |valid: &&Validation| last.is_none_or(|last| valid.step > last.step);
    let new = metrics.validations.iter().filter(is_new);
    let is_told = spent.flops > 0.0 && new.clone().all(|valid| valid.flops.is_some());
    let point = |valid: &Validation| {
        let told = valid.flops.filter(|_| is_told).map(|flops| flops / spent.flops);
        let share = told.unwrap_or((valid.tokens as f64 - earlier) / own.max(1.0));
        let share = share.clamp(0.0, 1.0);
        Point {
            step: valid.step,
            tokens: valid.tokens as f64,
            flops: before.flops + share * spent.flops,
            seconds: before.seconds + share * spent.seconds,
            loss: valid.valid_loss,
        }
    };
    start.into_iter().chain(new.map(point)).collect()
}

/// The loss at a place between two validations, in a straight line; none before the first and after the last.
pub(super) fn loss_at(curve: &[Point], axis: Axis, place: f64) -> Option<f64> {
    value_at(curve, axis, place, |point| point.loss)
}

/// The tokens that were seen when `flops` were spent; none as with [`loss_at`].
pub(super) fn tokens_at(curve: &[Point], flops: f64) -> Option<f64> {
    value_at(curve, Axis::Flops, flops, |point| point.tokens)
}

fn value_at(curve: &[Point], axis: Axis, place: f64, value: fn(&Point) -> f64) -> Option<f64> {
    let after = curve.iter().position(|point| point.at(axis) >= place * (1.0 - 1e-12))?;
    let (low, high) = (curve.get(after.wrapping_sub(1)), &curve[after]);
    let Some(low) = low else { return (high.at(axis) <= place).then_some(value(high)) };
    let share = ((place - low.at(axis)) / (high.at(axis) - low.at(axis))).min(1.0);
    Some(value(low) + share * (value(high) - value(low)))
}

/// The mean over runs of the validations that all of them have; runs of one system are validated at the same steps.
pub(super) fn mean(curves: &[&[Point]]) -> Vec<Point> {
    let shortest = curves.iter().map(|curve| curve.len()).min().unwrap_or(0);
    let n = curves.len() as f64;
    let mean_at = |index: usize, value: fn(&Point) -> f64| {
        curves.iter().map(|curve| value(&curve[index])).sum::<f64>() / n
    };
    let same = |index: &usize| curves.iter().all(|curve| curve[*index].step == curves[0][*index].step);
    let point = |index: usize| Point {
        step: curves[0][index].step,
        tokens: mean_at(index, |point| point.tokens),
        flops: mean_at(index, |point| point.flops),
        seconds: mean_at(index, |point| point.seconds),
        loss: mean_at(index, |point| point.loss),
    };
    (0..shortest).take_while(same).map(point).collect()
}

/// The lowest and the highest loss over runs at each point of their [`mean`]; nothing for a single run.
pub(super) fn spread(curves: &[&[Point]]) -> Vec<[f64; 2]> {
    if curves.len() < 2 {
        return vec![];
    }
    let losses = |index: usize| curves.iter().map(move |curve| curve[index].loss);
    let ends = |index| [losses(index).fold(f64::MAX, f64::min), losses(index).fold(f64::MIN, f64::max)];
    (0..mean(curves).len()).map(ends).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point(step: u64, flops: f64, loss: f64) -> Point {
        Point { step, tokens: 10.0 * step as f64, flops, seconds: flops / 2.0, loss }
    }

    #[test]
    fn losses_between_validations_lie_on_a_line() {
        let curve = [point(0, 100.0, 10.0), point(1, 200.0, 8.0), point(2, 400.0, 7.0)];
        let at = |place| loss_at(&curve, Axis::Flops, place);
        assert_eq!(
            [at(100.0), at(150.0), at(300.0), at(400.0)],
            [Some(10.0), Some(9.0), Some(7.5), Some(7.0)]
        );
        assert_eq!((at(99.0), at(401.0)), (None, None), "it has not begun, or is over");
        assert_eq!(loss_at(&curve, Axis::Tokens, 5.0), Some(9.0));
        assert_eq!(loss_at(&[], Axis::Flops, 0.0), None);
    }

    #[test]
    fn the_mean_is_over_validations_that_all_have() {
        let a = [point(0, 0.0, 10.0), point(1, 2.0, 8.0), point(2, 4.0, 7.0)];
        let b = [point(0, 0.0, 9.0), point(1, 4.0, 5.0)];
        assert_eq!(mean(&[&a, &b]), [point(0, 0.0, 9.5), point(1, 3.0, 6.5)]);
        assert_eq!(mean(&[]), []);
        assert_eq!(spread(&[&a, &b]), [[9.0, 10.0], [5.0, 8.0]]);
        assert!(spread(&[&a]).is_empty() && spread(&[]).is_empty(), "one run has no spread");
    }

    fn manifest(tokens: u64, all: u64) -> Manifest {
        let cost = json!({"seconds": 10.0, "flops": 100.0, "tokens": tokens, "device": "cpu", "peak_memory_bytes": 0});
        let tool = json!({"name": "", "version": "", "git": "", "backends": []});
        let manifest = json!({"kind": "model", "format": 1, "key": "", "config": {}, "inputs": [], "outputs": [],
            "content": "", "stats": {"tokens": all}, "cost": cost, "tool": tool});
        serde_json::from_value(manifest).expect("a manifest")
    }

    fn log(losses: &[(u64, f64)]) -> Metrics {
        let valid = |&(step, valid_loss): &(u64, f64)| {
            let (valid_accuracy, valid_perplexity) = (0.0, 0.0);
            Validation { step, tokens: 10 * step, valid_loss, valid_accuracy, valid_perplexity, flops: None }
        };
        Metrics { steps: vec![], validations: losses.iter().map(valid).collect() }
    }

    #[test]
    fn between_two_rounds_the_loss_stays() {
        let first = log(&[(0, 10.0), (5, 8.0)]);
        let mut curve = round(&first, &manifest(50, 50), Spent::default(), None);
        let spent = Spent { flops: 130.0, seconds: 13.0 };
        let second = log(&[(0, 10.0), (5, 8.0), (10, 7.0)]);
        let new = round(&second, &manifest(50, 100), spent, curve.last());
        curve.extend(new);
        let shown: Vec<_> = curve.iter().map(|point| (point.step, point.flops, point.loss)).collect();
        assert_eq!(shown, [(0, 0.0, 10.0), (5, 100.0, 8.0), (5, 130.0, 8.0), (10, 230.0, 7.0)]);
        assert_eq!(loss_at(&curve, Axis::Flops, 120.0), Some(8.0), "nothing is learned while it scores");
    }

    /// The teacher begins at half of the tokens, and takes two thirds of all operations.
    #[test]
    fn operations_are_those_of_the_log() -> anyhow::Result<()> {
        let validation = |step: u64, flops: f64| json!({"step": step, "tokens": 10 * step, "valid_loss": 9.0, "valid_accuracy": 0.1, "valid_perplexity": 8.0, "flops": flops});
        let lines = [
            validation(0, 0.0),
            json!({"step": 5, "tokens": 50, "loss": 9.0}),
            validation(5, 20.0),
            validation(10, 100.0),
        ];
        let text = lines.map(|line| line.to_string() + "\n").concat();
        let file = tempfile::NamedTempFile::new()?;
        let places = |text: &str| -> anyhow::Result<Vec<_>> {
            fs_err::write(file.path(), text)?;
            let points = round(&Metrics::read(file.path())?, &manifest(100, 100), Spent::default(), None);
            Ok(points.iter().map(|point| (point.flops, point.seconds)).collect())
        };
        assert_eq!(places(&text)?, [(0.0, 0.0), (20.0, 2.0), (100.0, 10.0)]);
        let older = text.replace("flops", "other");
        assert_eq!(places(&older)?, [(0.0, 0.0), (50.0, 5.0), (100.0, 10.0)]);
        Ok(())
    }
}
