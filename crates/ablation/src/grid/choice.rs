//! A point of the grid.

use std::collections::BTreeSet;

use entromask_fault::Fault;
use serde::{Deserialize, Serialize};
use toml::Value;

use super::{Axis, Catalogue};

/// One value an axis. In a resolved choice, what has no bearing on the run is empty, so that equal runs are equal choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Seed.
    pub seed: u64,
    /// Corpus.
    pub corpus: String,
    /// Share of its training documents.
    pub data: f64,
    /// Shape of the model.
    pub student: String,
    /// Recipe; with distillation this one is not used for the student, but for the teacher.
    pub train: String,
    /// Passes over the corpus.
    pub epochs: u64,
    /// Type of matrix products.
    #[serde(default)]
    pub dtype: Dtype,
    /// Who scores or teaches; empty where nobody does.
    pub teacher: String,
    /// How entropy is measured; empty where it is not.
    pub score: String,
    /// Share of the tokens to mask, where it is not that of the strategy's file.
    pub rate: Option<f64>,
    /// Name of the schedule of masking.
    pub schedule: String,
    /// Rounds of self-masking after the first one; 0 without self-masking.
    pub rounds: u64,
    /// Whose entropy decides.
    pub source: Source,
    /// Recipe with distillation; empty for none.
    pub distillation: String,
    /// When the teacher begins.
    pub transfer: Transfer,
    /// Share of the horizon before it does.
    pub init_fraction: f64,
    /// Which tokens are masked.
    pub strategy: String,
    /// What fine-tuning leaves alone; empty for what its file says.
    pub freezing: String,
}

/// Whose entropy decides over masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Nobody's.
    None,
    /// That of another model, scored once.
    Teacher,
    /// That of the model itself, after each round.
    #[serde(rename = "self")]
    Own,
}

/// Type of the matrix products of all stages that compute with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As everything else.
    #[default]
    F32,
    /// Less exact, and faster where the device has units for it.
    Bf16,
}

/// When the teacher's masks or guidance are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// With the first step.
    Complete,
    /// After a part of the run without.
    AfterInit,
    /// By degrees: masks more and more, guidance less and less.
    Anneal,
}

const NONE: &str = "none";
/// The name of no schedule.
pub(super) const CONSTANT: &str = "constant";
const RECIPE: &str = "recipe";

impl Default for Choice {
    fn default() -> Self {
        Self {
            seed: 1,
            corpus: "sample".into(),
            data: 1.0,
            student: "modernbert-tiny".into(),
            train: "mlm".into(),
            epochs: 4,
            dtype: Dtype::F32,
            teacher: "mini".into(),
            score: "kfold".into(),
            rate: None,
            schedule: CONSTANT.into(),
            rounds: 3,
            source: Source::None,
            distillation: String::new(),
            transfer: Transfer::Complete,
            init_fraction: 0.25,
            strategy: "random".into(),
            freezing: String::new(),
        }
    }
}

impl Choice {
    /// Sets one axis.
    pub(super) fn set(&mut self, axis: Axis, value: &Value) -> anyhow::Result<()> {
        match axis {
            Axis::Seed => self.seed = whole(axis, value, 0)?,
            Axis::Corpus => self.corpus = name(axis, value)?,
            Axis::Data => self.data = share(axis, value)?,
            Axis::Student => self.student = name(axis, value)?,
            Axis::Train => self.train = name(axis, value)?,
            Axis::Epochs => self.epochs = epochs(value)?,
            Axis::Dtype => self.dtype = Dtype::parse(value)?,
            Axis::Teacher => self.teacher = name(axis, value)?,
            Axis::Score => self.score = name(axis, value)?,
            Axis::Rate => self.rate = Some(share(axis, value)?),
            Axis::Schedule => self.schedule = name(axis, value)?,
            Axis::Rounds => self.rounds = whole(axis, value, 1)?,
            Axis::Source => self.source = Source::parse(value)?,
            Axis::Distillation => self.distillation = unless(NONE, name(axis, value)?),
            Axis::Transfer => self.transfer = Transfer::parse(value)?,
            Axis::InitFraction => self.init_fraction = share(axis, value)?,
            Axis::Strategy => self.strategy = name(axis, value)?,
            Axis::Freezing => self.freezing = freezing(value)?,
        }
        Ok(())
    }

