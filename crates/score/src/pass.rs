//! The passes of a part: which rows the model sees, and what it predicts there.

use entromask_encoder::EncoderConfig;
use serde_json::{Value, json};
use smallvec::SmallVec;

/// One row seen once by the model.
pub(crate) struct Pass {
    /// Row within the part.
    pub(crate) row: usize,
    /// Tokens of the row.
    pub(crate) length: usize,
    /// What to score, ascending. A part has as many passes as tokens where each of them is masked alone, so that they are kept in place.
    pub(crate) positions: SmallVec<[u16; 8]>,
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

/// Tokens that the model reads in a chunk for each position that it may have. With a mask at a time, a pass has one position.
const TOKENS_OF_A_POSITION: usize = 16;

/// Consecutive passes with about `most` positions in all, and not many times as many tokens.
pub(crate) fn chunks(passes: &[Pass], most: usize) -> impl Iterator<Item = &[Pass]> {
    let (mut positions, mut tokens) = (0, 0);
    passes.chunk_by(move |pass, _| {
        positions += pass.positions.len();
        tokens += pass.length;
        let full = positions >= most || tokens / TOKENS_OF_A_POSITION >= most;
        if full {
            (positions, tokens) = (0, 0);
        }
        !full
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_with_their_positions_or_many_tokens() {
        let passes = |count: usize, length: usize, positions: u16| -> Vec<Pass> {
            let pass = |row| Pass { row, length, positions: (0..positions).collect() };
            (0..count).map(pass).collect()
        };
        let sizes = |passes: &[Pass]| chunks(passes, 10).map(<[Pass]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&passes(7, 20, 4)), [3, 3, 1]);
        // A mask at a time: 160 tokens are enough.
        assert_eq!(sizes(&passes(7, 60, 1)), [3, 3, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
