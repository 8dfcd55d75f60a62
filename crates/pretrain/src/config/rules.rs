//! What the values of a configuration may be.

use anyhow::Result;
use entromask_fault::Fault;
use entromask_training::Decay;

use super::{Budget, Config, ObjectiveConfig, OnlineConfig, Transfer, TransferMode};

/// Whether a value is allowed, its key, the value, and what is allowed.
type Rule = (bool, &'static str, String, &'static str);

const FRACTION: &str = "from 0 to 1";

impl Config {
    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key and the value.
    pub fn check(&self) -> Result<()> {
        let later = self.mask_transfer.as_ref().map(|transfer| ("mask_transfer.init_fraction", transfer));
        let transfers = [Some(("transfer.init_fraction", &self.transfer)), later];
        let rules = self
            .size_rules()
            .into_iter()
            .chain(self.rate_rules())
            .chain(objective_rules(&self.objective))
            .chain(transfers.into_iter().flatten().map(fraction_rule))
            .chain(self.transfer_rules());
        self.online.as_ref().map_or(Ok(()), OnlineConfig::check)?;
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, value, wanted)) => {
                Err(Fault::usage(format!("{key} = {value}")).remedy(format!("it must be {wanted}")).into())
            }
        }
    }

    fn size_rules(&self) -> Vec<Rule> {
        let budget = match self.budget {
            None => true,
            Some(Budget::Steps(n) | Budget::Tokens(n)) => n > 0,
            Some(Budget::Seconds(seconds)) => seconds.is_finite() && seconds > 0.0,
        };
        let ramp = self.ramp.is_none_or(|ramp| ramp.from > 0 && ramp.from <= self.batch_size);
        vec![
            (self.batch_size > 0, "batch_size", self.batch_size.to_string(), "at least 1"),
            (self.micro_batch != Some(0), "micro_batch", "0".into(), "at least 1"),
            (ramp, "ramp", format!("{:?}", self.ramp), "from 1 row, at most batch_size, on"),
            (self.epochs > 0, "epochs", self.epochs.to_string(), "at least 1"),
            (budget, "budget", format!("{:?}", self.budget), "above 0"),
        ]
    }

    fn transfer_rules(&self) -> Vec<Rule> {
        let ce = self.objective.ce;
        let learns = self.transfer.mode != TransferMode::AfterInit || ce > 0.0;
        let begins = self.mask_transfer.is_none_or(|transfer| transfer.mode != TransferMode::Complete);
        vec![
            (
                learns,
                "objective.ce",
                ce.to_string(),
                "above 0 where transfer.mode is \"after-init\": it is all there is before the teacher",
            ),
            (
                begins,
                "mask_transfer.mode",
                "\"complete\"".into(),
                "\"after-init\" or \"anneal\": else the first masks would never be used",
            ),
        ]
    }

    fn rate_rules(&self) -> Vec<Rule> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let room = self.decay != Decay::Wsd || self.warmup + self.cooldown <= 1.0;
        vec![
            (self.lr.is_finite() && self.lr > 0.0, "lr", self.lr.to_string(), "above 0"),
            ((0.0..=1.0).contains(&self.warmup), "warmup", self.warmup.to_string(), FRACTION),
            ((0.0..=1.0).contains(&self.cooldown), "cooldown", self.cooldown.to_string(), FRACTION),
            (room, "cooldown", self.cooldown.to_string(), "at most what warmup leaves of the horizon"),
            (self.betas.into_iter().all(share), "betas", format!("{:?}", self.betas), "from 0, below 1"),
            (share(self.momentum), "momentum", self.momentum.to_string(), "from 0, below 1"),
            (self.eps > 0.0, "eps", self.eps.to_string(), "above 0"),
            (self.weight_decay >= 0.0, "weight_decay", self.weight_decay.to_string(), "at least 0"),
            (self.clip >= 0.0, "clip", self.clip.to_string(), "at least 0"),
        ]
    }
}

fn objective_rules(objective: &ObjectiveConfig) -> Vec<Rule> {
    let weights = [objective.ce, objective.kd, objective.cos, objective.hidden];
    let temperature = objective.temperature;
    let layers = !objective.hidden_layers.is_empty();
    vec![
        (weights.iter().all(|w| *w >= 0.0), "objective", format!("{weights:?}"), "at least 0 each"),
        (weights.iter().any(|w| *w > 0.0), "objective", format!("{weights:?}"), "above 0 somewhere"),
        (temperature > 0.0, "objective.temperature", temperature.to_string(), "above 0"),
        (
            layers == (objective.hidden > 0.0),
            "objective.hidden_layers",
            format!("{:?}", objective.hidden_layers),
            "pairs [student's layer, teacher's layer] where objective.hidden is above 0, and nothing elsewhere",
        ),
    ]
}

fn fraction_rule((key, transfer): (&'static str, &Transfer)) -> Rule {
    let fraction = transfer.init_fraction;
    ((0.0..=1.0).contains(&fraction), key, fraction.to_string(), FRACTION)
}