    /// The value of an axis as it is shown; empty where the axis has no bearing on the run.
    pub fn get(&self, axis: Axis) -> String {
        let number = |value: f64| if value > 0.0 { value.to_string() } else { String::new() };
        match axis {
            Axis::Seed => self.seed.to_string(),
            Axis::Corpus => self.corpus.clone(),
            Axis::Data => {
                if self.data < 1.0 {
                    number(self.data)
                } else {
                    String::new()
                }
            }
            Axis::Student => self.student.clone(),
            Axis::Train => self.train.clone(),
            Axis::Epochs => self.epochs.to_string(),
            Axis::Dtype => unless("f32", text(&self.dtype)),
            Axis::Teacher => self.teacher.clone(),
            Axis::Score => self.score.clone(),
            Axis::Rate => self.rate.map(number).unwrap_or_default(),
            Axis::Schedule => unless(CONSTANT, self.schedule.clone()),
            Axis::Rounds => number(self.rounds as f64),
            Axis::Source => unless(NONE, text(&self.source)),
            Axis::Distillation => self.distillation.clone(),
            Axis::Transfer => unless("complete", text(&self.transfer)),
            Axis::InitFraction => number(self.init_fraction),
            Axis::Strategy => self.strategy.clone(),
            Axis::Freezing => self.freezing.clone(),
        }
    }

    /// The recipe of the student.
    pub fn recipe(&self) -> &str {
        if self.distillation.is_empty() { &self.train } else { &self.distillation }
    }

    /// Whether it makes the choices of `other` but for the seed: then the two are replicates.
    pub fn replicates(&self, other: &Self) -> bool {
        Self { seed: other.seed, ..self.clone() } == *other
    }

    /// The axes, without the seed, on which both have made a choice, and not the same one. What has a bearing on one of them only,
    /// as a teacher or a source where nobody is asked, follows from another axis.
    pub(crate) fn differing(&self, other: &Self) -> BTreeSet<Axis> {
        let differs = |axis: &Axis| {
            let [own, theirs] = [self, other].map(|choice| choice.get(*axis));
            own != theirs && !(axis.may_not_apply() && (own.is_empty() || theirs.is_empty()))
        };
        Axis::all().filter(|axis| *axis != Axis::Seed).filter(differs).collect()
    }

    /// Checks what it names, and empties what has no bearing on the run.
    pub(super) fn resolved(mut self, catalogue: &Catalogue, schedules: &[&String]) -> anyhow::Result<Self> {
        self.check(catalogue, schedules)?;
        if !catalogue.needs_entropy(&self.strategy)? {
            self.source = Source::None;
        } else if self.source == Source::None {
            return Err(Fault::usage(format!("strategy = {:?} with source = \"none\"", self.strategy))
                .remedy("it needs entropies: choose the source \"teacher\" or \"self\"")
                .into());
        }
        if self.source == Source::None {
            self.score.clear();
        }
        self.rounds = if self.source == Source::Own { self.rounds } else { 0 };
        let guided = self.source == Source::Teacher || !self.distillation.is_empty();
        if !guided {
            self.teacher.clear();
            self.transfer = Transfer::Complete;
        }
        if self.transfer == Transfer::Complete {
            self.init_fraction = 0.0;
        }
        if let Some(rate) = self.rate
            && catalogue.has_rate(&self.strategy, rate)?
        {
            self.rate = None;
        }
        self.check_rounds()?;
        Ok(self)
    }

