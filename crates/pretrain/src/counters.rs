//! How far training has come.

use anyhow::Result;
use entromask_training::diverged;
use serde::{Deserialize, Serialize};

use crate::config::{Budget, Done};
use crate::online::Unspent;
use crate::validation::Score;

/// How far training has come; all of it is in every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Steps made, earlier rounds included.
    pub step: u64,
    /// Tokens that were trained on, earlier rounds included.
    pub tokens: u64,
    /// Tokens of earlier rounds.
    pub earlier_tokens: u64,
    /// Floating-point operations of this round by formula.
    pub flops: f64,
    /// Sum of the training losses and number of steps since the last validation.
    pub recent: (f64, u64),
    /// Mean training loss between the last two validations.
    pub train_loss: Option<f64>,
    /// The last validation.
    pub valid: Option<Score>,
    /// The lowest validation loss, and its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<(f64, u64)>,
    /// Running mean of the cross-entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smooth: Option<f64>,
    /// Seconds of training, earlier rounds included; counted where the horizon is counted in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// In a checkpoint, whether its step was to be validated and has not been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unvalidated: bool,
    /// Of masks that were chosen while training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<Unspent>,
    /// In a checkpoint, how long the logs were; unknown in those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged: Option<Logged>,
}

/// Rows of the logs that are content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Logged {
    pub metrics: u64,
    pub masks: u64,
}

/// What is only high may come down again.
const GOES_ON: &str = "; run.divergence = 0 goes on";

/// Steps of a run after which its running mean says something.
pub(crate) const FIRST_STEPS: u64 = 20;

/// Weight of one step in the running mean of the cross-entropy.
const SMOOTHING: f64 = 0.05;

impl Counters {
    /// Progress towards the horizon; `steps` are those of all epochs.
    pub(crate) fn done(&self, budget: Option<Budget>, steps: u64) -> Done {
        let (at, total) = match budget {
            None => (self.step as f64, steps as f64),
            Some(Budget::Steps(steps)) => (self.step as f64, steps as f64),
            Some(Budget::Tokens(tokens)) => (self.tokens as f64, tokens as f64),
            Some(Budget::Seconds(seconds)) => (self.seconds.unwrap_or(0.0), seconds),
        };
        Done { at, total, tokens: self.tokens }
    }

    /// Counts a step with the loss `loss` and the cross-entropy `ce`. The running mean begins behind the steps that have no limit.
    ///
    /// # Errors
    /// A fault of class failed if the running mean of `ce` is above `most` nats: worse than guessing.
    pub(crate) fn count_loss(&mut self, loss: f64, ce: f64, most: Option<f64>) -> Result<()> {
        self.recent.0 += loss;
        self.recent.1 += 1;
        let before = self.smooth.filter(|_| most.is_some());
        let smooth = before.map_or(ce, |mean| mean + SMOOTHING * (ce - mean));
        self.smooth = Some(smooth);
        match most.filter(|most| smooth > *most) {
            None => Ok(()),
            Some(most) => {
                let found = format!("the cross-entropy is {smooth:.2} nats on average, above {most:.2}");
                Err(diverged(&found, GOES_ON))
            }
        }
    }

    /// Takes a validation in. True if it is the best one so far.
    ///
    /// # Errors
    /// A fault of class failed if its loss is not finite, or more than `rise` nats above the lowest.
    pub(crate) fn count_validation(&mut self, score: Score, rise: Option<f64>) -> Result<bool> {
        if !score.loss.is_finite() {
            return Err(diverged(&format!("the validation loss is {}", score.loss), ""));
        }
        if let (Some((lowest, step)), Some(rise)) = (self.best, rise)
            && score.loss > lowest + rise
        {
            let found =
                format!("the validation loss is {:.4}, at step {step} it was {lowest:.4}", score.loss);
            return Err(diverged(&found, GOES_ON));
        }
        self.valid = Some(score);
        let (sum, steps) = std::mem::take(&mut self.recent);
        if steps > 0 {
            self.train_loss = Some(sum / steps as f64);
        }
        let better = self.best.is_none_or(|(lowest, _)| score.loss < lowest);
        if better {
            self.best = Some((score.loss, self.step));
        }
        Ok(better)
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::{Class, class_of};

    use super::*;

    fn score(loss: f64) -> Score {
        Score { loss, accuracy: 0.0, perplexity: loss.exp() }
    }

    /// A run that is killed must go on with the very numbers that it had.
    #[test]
    fn numbers_read_back_to_the_last_bit() -> Result<()> {
        for hits in 0..111 {
            let valid = Some(Score { accuracy: f64::from(hits) / 111.0, ..score(f64::from(hits) / 7.0) });
            let counters = Counters { valid, smooth: Some(f64::from(hits).sqrt()), ..Counters::default() };
            let read: Counters = serde_json::from_str(&serde_json::to_string(&counters)?)?;
            assert_eq!(read, counters);
        }
        Ok(())
    }

    #[test]
    fn a_rising_validation_loss_is_divergence() -> Result<()> {
        let mut counters = Counters::default();
        for (step, loss, best) in [(0, 7.0, true), (10, 4.0, true), (20, 5.9, false), (30, 3.9, true)] {
            counters.step = step;
            assert_eq!(counters.count_validation(score(loss), Some(2.0))?, best);
        }
        assert_eq!(counters.best, Some((3.9, 30)));
        let error = counters.count_validation(score(6.0), Some(2.0)).expect_err("above 5.9");
        assert_eq!(class_of(error.as_ref()), Class::Failed);
        assert!(error.to_string().contains("at step 30"), "{error}");
        assert!(!counters.clone().count_validation(score(6.0), None)?);
        counters.count_validation(score(f64::NAN), None).expect_err("not a number");
        Ok(())
    }

    #[test]
    fn what_a_run_began_with_does_not_end_it_later() -> Result<()> {
        let mut counters = Counters::default();
        for ce in [30.0, 20.0, 6.0] {
            counters.count_loss(ce, ce, None)?;
        }
        (0..20).try_for_each(|_| counters.count_loss(6.0, 6.0, Some(12.0)))
    }

    #[test]
    fn a_cross_entropy_that_stays_above_guessing_is_divergence_and_a_spike_is_not() -> Result<()> {
        let mut counters = Counters::default();
        for ce in [10.0, 30.0, 9.0, 8.0] {
            counters.count_loss(ce, ce, Some(12.0))?;
        }
        let stopped = (0..100).find(|_| counters.count_loss(30.0, 30.0, Some(12.0)).is_err());
        assert_eq!(stopped, Some(1));
        Ok(())
    }

    #[test]
    fn progress_is_counted_in_the_unit_of_the_budget() {
        let counters = Counters { step: 5, tokens: 700, seconds: Some(1.5), ..Counters::default() };
        let done = |budget| {
            let Done { at, total, .. } = counters.done(budget, 20);
            (at, total)
        };
        assert_eq!(done(None), (5.0, 20.0));
        assert_eq!(done(Some(Budget::Steps(8))), (5.0, 8.0));
        assert_eq!(done(Some(Budget::Tokens(1000))), (700.0, 1000.0));
        assert_eq!(done(Some(Budget::Seconds(60.0))), (1.5, 60.0));
    }
}
