//! What a grid can vary.

use serde::{Deserialize, Serialize};

/// An axis of a grid. In a product the later ones vary faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Seed of initial weights, order of rows, and masks.
    Seed,
    /// Text: a file in `pipelines/corpus/`.
    Corpus,
    /// Share of the training documents that the corpus has, in (0, 1].
    Data,
    /// Shape of the model: `pipelines/student/`.
    Student,
    /// Recipe without distillation: `pipelines/train/`.
    Train,
    /// Passes over the corpus.
    Epochs,
    /// Type of the matrix products of scoring, training and fine-tuning: `f32` or `bf16`.
    Dtype,
    /// Who scores or teaches: `pipelines/teacher/`, or a Hugging Face folder.
    Teacher,
    /// How entropy is measured: `pipelines/score/`.
    Score,
    /// Share of the tokens to mask, in (0, 1]; by default that of the strategy's file.
    Rate,
    /// How masking changes over epochs: a table in `[schedules]`, or `constant`.
    Schedule,
    /// Rounds of self-masking after the first, random one.
    Rounds,
    /// Whose entropy decides: `none`, `teacher` or `self`.
    Source,
    /// Recipe with distillation, `pipelines/train/`, or `none`.
    Distillation,
    /// When the teacher's masks or guidance are there: from the first step (`complete`), after a part of the run
    /// (`after-init`), or by degrees (`anneal`), masks more and more, guidance less and less.
    Transfer,
    /// Share of the horizon that `after-init` and `anneal` take.
    InitFraction,
    /// Which tokens are masked: `pipelines/mask/`.
    Strategy,
    /// What fine-tuning leaves alone: what its file says (`recipe`), or `none`, `embeddings`, `bottom-N`, `body`, `gradual`.
    Freezing,
}

const ALL: [Axis; 18] = [
    Axis::Seed,
    Axis::Corpus,
    Axis::Data,
    Axis::Student,
    Axis::Train,
    Axis::Epochs,
    Axis::Dtype,
    Axis::Teacher,
    Axis::Score,
    Axis::Rate,
    Axis::Schedule,
    Axis::Rounds,
    Axis::Source,
    Axis::Distillation,
    Axis::Transfer,
    Axis::InitFraction,
    Axis::Strategy,
    Axis::Freezing,
];

impl Axis {
    /// All axes, in their order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter()
    }

    /// Whether other choices decide if this one has a bearing on a run.
    pub(crate) fn is_dependent(self) -> bool {
        matches!(self, Self::Teacher | Self::Score | Self::Rounds | Self::InitFraction)
    }

    /// Whether a run may make no choice here, because of its other choices: dependent axes, and the source, which random masks have
    /// none of. The source is not dependent, since a name is to tell whose entropies a run has even where all have the same.
    pub(crate) fn may_not_apply(self) -> bool {
        self == Self::Source || self.is_dependent()
    }

    /// As it is written in a grid.
    pub fn name(self) -> String {
        let value = serde_json::to_value(self).expect("a name is plain data");
        value.as_str().unwrap_or_default().into()
    }

    /// What all have that make no choice here, in words; none where that is nothing.
    pub(super) fn usual(self) -> Option<&'static str> {
        Some(match self {
            Self::Data => "data 1",
            Self::Dtype => "in f32",
            Self::Rate => "the strategy's rate",
            Self::Schedule => "constant",
            Self::Distillation => "no distillation",
            Self::Transfer => "complete transfer",
            Self::Freezing => "the recipe's freezing",
            _ => return None,
        })
    }

    /// A choice in words.
    pub(super) fn phrase(self, value: &str) -> String {
        match self {
            Self::Strategy | Self::Schedule => value.into(),
            Self::Dtype => format!("in {value}"),
            Self::Source if value == "self" => "by itself".into(),
            Self::Source => format!("by a {value}"),
            Self::Distillation => format!("with {value}"),
            Self::Transfer => format!("{value} transfer"),
            Self::InitFraction => format!("until {value}"),
            Self::Freezing => format!("{value} frozen"),
            Self::Rounds => format!("{value} rounds"),
            Self::Epochs => format!("{value} epochs"),
            Self::Rate => format!("rate {value}"),
            Self::Data => format!("data {value}"),
            other => format!("{} {value}", other.name()),
        }
    }
}
