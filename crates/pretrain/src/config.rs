//! The configuration of a training run.

use anyhow::Result;
use entromask_fault::Fault;
use entromask_training::{AdamWConfig, Decay, Objective, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that decides the trained weights, and in `run` what does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of initial weights, data order and dropout.
    pub seed: u64,
    /// Rows per step.
    pub batch_size: usize,
    /// Horizon of the schedule in epochs, over all rounds; a run trains the epochs that its masks hold.
    pub epochs: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of the horizon during which the learning rate rises.
    pub warmup: f64,
    /// How the learning rate falls after that.
    pub decay: Decay,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Decay rates of the optimizer's moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub clip: f64,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// When the teacher begins to guide.
    pub transfer: Transfer,
    /// The fixed validation.
    pub validation: Validation,
    /// What does not change the result.
    #[serde(skip_serializing)]
    pub run: Run,
}

/// Weights of the losses, each a mean over positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Weight of the cross-entropy at masked positions.
    pub ce: f64,
    /// Weight of the distillation T²·KL(teacher ‖ student); needs a teacher.
    pub kd: f64,
    /// Weight of 1 − cos(student, teacher) of the last hidden states; needs a teacher of the same width.
    pub cos: f64,
    /// T of the distillation.
    pub temperature: f64,
    /// Where `kd` and `cos` are taken.
    pub positions: Positions,
}

/// Positions at which a teacher guides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Masked ones.
    #[default]
    Masked,
    /// All but padding.
    All,
}

/// When the teacher begins to guide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// From the first step, or after a phase without.
    pub mode: TransferMode,
    /// Length of that phase as a fraction of the horizon.
    pub init_fraction: f64,
}

/// See [`Transfer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferMode {
    /// The teacher guides from step 0.
    #[default]
    Complete,
    /// Masked-LM alone first.
    AfterInit,
}

/// The validation on a fixed random 15 % mask of the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Held-out rows to use, from the first; all of them if there are fewer.
    pub rows: usize,
    /// Steps between two validations; there is always one at the start and at the end. 0: only these.
    pub every: u64,
}

/// What does not change the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints to keep.
    pub keep: usize,
    /// Steps between two lines of the log and of `speed.jsonl`; `metrics.jsonl` has every step.
    pub log_every: u64,
}

impl Default for Config {
    fn default() -> Self {
        let AdamWConfig { betas, eps, weight_decay, clip } = AdamWConfig::default();
        Self {
            seed: 1,
            batch_size: 32,
            epochs: 3,
            lr: 1e-3,
            warmup: 0.06,
            decay: Decay::Linear,
            weight_decay,
            betas,
            eps,
            clip,
            objective: ObjectiveConfig::default(),
            transfer: Transfer::default(),
            validation: Validation::default(),
            run: Run::default(),
        }
    }
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self { ce: 1.0, kd: 0.0, cos: 0.0, temperature: 2.0, positions: Positions::Masked }
    }
}

impl Default for Transfer {
    fn default() -> Self {
        Self { mode: TransferMode::Complete, init_fraction: 0.2 }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { rows: 256, every: 500 }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { checkpoint_every: 200, keep: 2, log_every: 20 }
    }
}

