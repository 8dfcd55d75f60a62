//! The passes of a part: which rows the model sees, and what it predicts there.

use entromask_encoder::EncoderConfig;
use serde_json::{Value, json};

/// One row seen once by the model.
pub(crate) struct Pass {
    /// Row within the part.
    pub(crate) row: usize,
    /// Tokens of the row.
    pub(crate) length: usize,
    /// What to score, ascending.
    pub(crate) positions: Vec<u16>,
}

/// What passes take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) tokens: u64,
    pub(crate) flops: f64,
}

impl Work {
    /// Tokens and floating-point operations of `passes`.
    pub(crate) fn of(passes: impl Iterator<Item = Pass>, shape: &EncoderConfig) -> Self {
        let work = |pass: Pass| {
            let asked = pass.positions.len();
            Self { tokens: pass.length as u64, flops: shape.pass_flops(pass.length, asked, asked) }
        };
        passes.map(work).fold(Self::default(), Self::plus)
    }

    /// As it is noted beside a finished part.
    pub(crate) fn to_facts(self) -> Value {
        json!({"tokens": self.tokens, "flops": self.flops})
    }

    /// What was noted, if it was.
    pub(crate) fn from_facts(facts: &Value) -> Option<Self> {
        Some(Self { tokens: facts["tokens"].as_u64()?, flops: facts["flops"].as_f64()? })
    }

    pub(crate) fn plus(self, more: Self) -> Self {
        Self { tokens: self.tokens + more.tokens, flops: self.flops + more.flops }
    }
}

/// Consecutive passes with about `most` positions in all.
pub(crate) fn chunks(passes: &[Pass], most: usize) -> impl Iterator<Item = &[Pass]> {
    let mut positions = 0;
    passes.chunk_by(move |pass, _| {
        positions += pass.positions.len();
        let full = positions >= most;
        if full {
            positions = 0;
        }
        !full
    })
}
