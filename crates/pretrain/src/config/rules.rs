//! What the values of a configuration may be.

use anyhow::Result;
use entromask_fault::Fault;
use entromask_training::{COOLDOWN, Decay, MOMENTUM, Rule};

use super::{Budget, Config, ObjectiveConfig, OnlineConfig, Run, Transfer, TransferMode};

/// Whether a value is allowed, its key, the value, and what is allowed.
type Allowed = (bool, &'static str, String, &'static str);

const FRACTION: &str = "from 0 to 1";
const ABOVE_0: &str = "finite and above 0";
const ABOVE_0_IN_F32: &str = "a number above 0 that is one in f32";
const AT_LEAST_0: &str = "finite and at least 0";
const BELOW_1_IN_F32: &str = "from 0, below 1 in f32 too";

/// Masks number their epochs with 16 bits.
const MOST_EPOCHS: u64 = 1 << 16;

impl Config {
    /// Refuses values that mean nothing.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key and the value.
    pub fn check(&self) -> Result<()> {
        let later = self.mask_transfer.as_ref();
        let fractions = [
            Some(("transfer.init_fraction", &self.transfer)),
            later.map(|transfer| ("mask_transfer.init_fraction", transfer)),
        ];
        let tokens = [
            Some(("transfer.init_tokens", &self.transfer)),
            later.map(|transfer| ("mask_transfer.init_tokens", transfer)),
        ];
        let rules = self
            .size_rules()
            .into_iter()
            .chain(self.rate_rules())
            .chain(run_rules(&self.run))
            .chain(objective_rules(&self.objective))
            .chain(fractions.into_iter().flatten().map(fraction_rule))
            .chain(tokens.into_iter().flatten().map(tokens_rule))
            .chain(self.transfer_rules());
        self.online.as_ref().map_or(Ok(()), OnlineConfig::check)?;
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, value, wanted)) => {
                Err(Fault::usage(format!("{key} = {value}")).remedy(format!("it must be {wanted}")).into())
            }
        }
    }

    fn size_rules(&self) -> Vec<Allowed> {
        let epochs = (1..=MOST_EPOCHS).contains(&self.epochs);
        let dropout = self.dropout.unwrap_or(0.0);
        let drops = (0.0..=0.9).contains(&dropout);
        let mut rules = vec![
            (self.batch_size > 0, "batch_size", self.batch_size.to_string(), "at least 1"),
            (self.micro_batch != Some(0), "micro_batch", "0".into(), "at least 1"),
            (self.mix != Some(0), "mix", "0".into(), "at least 1"),
            (drops, "dropout", format!("{dropout}"), "from 0 to 0.9"),
            (epochs, "epochs", self.epochs.to_string(), "from 1 to 65536"),
        ];
        rules.extend(self.budget.map(budget_rule));
        rules.extend(self.ramp.map(|ramp| {
            let holds = ramp.from > 0 && ramp.from <= self.batch_size;
            (holds, "ramp.from", ramp.from.to_string(), "at least 1, at most batch_size")
        }));
        rules
    }

    fn transfer_rules(&self) -> Vec<Allowed> {
        let ObjectiveConfig { ce, kd, .. } = self.objective;
        let learns = self.transfer.mode != TransferMode::AfterInit || ce > 0.0;
        let goes_on = self.transfer.mode != TransferMode::Anneal || ce + kd > 0.0;
        let begins = self.mask_transfer.is_none_or(|transfer| transfer.mode != TransferMode::Complete);
        vec![
            (
                learns,
                "objective.ce",
                ce.to_string(),
                "above 0 where transfer.mode is \"after-init\": it is all there is before the teacher",
            ),
            (
                goes_on,
                "objective.ce + objective.kd",
                (ce + kd).to_string(),
                "above 0 where transfer.mode is \"anneal\": it is all there is after the teacher",
            ),
            (
                begins,
                "mask_transfer.mode",
                "\"complete\"".into(),
                "\"after-init\" or \"anneal\": else the first masks would never be used",
            ),
        ]
    }

    fn rate_rules(&self) -> Vec<Allowed> {
        let share = |value: f64| (0.0..1.0).contains(&value) && (value as f32) < 1.0;
        let room = self.decay != Decay::Wsd || self.warmup + self.cooldown <= 1.0;
        vec![
            (is_above_0_in_f32(self.lr), "lr", self.lr.to_string(), ABOVE_0_IN_F32),
            ((0.0..=1.0).contains(&self.warmup), "warmup", self.warmup.to_string(), FRACTION),
            ((0.0..=1.0).contains(&self.cooldown), "cooldown", self.cooldown.to_string(), FRACTION),
            (room, "cooldown", self.cooldown.to_string(), "at most what warmup leaves of the horizon"),
            (self.betas.into_iter().all(share), "betas", format!("{:?}", self.betas), BELOW_1_IN_F32),
            (share(self.momentum), "momentum", self.momentum.to_string(), BELOW_1_IN_F32),
            (
                self.optimizer == Rule::Muon || is_default(self.momentum, MOMENTUM),
                "momentum",
                self.momentum.to_string(),
                "left out, or optimizer \"muon\": no other has it",
            ),
            (
                self.decay == Decay::Wsd || is_default(self.cooldown, COOLDOWN),
                "cooldown",
                self.cooldown.to_string(),
                "left out, or decay \"wsd\": no other has it",
            ),
            (is_above_0_in_f32(self.eps), "eps", self.eps.to_string(), ABOVE_0_IN_F32),
            (is_at_least_0(self.weight_decay), "weight_decay", self.weight_decay.to_string(), AT_LEAST_0),
            (
                self.clip == 0.0 || is_above_0_in_f32(self.clip),
                "clip",
                self.clip.to_string(),
                "0, which clips nothing, or a number above 0 that is one in f32",
            ),
        ]
    }
}

