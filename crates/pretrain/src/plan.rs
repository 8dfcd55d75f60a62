//! Which rows each step trains, as a pure function of the step.

use crate::config::{Config, Ramp};

/// The batches of all epochs of all rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows of an epoch.
    rows: u64,
    /// Rows of a batch of full size.
    batch: u64,
    ramp: Option<Ramp>,
    /// Number of the first step of each epoch, and of the step after the last.
    first_steps: Vec<u64>,
}

impl Plan {
    /// The plan for epochs of `rows` rows each.
    pub(crate) fn new(config: &Config, rows: usize) -> Self {
        let (rows, batch) = (rows as u64, config.batch_size as u64);
        let mut plan = Self { rows, batch, ramp: config.ramp, first_steps: vec![0] };
        let mut first = 0;
        for epoch in 0..config.epochs {
            first += plan.steps_of(epoch);
            plan.first_steps.push(first);
        }
        plan
    }

    /// The first step of `epoch`, which may be the one after the last.
    pub(crate) fn first_step(&self, epoch: u64) -> u64 {
        self.first_steps[(epoch as usize).min(self.first_steps.len() - 1)]
    }

    /// Steps of all epochs.
    pub(crate) fn steps(&self) -> u64 {
        self.first_step(u64::MAX)
    }

    /// The epoch of `step`, and how many of its rows come before.
    pub(crate) fn start(&self, step: u64) -> (u64, usize) {
        let epoch = self.first_steps.partition_point(|first| *first <= step).max(1) as u64 - 1;
        let within = step - self.first_step(epoch);
        if self.is_full(epoch) {
            return (epoch, (within * self.batch) as usize);
        }
        let mut done = 0;
        for _ in 0..within {
            done += self.size(epoch, done);
        }
        (epoch, done)
    }

    /// Rows of the batch before which `done` rows of `epoch` come; more than there may be left.
    pub(crate) fn size(&self, epoch: u64, done: usize) -> usize {
        let Some(ramp) = self.ramp else { return self.batch as usize };
        let (at, from) = (epoch * self.rows + done as u64, ramp.from as u64);
        if at >= ramp.rows {
            return self.batch as usize;
        }
        (from + (u128::from(self.batch - from) * u128::from(at) / u128::from(ramp.rows)) as u64) as usize
    }

    /// Epochs that `step` steps are.
    pub(crate) fn epochs(&self, step: u64) -> f64 {
        if self.ramp.is_none() {
            return step as f64 / self.first_step(1) as f64;
        }
        let (epoch, _) = self.start(step);
        let [first, next] = [epoch, epoch + 1].map(|epoch| self.first_step(epoch));
        epoch as f64 + (step - first) as f64 / (next - first).max(1) as f64
    }

    fn is_full(&self, epoch: u64) -> bool {
        self.ramp.is_none_or(|ramp| epoch * self.rows >= ramp.rows)
    }

    fn steps_of(&self, epoch: u64) -> u64 {
        if self.is_full(epoch) {
            return self.rows.div_ceil(self.batch);
        }
        let (mut steps, mut done) = (0, 0);
        while (done as u64) < self.rows {
            done += self.size(epoch, done);
            steps += 1;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(batch_size: usize, ramp: Option<Ramp>) -> Plan {
        Plan::new(&Config { batch_size, ramp, epochs: 3, ..Config::default() }, 10)
    }

    #[test]
    fn batches_of_one_size_need_no_walk() {
        let plan = plan(4, None);
        assert_eq!((plan.first_step(1), plan.first_step(2), plan.steps()), (3, 6, 9));
        assert_eq!([0, 2, 3, 8, 9].map(|step| plan.start(step)), [(0, 0), (0, 8), (1, 0), (2, 8), (3, 0)]);
        assert!((plan.epochs(4) - 4.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn batches_grow_and_each_step_knows_its_rows() {
        let plan = plan(8, Some(Ramp { from: 2, rows: 12 }));
        // 2 + 6·r/12 rows after r rows: 2, 3, 4, then one row is left.
        let mut sizes = Vec::new();
        for epoch in 0..3 {
            let mut done = 0;
            while done < 10 {
                assert_eq!(plan.start(sizes.len() as u64), (epoch, done));
                let size = plan.size(epoch, done);
                sizes.push(size.min(10 - done));
                done += size;
            }
            assert_eq!(plan.first_step(epoch + 1), sizes.len() as u64);
        }
        assert_eq!(sizes, [2, 3, 4, 1, 7, 3, 8, 2]);
        assert_eq!((plan.steps(), plan.start(8)), (8, (3, 0)));
        assert!((plan.epochs(5) - 1.5).abs() < 1e-12);
    }
}