    fn check(&self, catalogue: &Catalogue, schedules: &[&String]) -> anyhow::Result<()> {
        let files = [
            ("corpus", "corpus", &self.corpus),
            ("student", "student", &self.student),
            ("train", "train", &self.train),
            ("score", "score", &self.score),
            ("strategy", "mask", &self.strategy),
        ];
        files.iter().try_for_each(|(key, kind, name)| catalogue.check(key, kind, name))?;
        if !self.distillation.is_empty() {
            catalogue.check("distillation", "train", &self.distillation)?;
        }
        if self.schedule == CONSTANT || schedules.contains(&&self.schedule) {
            return Ok(());
        }
        Err(Fault::usage(format!("schedule = {:?}: there is no such table in [schedules]", self.schedule))
            .remedy("add it, or choose \"constant\"")
            .into())
    }

    fn check_rounds(&self) -> anyhow::Result<()> {
        let rounds = self.rounds + 1;
        if self.epochs.is_multiple_of(rounds) {
            return Ok(());
        }
        let Self { epochs, rounds: further, .. } = self;
        Err(Fault::usage(format!("epochs = {epochs} with rounds = {further}"))
            .remedy(format!("{rounds} rounds with the first one have to divide the epochs"))
            .into())
    }
}

impl Dtype {
    fn parse(value: &Value) -> anyhow::Result<Self> {
        one_of(Axis::Dtype, value, &[Self::F32, Self::Bf16])
    }
}

impl Source {
    fn parse(value: &Value) -> anyhow::Result<Self> {
        one_of(Axis::Source, value, &[Self::None, Self::Teacher, Self::Own])
    }
}

impl Transfer {
    fn parse(value: &Value) -> anyhow::Result<Self> {
        one_of(Axis::Transfer, value, &[Self::Complete, Self::AfterInit, Self::Anneal])
    }
}

fn one_of<T: Serialize + Copy>(axis: Axis, value: &Value, all: &[T]) -> anyhow::Result<T> {
    let wanted = value.as_str().unwrap_or_default();
    let names: Vec<_> = all.iter().map(text).collect();
    let found = all.iter().find(|one| text(*one) == wanted).copied();
    found.ok_or_else(|| wrong(axis, value, &format!("one of: {}", names.join(", "))))
}

/// The name of a variant.
fn text(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().into()
}

fn unless(nothing: &str, value: String) -> String {
    if value == nothing { String::new() } else { value }
}

fn name(axis: Axis, value: &Value) -> anyhow::Result<String> {
    let name = value.as_str().filter(|name| !name.is_empty());
    Ok(name.ok_or_else(|| wrong(axis, value, "a name"))?.into())
}

fn whole(axis: Axis, value: &Value, least: u64) -> anyhow::Result<u64> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number
        .filter(|number| *number >= least)
        .ok_or_else(|| wrong(axis, value, &format!("a number from {least} on")))
}

/// The table of masks has them as u16.
fn epochs(value: &Value) -> anyhow::Result<u64> {
    let epochs = whole(Axis::Epochs, value, 1)?;
    u16::try_from(epochs).map_err(|_| wrong(Axis::Epochs, value, &format!("at most {}", u16::MAX)))?;
    Ok(epochs)
}

fn share(axis: Axis, value: &Value) -> anyhow::Result<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number
        .filter(|number| *number > 0.0 && *number <= 1.0)
        .ok_or_else(|| wrong(axis, value, "a share above 0, at most 1"))
}

fn freezing(value: &Value) -> anyhow::Result<String> {
    let name = unless(RECIPE, name(Axis::Freezing, value)?);
    if name.is_empty() {
        return Ok(name);
    }
    let layers = name.strip_prefix("bottom-").is_some_and(|n| n.parse::<u32>().is_ok());
    if layers || ["none", "embeddings", "body", "gradual"].contains(&name.as_str()) {
        return Ok(name);
    }
    Err(wrong(Axis::Freezing, value, "one of: recipe, none, embeddings, bottom-N, body, gradual"))
}

fn wrong(axis: Axis, value: &Value, wanted: &str) -> anyhow::Error {
    Fault::usage(format!("{} = {value}", axis.name())).remedy(format!("give {wanted}")).into()
}