fn budget_rule(budget: Budget) -> Allowed {
    match budget {
        Budget::Steps(n) => (n > 0, "budget.steps", n.to_string(), "at least 1"),
        Budget::Tokens(n) => (n > 0, "budget.tokens", n.to_string(), "at least 1"),
        Budget::Seconds(n) => (is_above_0(n), "budget.seconds", n.to_string(), ABOVE_0),
    }
}

fn run_rules(run: &Run) -> Vec<Allowed> {
    let Run { divergence, peak_flops, .. } = *run;
    vec![
        (is_at_least_0(divergence), "run.divergence", divergence.to_string(), AT_LEAST_0),
        (is_at_least_0(peak_flops), "run.peak_flops", peak_flops.to_string(), AT_LEAST_0),
    ]
}

fn objective_rules(objective: &ObjectiveConfig) -> Vec<Allowed> {
    let weights = [objective.ce, objective.kd, objective.cos, objective.hidden];
    let temperature = objective.temperature;
    let layers = !objective.hidden_layers.is_empty();
    vec![
        (
            weights.into_iter().all(is_at_least_0),
            "objective",
            format!("{weights:?}"),
            "finite and at least 0 each",
        ),
        (weights.iter().any(|w| *w > 0.0), "objective", format!("{weights:?}"), "above 0 somewhere"),
        (is_above_0_in_f32(temperature), "objective.temperature", temperature.to_string(), ABOVE_0_IN_F32),
        (
            layers == (objective.hidden > 0.0),
            "objective.hidden_layers",
            format!("{:?}", objective.hidden_layers),
            "pairs [student's layer, teacher's layer] where objective.hidden is above 0, and nothing elsewhere",
        ),
    ]
}

fn fraction_rule((key, transfer): (&'static str, &Transfer)) -> Allowed {
    let fraction = transfer.init_fraction;
    let has_phases = transfer.mode != TransferMode::Complete && transfer.init_tokens.is_none();
    if has_phases {
        let between = fraction > 0.0 && fraction < 1.0;
        return (
            between,
            key,
            fraction.to_string(),
            "above 0 and below 1: else one of the two phases is none",
        );
    }
    ((0.0..=1.0).contains(&fraction), key, fraction.to_string(), FRACTION)
}

fn tokens_rule((key, transfer): (&'static str, &Transfer)) -> Allowed {
    let none = transfer.mode != TransferMode::Complete && transfer.init_tokens == Some(0);
    (!none, key, "0".into(), "at least 1: else there is no first phase")
}

fn is_default(value: f64, default: f64) -> bool {
    value.to_bits() == default.to_bits()
}

fn is_above_0(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// What is computed with is f32, in which a number may become 0 or infinite.
fn is_above_0_in_f32(value: f64) -> bool {
    is_above_0(f64::from(value as f32))
}

fn is_at_least_0(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
