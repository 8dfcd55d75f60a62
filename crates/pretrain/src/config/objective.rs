//! What is minimised, and when a teacher guides.

use entromask_training::Objective;
use serde::{Deserialize, Serialize};

/// Weights of the losses, each a mean over positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Weight of the cross-entropy at masked positions.
    pub ce: f64,
    /// Weight of the distillation T²·KL(teacher ‖ student); needs a teacher.
    pub kd: f64,
    /// Weight of 1 − cos(student, teacher) of the last hidden states; needs a teacher of the same width.
    pub cos: f64,
    /// Weight of the mean squared difference of the hidden states in `hidden_layers`; needs a teacher of the same width.
    #[serde(skip_serializing_if = "super::is_default")]
    pub hidden: f64,
    /// Pairs of a layer of the student and one of the teacher: 0 is the embeddings, n the output of the n-th layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden_layers: Vec<[usize; 2]>,
    /// T of the distillation.
    pub temperature: f64,
    /// Where `kd`, `cos` and `hidden` are taken.
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

/// When something begins: guidance, or other masks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfer {
    /// From the first step, after a phase without, or by degrees.
    pub mode: TransferMode,
    /// Length of the phase as a fraction of the horizon.
    pub init_fraction: f64,
    /// Length of the phase in tokens, instead of a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_tokens: Option<u64>,
}

/// See [`Transfer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferMode {
    /// From step 0.
    #[default]
    Complete,
    /// Only when the phase is over.
    AfterInit,
    /// In a straight line over the phase. Guidance goes from all to nothing, and what the distillation loses the
    /// cross-entropy gains (teacher annealing; Clark et al., 2019, BAM!); other masks come from nothing to all rows.
    Anneal,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// In the unit of the horizon: steps, tokens or seconds.
    pub at: f64,
    /// The horizon.
    pub total: f64,
    pub tokens: u64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            ce: 1.0,
            kd: 0.0,
            cos: 0.0,
            hidden: 0.0,
            hidden_layers: Vec::new(),
            temperature: 2.0,
            positions: Positions::Masked,
        }
    }
}

impl Default for Transfer {
    fn default() -> Self {
        Self { mode: TransferMode::Complete, init_fraction: 0.2, init_tokens: None }
    }
}

impl ObjectiveConfig {
    /// True if some loss needs a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.kd > 0.0 || self.cos > 0.0 || self.hidden > 0.0
    }

    /// True if some loss needs the teacher's hidden states.
    pub fn needs_hidden_states(&self) -> bool {
        self.cos > 0.0 || self.hidden > 0.0
    }

    /// The objective at a point of the run.
    pub(crate) fn at(&self, transfer: &Transfer, done: Done) -> Self {
        match transfer.mode {
            TransferMode::AfterInit if transfer.phase(done) < 1.0 => self.guided_by(0.0, 0.0),
            TransferMode::Anneal => {
                let gone = transfer.phase(done);
                self.guided_by(1.0 - gone, gone)
            }
            _ => self.clone(),
        }
    }

    /// With a share of the guidance, and a share of the distillation's weight for the cross-entropy.
    fn guided_by(&self, share: f64, gain: f64) -> Self {
        Self {
            ce: self.ce + gain * self.kd,
            kd: share * self.kd,
            cos: share * self.cos,
            hidden: share * self.hidden,
            ..self.clone()
        }
    }
}

impl Transfer {
    /// Share of rows that have the other masks already.
    pub(crate) fn share(&self, done: Done) -> f64 {
        match self.mode {
            TransferMode::Complete => 1.0,
            TransferMode::AfterInit => self.phase(done).floor(),
            TransferMode::Anneal => self.phase(done),
        }
    }

    /// Whether the first phase is, if there is one.
    pub(crate) fn is_over(&self, done: Done) -> bool {
        self.mode == TransferMode::Complete || self.phase(done) >= 1.0
    }

    /// The length of the first phase in units of a horizon of `total` of them, where that is by a fraction.
    pub(crate) fn first_phase(&self, total: f64) -> Option<f64> {
        let by_fraction = self.mode != TransferMode::Complete && self.init_tokens.is_none();
        by_fraction.then_some((self.init_fraction * total).round())
    }

    /// How much of the phase is over, from 0 to 1.
    fn phase(&self, done: Done) -> f64 {
        let (at, length) = match self.init_tokens {
            Some(tokens) => (done.tokens as f64, tokens as f64),
            None => (done.at, (self.init_fraction * done.total).round()),
        };
        if at < length { at / length } else { 1.0 }
    }
}

impl From<&ObjectiveConfig> for Objective {
    fn from(config: &ObjectiveConfig) -> Self {
        Self { ce: config.ce, kd: config.kd, temperature: config.temperature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective() -> ObjectiveConfig {
        ObjectiveConfig { kd: 1.0, cos: 0.5, ..ObjectiveConfig::default() }
    }

    fn at(step: u64) -> Done {
        Done { at: step as f64, total: 100.0, tokens: 10 * step }
    }

    #[test]
    fn guidance_begins_after_the_first_phase() {
        let by_fraction =
            Transfer { mode: TransferMode::AfterInit, init_fraction: 0.25, ..Transfer::default() };
        let by_tokens = Transfer { init_tokens: Some(250), init_fraction: 0.9, ..by_fraction };
        for transfer in [by_fraction, by_tokens] {
            let guided = |step| objective().at(&transfer, at(step)) == objective();
            assert_eq!([0, 24, 25, 99].map(guided), [false, false, true, true]);
            assert!(!objective().at(&transfer, at(0)).needs_teacher());
            assert_eq!([0, 24, 25, 99].map(|step| transfer.share(at(step)) as u8), [0, 0, 1, 1]);
        }
        assert_eq!(objective().at(&Transfer::default(), at(0)), objective());
    }

    #[test]
    fn guidance_is_annealed_into_cross_entropy_and_other_masks_come_by_degrees() {
        let transfer = Transfer { mode: TransferMode::Anneal, init_fraction: 0.5, ..Transfer::default() };
        let weights = |step| {
            let ObjectiveConfig { ce, kd, cos, .. } = objective().at(&transfer, at(step));
            [ce, kd, cos]
        };
        assert_eq!(
            [0, 25, 50, 99].map(weights),
            [[1.0, 1.0, 0.5], [1.5, 0.5, 0.25], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
        );
        assert_eq!([0, 25, 50].map(|step| (2.0 * transfer.share(at(step))) as u8), [0, 1, 2]);
    }
}
