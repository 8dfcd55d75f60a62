//! The learning rate as a pure function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warmup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// In a straight line to 0 at the last step.
    #[default]
    Linear,
    /// Along half a cosine to 0 at the last step.
    Cosine,
    /// Not at all.
    Constant,
}

/// Linear warmup to the peak, then [`Decay`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    warmup_steps: u64,
    total_steps: u64,
    decay: Decay,
}

impl Schedule {
    /// A schedule over `total_steps` steps, of which the fraction `warmup` (rounded) rises to `peak`.
    pub fn new(peak: f64, warmup: f64, decay: Decay, total_steps: u64) -> Self {
        let warmup_steps = (warmup.clamp(0.0, 1.0) * total_steps as f64).round() as u64;
        Self { peak, warmup_steps, total_steps, decay }
    }

    /// The learning rate of `step`, counted from 0. The first step of a warmup already learns; steps after the
    /// horizon get what the last one would.
    ///
    /// ```
    /// use entromask_training::{Decay, Schedule};
    /// let schedule = Schedule::new(1e-3, 0.1, Decay::Linear, 100);
    /// assert_eq!([0, 9, 10, 55, 100].map(|step| schedule.rate(step)), [1e-4, 1e-3, 1e-3, 5e-4, 0.0]);
    /// ```
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        self.peak * self.decayed(step)
    }

    fn decayed(&self, step: u64) -> f64 {
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        match self.decay {
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Decay::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(warmup: f64, decay: Decay, total: u64, steps: &[u64]) -> Vec<f64> {
        let schedule = Schedule::new(2.0, warmup, decay, total);
        steps.iter().map(|&step| (schedule.rate(step) * 1e9).round() / 1e9).collect()
    }

    #[test]
    fn corners() {
        assert_eq!(
            rates(0.25, Decay::Linear, 8, &[0, 1, 2, 5, 7, 8, 99]),
            [1.0, 2.0, 2.0, 1.0, 1.0 / 3.0, 0.0, 0.0].map(|rate: f64| (rate * 1e9).round() / 1e9)
        );
        assert_eq!(rates(0.0, Decay::Cosine, 4, &[0, 1, 2, 4, 5]), [2.0, 1.707_106_781, 1.0, 0.0, 0.0]);
        assert_eq!(rates(0.5, Decay::Constant, 4, &[0, 1, 3, 50]), [1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn degenerate_lengths_do_not_divide_by_zero() {
        assert_eq!(rates(0.0, Decay::Linear, 0, &[0, 1]), [2.0, 0.0]);
        assert_eq!(rates(1.0, Decay::Cosine, 2, &[0, 1, 2]), [1.0, 2.0, 2.0]);
        assert_eq!(rates(0.06, Decay::Linear, 1, &[0]), [2.0]);
    }
}
