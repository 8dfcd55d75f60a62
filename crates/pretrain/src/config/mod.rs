//! The configuration of a training run.

mod objective;
mod online;
mod rules;

use entromask_encoder::Inheritance;
use entromask_training::{AdamWConfig, COOLDOWN, Decay, MOMENTUM, OptimizerConfig, Rule, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use objective::Done;
pub use objective::{ObjectiveConfig, Positions, Transfer, TransferMode};
pub use online::{OnlineConfig, OnlineMode};

/// Everything that decides the trained weights, and in `run` what does not.
///
/// Options beyond the first ones are not written while they have their default, so that what was configured without
/// them keeps its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of initial weights, data order and dropout.
    pub seed: u64,
    /// Rows per step.
    pub batch_size: usize,
    /// Rows of a forward and backward pass, whose gradients are added up to those of a batch; the whole batch without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Parts of the corpus whose rows are shuffled together, and which are in memory meanwhile; one without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<usize>,
    /// Smaller batches at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// Horizon of the schedule in epochs, over all rounds; a run trains the epochs that its masks hold.
    pub epochs: u64,
    /// Horizon of the schedule, over all rounds, instead of `epochs`; a run ends with it, or with its masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What the initial weights take over from the model of `--init`.
    #[serde(skip_serializing_if = "is_default")]
    pub init: Init,
    /// Dropout probability, instead of those of the student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// How gradients become changes.
    #[serde(skip_serializing_if = "is_default")]
    pub optimizer: Rule,
    /// Momentum of Muon.
    #[serde(skip_serializing_if = "is_default_momentum")]
    pub momentum: f64,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of the horizon during which the learning rate rises.
    pub warmup: f64,
    /// How the learning rate falls after that.
    pub decay: Decay,
    /// Fraction of the horizon at its end during which `wsd` falls.
    #[serde(skip_serializing_if = "is_default_cooldown")]
    pub cooldown: f64,
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
    /// When the masks of `--masks` take the place of those of `--init-masks`, or online masks that of those of `--masks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_transfer: Option<Transfer>,
    /// Masks by the entropies of the model itself, after those of `--masks` or from the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineConfig>,
    /// The fixed validation.
    pub validation: Validation,
    /// What does not change the result.
    pub run: Run,
}

/// A horizon, over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// Optimizer steps.
    Steps(u64),
    /// Tokens, special ones and repetitions included.
    Tokens(u64),
    /// Seconds of training; weights then depend on the machine's speed.
    Seconds(f64),
}

/// Batches that grow in a straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// Rows of the first batch.
    pub from: usize,
    /// Rows after which batches have their full size.
    pub rows: u64,
}

/// What the initial weights take over from the model of `--init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Init {
    /// For each layer of the student the layer whose weights it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Draw the masked-LM head anew, as it must be where the checkpoint has none.
    #[serde(skip_serializing_if = "is_default")]
    pub fresh_head: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Steps between two checkpoints; there is one at the end and when a run is interrupted, too.
    pub checkpoint_every: u64,
    /// Checkpoints to keep. Besides, while the run lasts, stays the last one that had the best validation so far when it was
    /// written, which takes a validation at the same step; the model that is published is always the last one.
    pub keep: usize,
    /// Stop where the training loss stays so many nats above that of guessing, or the validation loss rises so many
    /// above its lowest; 0 never stops, unless a number is no longer finite.
    pub divergence: f64,
    /// Floating-point operations a second that the device can make; with it, `speed.jsonl` says what share is used.
    pub peak_flops: f64,
    /// Steps between two lines of the log and of `speed.jsonl`; `metrics.jsonl` has every step.
    pub log_every: u64,
}

impl Default for Config {
    fn default() -> Self {
        let AdamWConfig { betas, eps, weight_decay, clip } = AdamWConfig::default();
        Self {
            seed: 1,
            batch_size: 32,
            micro_batch: None,
            mix: None,
            ramp: None,
            epochs: 3,
            budget: None,
            init: Init::default(),
            dropout: None,
            optimizer: Rule::AdamW,
            momentum: MOMENTUM,
            lr: 1e-3,
            warmup: 0.06,
            decay: Decay::Linear,
            cooldown: COOLDOWN,
            weight_decay,
            betas,
            eps,
            clip,
            objective: ObjectiveConfig::default(),
            transfer: Transfer::default(),
            mask_transfer: None,
            online: None,
            validation: Validation::default(),
            run: Run::default(),
        }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { rows: 256, every: 500 }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { checkpoint_every: 200, keep: 2, divergence: 2.0, peak_flops: 0.0, log_every: 20 }
    }
}

