//! The learning rate as a pure function of what has been done: steps, tokens or seconds.

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
    /// Not until the last part of the horizon, then in a straight line to 0: warmup–stable–decay (Hu et al., 2024,
    /// `MiniCPM`).
    Wsd,
}

/// Linear warmup to the peak, then [`Decay`], over a horizon that is counted in steps, tokens or seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    warmup: f64,
    total: f64,
    decay: Decay,
    /// Length of the last part of [`Decay::Wsd`].
    cooldown: f64,
}

/// Share of the horizon that [`Decay::Wsd`] falls in, if nothing is said.
pub const COOLDOWN: f64 = 0.2;

impl Schedule {
    /// A schedule over `total_steps` steps, of which the fraction `warmup` (rounded) rises to `peak`.
    pub fn new(peak: f64, warmup: f64, decay: Decay, total_steps: u64) -> Self {
        let total = total_steps as f64;
        let warmup = (warmup.clamp(0.0, 1.0) * total).round();
        Self { peak, warmup, total, decay, cooldown: COOLDOWN * total }
    }

    /// The same over a horizon of `total` tokens or seconds; nothing is rounded.
    pub fn over(peak: f64, warmup: f64, decay: Decay, total: f64) -> Self {
        let warmup = warmup.clamp(0.0, 1.0) * total;
        Self { peak, warmup, total, decay, cooldown: COOLDOWN * total }
    }

    /// With another share of the horizon for the fall of [`Decay::Wsd`].
    #[must_use]
    pub fn with_cooldown(self, share: f64) -> Self {
        Self { cooldown: share.clamp(0.0, 1.0) * self.total, ..self }
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
        self.between(step as f64, (step + 1) as f64)
    }

    /// The learning rate of a step that begins at `done` and ends at `next`, both in the unit of the horizon.
    pub fn between(&self, done: f64, next: f64) -> f64 {
        if done < self.warmup {
            return self.peak * next.min(self.warmup) / self.warmup;
        }
        self.peak * self.decayed(done)
    }

    fn decayed(&self, done: f64) -> f64 {
        let length = (self.total - self.warmup).max(1.0);
        let progress = ((done - self.warmup) / length).min(1.0);
        match self.decay {
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Decay::Constant => 1.0,
            Decay::Wsd if done + self.cooldown <= self.total => 1.0,
            Decay::Wsd => ((self.total - done) / self.cooldown).max(0.0),
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
        assert_eq!(
            rates(0.1, Decay::Wsd, 10, &[0, 1, 8, 9, 10, 11]),
            [2.0, 2.0, 2.0, 1.0, 0.0, 0.0],
            "the last fifth falls"
        );
        let half = Schedule::new(2.0, 0.0, Decay::Wsd, 8).with_cooldown(0.5);
        assert_eq!([0, 4, 5, 7, 8].map(|step| (10.0 * half.rate(step)) as u64), [20, 20, 15, 5, 0]);
    }

    #[test]
    fn tokens_and_seconds_are_horizons_too() {
        let tokens = Schedule::over(1.0, 0.1, Decay::Linear, 1000.0);
        assert_eq!(
            [(0.0, 25.0), (75.0, 125.0), (100.0, 150.0), (550.0, 600.0), (1200.0, 1250.0)]
                .map(|(done, next)| (100.0 * tokens.between(done, next)).round() as u64),
            [25, 100, 100, 50, 0]
        );
        let steps = Schedule::new(1.0, 0.1, Decay::Cosine, 1000);
        assert!((0..1000).all(|step| {
            let same =
                Schedule::over(1.0, 0.1, Decay::Cosine, 1000.0).between(step as f64, step as f64 + 1.0);
            same.to_bits() == steps.rate(step).to_bits()
        }));
    }

    #[test]
    fn degenerate_lengths_do_not_divide_by_zero() {
        assert_eq!(rates(0.0, Decay::Linear, 0, &[0, 1]), [2.0, 0.0]);
        assert_eq!(rates(1.0, Decay::Cosine, 2, &[0, 1, 2]), [1.0, 2.0, 2.0]);
        assert_eq!(rates(0.06, Decay::Linear, 1, &[0]), [2.0]);
    }
}
