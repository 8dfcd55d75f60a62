//! The body without a head: one vector for each row.

use super::body::Body;
use super::{Buffers, Wanted, convert, pooled};
use crate::{Encoder, EncoderConfig, Pooling};

/// An encoder, for forward passes on the CPU.
#[derive(Clone, Debug)]
pub struct CpuEncoder {
    body: Body,
    width: usize,
}

/// A sentence, or two.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a> {
    /// Token ids, at least one, fewer than the model has positions.
    pub input_ids: &'a [u32],
    /// Segment of each of them; empty if all are in the first one.
    pub token_type_ids: &'a [u32],
}

impl CpuEncoder {
    /// Lays out `encoder`, whose tensors must be on the CPU.
    pub fn new(encoder: &Encoder, config: &EncoderConfig) -> Self {
        Self { body: convert::body(encoder, config), width: config.hidden_size }
    }

    /// What a classifier reads of the last layer, `[rows, hidden_size]`, row-major: the states of the first tokens, or the
    /// means over all tokens. Where it is the first token, the last layer computes nothing else.
    ///
    /// # Panics
    ///
    /// If a token or segment is not in its table, or a row is empty or too long.
    pub fn pooled(&self, rows: &[Sentence<'_>], pooling: Pooling, buffers: &mut Buffers) -> Vec<f32> {
        let positions = pooled::positions(rows, pooling);
        self.body.forward(&Wanted::of(rows, &positions), None, buffers);
        let states = (0..buffers.hidden.rows()).map(|row| buffers.hidden.row(row));
        pooled::means(states, &positions, self.width)
    }
}