impl Config {
    /// The part that decides the weights, as it goes into the key.
    pub fn semantic(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a config is plain data");
        value.as_object_mut().map(|keys| keys.remove("run"));
        if self.online.as_ref().is_some_and(|online| online.mode == OnlineMode::Running) {
            // Earlier versions took them in the order of the row.
            value["online"]["unknown"] = "drawn".into();
        }
        if self.online.is_some() && self.seed != Self::default().seed {
            // Earlier versions drew the same for each of them.
            value["online"]["draws"] = "of both seeds".into();
        }
        value
    }

    /// How masks are chosen while training runs: each seed of the run draws others, the usual one those of `online.mask.seed`.
    pub(crate) fn sown_online(&self) -> Option<OnlineConfig> {
        let mut online = self.online.clone()?;
        let beyond = self.seed.wrapping_sub(Self::default().seed);
        online.mask.seed = online.mask.seed.wrapping_add(beyond);
        Some(online)
    }

    /// Parts of a corpus of `parts` whose rows are shuffled together.
    pub(crate) fn mixed(&self, parts: usize) -> usize {
        self.mix.unwrap_or(1).min(parts)
    }

    pub(crate) fn optimizer(&self) -> OptimizerConfig {
        let Self { betas, eps, weight_decay, clip, .. } = *self;
        let adamw = AdamWConfig { betas, eps, weight_decay, clip };
        OptimizerConfig { rule: self.optimizer, adamw, momentum: self.momentum }
    }

    /// The schedule over a horizon of `total` steps, tokens or seconds.
    pub(crate) fn schedule(&self, total: f64) -> Schedule {
        let schedule = match self.budget {
            None | Some(Budget::Steps(_)) => Schedule::new(self.lr, self.warmup, self.decay, total as u64),
            Some(Budget::Tokens(_) | Budget::Seconds(_)) => {
                Schedule::over(self.lr, self.warmup, self.decay, total)
            }
        };
        schedule.with_cooldown(self.cooldown)
    }
}

impl From<&Init> for Inheritance {
    fn from(init: &Init) -> Self {
        Self { layers: init.layers.clone(), fresh_head: init.fresh_head }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_default_momentum(value: &f64) -> bool {
    *value == MOMENTUM
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_default_cooldown(value: &f64) -> bool {
    *value == COOLDOWN
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
    fn each_seed_chooses_other_masks_while_training_runs() {
        let mask = entromask_policy::Config { seed: 7, ..entromask_policy::Config::default() };
        let online = Some(OnlineConfig { mask, ..OnlineConfig::default() });
        let [usual, other] = [1, 3].map(|seed| Config { seed, online: online.clone(), ..Config::default() });
        let drawn = |config: &Config| config.sown_online().map(|online| online.mask.seed);
        assert_eq!([drawn(&usual), drawn(&other)], [Some(7), Some(9)]);
        let noted = |config: &Config| config.semantic()["online"].get("draws").is_some();
        assert_eq!([noted(&usual), noted(&other)], [false, true]);
        assert!(Config { seed: 3, ..Config::default() }.semantic().get("online").is_none());
    }

    #[test]
    fn meaningless_values_are_usage_errors_that_name_the_key() {
        let cases = [
            (Config { batch_size: 0, ..Config::default() }, "batch_size = 0"),
            (Config { lr: f64::NAN, ..Config::default() }, "lr = NaN"),
            (Config { betas: [0.9, 1.0], ..Config::default() }, "betas"),
            (Config { eps: f64::INFINITY, ..Config::default() }, "eps = inf"),
            (Config { weight_decay: f64::INFINITY, ..Config::default() }, "weight_decay = inf"),
            (Config { betas: [0.9, 0.999_999_99], ..Config::default() }, "betas = [0.9, 0.99999999]"),
            (Config { clip: f64::NAN, ..Config::default() }, "clip = NaN"),
            (Config { clip: 1e-300, ..Config::default() }, "clip = 0.000"),
            (Config { epochs: 65_537, ..Config::default() }, "epochs = 65537"),
            (Config { budget: Some(Budget::Tokens(0)), ..Config::default() }, "budget.tokens = 0"),
            (
                Config { run: Run { divergence: f64::NAN, ..Run::default() }, ..Config::default() },
                "run.divergence = NaN",
            ),
            (
                Config {
                    objective: ObjectiveConfig { temperature: f64::INFINITY, ..ObjectiveConfig::default() },
                    ..Config::default()
                },
                "objective.temperature = inf",
            ),
            (
                Config {
                    objective: ObjectiveConfig { cos: f64::INFINITY, ..ObjectiveConfig::default() },
                    ..Config::default()
                },
                "objective = [1.0, 0.0, inf, 0.0]",
            ),
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
}
