//! The body without a head: one vector for each row.

use super::body::Body;
use super::{Buffers, Wanted, convert};
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
        let wanted = |row: &Sentence<'_>| match pooling {
            Pooling::Cls => vec![0],
            Pooling::Mean => (0..row.input_ids.len() as u16).collect(),
        };
        let positions: Vec<Vec<u16>> = rows.iter().map(wanted).collect();
        let wanted = rows.iter().zip(&positions);
        let wanted: Vec<_> =
            wanted.map(|(row, positions)| Wanted { input_ids: row.input_ids, positions }).collect();
        self.body.forward(&wanted, segments(rows), buffers);
        let mut states = 0..buffers.hidden.rows();
        let mut pooled = vec![0.0; rows.len() * self.width];
        for (mean, positions) in pooled.chunks_exact_mut(self.width).zip(&positions) {
            for state in states.by_ref().take(positions.len()) {
                mean.iter_mut().zip(buffers.hidden.row(state)).for_each(|(sum, value)| *sum += value);
            }
            for value in mean {
                *value /= positions.len() as f32;
            }
        }
        pooled
    }
}

fn segments<'a>(rows: &'a [Sentence<'_>]) -> impl Iterator<Item = u32> + 'a {
    rows.iter().flat_map(|row| {
        let given = row.token_type_ids.iter().copied();
        given.chain(std::iter::repeat(0)).take(row.input_ids.len())
    })
}