impl Config {
    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key and the value.
    pub fn check(&self) -> Result<()> {
        let objective = &self.objective;
        let weights = [objective.ce, objective.kd, objective.cos];
        let rules = [
            (self.batch_size > 0, "batch_size", self.batch_size.to_string(), "at least 1"),
            (self.epochs > 0, "epochs", self.epochs.to_string(), "at least 1"),
            (self.lr.is_finite() && self.lr > 0.0, "lr", self.lr.to_string(), "above 0"),
            ((0.0..=1.0).contains(&self.warmup), "warmup", self.warmup.to_string(), "from 0 to 1"),
            (
                self.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
                "betas",
                format!("{:?}", self.betas),
                "from 0, below 1",
            ),
            (self.eps > 0.0, "eps", self.eps.to_string(), "above 0"),
            (self.weight_decay >= 0.0, "weight_decay", self.weight_decay.to_string(), "at least 0"),
            (self.clip >= 0.0, "clip", self.clip.to_string(), "at least 0"),
            (
                weights.iter().all(|weight| *weight >= 0.0),
                "objective",
                format!("{weights:?}"),
                "at least 0 each",
            ),
            (
                weights.iter().any(|weight| *weight > 0.0),
                "objective",
                format!("{weights:?}"),
                "above 0 somewhere",
            ),
            (
                objective.temperature > 0.0,
                "objective.temperature",
                objective.temperature.to_string(),
                "above 0",
            ),
            (
                (0.0..=1.0).contains(&self.transfer.init_fraction),
                "transfer.init_fraction",
                self.transfer.init_fraction.to_string(),
                "from 0 to 1",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, value, wanted)) => {
                Err(Fault::usage(format!("{key} = {value}")).remedy(format!("it must be {wanted}")).into())
            }
        }
    }

    /// The part that decides the weights, as it goes into the key.
    pub fn semantic(&self) -> Value {
        serde_json::to_value(self).expect("a config is plain data")
    }

    /// True if some loss needs a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.objective.kd > 0.0 || self.objective.cos > 0.0
    }

    pub(crate) fn optimizer(&self) -> AdamWConfig {
        let Self { betas, eps, weight_decay, clip, .. } = *self;
        AdamWConfig { betas, eps, weight_decay, clip }
    }

    pub(crate) fn schedule(&self, horizon: u64) -> Schedule {
        Schedule::new(self.lr, self.warmup, self.decay, horizon)
    }

    /// The losses of `step`, which has no guidance yet in the first phase of `after-init`.
    pub(crate) fn objective_at(&self, step: u64, horizon: u64) -> ObjectiveConfig {
        let silent = (self.transfer.init_fraction * horizon as f64).round() as u64;
        match self.transfer.mode {
            TransferMode::AfterInit if step < silent => {
                ObjectiveConfig { kd: 0.0, cos: 0.0, ..self.objective }
            }
            _ => self.objective,
        }
    }
}

impl From<ObjectiveConfig> for Objective {
    fn from(config: ObjectiveConfig) -> Self {
        Self { ce: config.ce, kd: config.kd, temperature: config.temperature }
    }
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;

    #[test]
    fn what_does_not_change_the_result_is_not_in_the_key() {
        let config = Config { run: Run { checkpoint_every: 7, ..Run::default() }, ..Config::default() };
        assert_eq!(config.semantic(), Config::default().semantic());
        assert!(config.semantic().get("run").is_none() && config.semantic().get("lr").is_some());
    }

    #[test]
    fn meaningless_values_are_usage_errors_that_name_the_key() {
        let cases = [
            (Config { batch_size: 0, ..Config::default() }, "batch_size = 0"),
            (Config { lr: f64::NAN, ..Config::default() }, "lr = NaN"),
            (Config { betas: [0.9, 1.0], ..Config::default() }, "betas"),
            (
                Config {
                    objective: ObjectiveConfig { ce: 0.0, ..ObjectiveConfig::default() },
                    ..Config::default()
                },
                "objective",
            ),
        ];
        for (config, named) in cases {
            let error = config.check().expect_err("meaningless");
            assert_eq!(class_of(error.as_ref()).exit_code(), 2);
            assert!(error.to_string().contains(named), "{error}");
        }
        Config::default().check().expect("defaults are good");
    }

    #[test]
    fn guidance_begins_after_the_first_phase() {
        let objective = ObjectiveConfig { kd: 1.0, cos: 0.5, ..ObjectiveConfig::default() };
        let transfer = Transfer { mode: TransferMode::AfterInit, init_fraction: 0.25 };
        let config = Config { objective, transfer, ..Config::default() };
        let guided = |step| config.objective_at(step, 100) == objective;
        assert_eq!([0, 24, 25, 99].map(guided), [false, false, true, true]);
        assert!(config.objective_at(0, 100).kd < f64::MIN_POSITIVE);
        let complete = Config { transfer: Transfer::default(), ..config };
        assert_eq!(complete.objective_at(0, 100), objective);
    }
}
