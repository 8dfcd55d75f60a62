//! Early stopping.

use serde::{Deserialize, Serialize};

/// Says when to stop: after `patience` epochs in a row that were not better than the best.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stop {
    patience: u64,
    best: Option<f64>,
    waited: u64,
}

/// What an epoch's loss means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Better than all before.
    Best,
    /// Not better, but there is patience left.
    GoOn,
    /// Not better, and no patience left.
    Stop,
}

impl Stop {
    /// A stop that has seen no epoch.
    pub fn new(patience: u64) -> Self {
        Self { patience, best: None, waited: 0 }
    }

    /// The verdict about the next epoch, whose loss is `loss`. A loss that is no number is not better.
    pub fn after(&mut self, loss: f64) -> Verdict {
        if loss < self.best.unwrap_or(f64::INFINITY) {
            (self.best, self.waited) = (Some(loss), 0);
            return Verdict::Best;
        }
        self.waited += 1;
        if self.waited < self.patience { Verdict::GoOn } else { Verdict::Stop }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Best, GoOn, Stop as End};
    use super::*;

    #[test]
    fn patience_ends_after_so_many_epochs_without_a_better_one() {
        let mut stop = Stop::new(2);
        let verdicts = [3.0, 2.0, 2.0, 1.0, 1.5, f64::NAN].map(|loss| stop.after(loss));
        assert_eq!(verdicts, [Best, Best, GoOn, Best, GoOn, End]);
        assert_eq!([1.0, 1.0].map(|loss| Stop::new(1).after(loss)), [Best, Best]);
    }
}
