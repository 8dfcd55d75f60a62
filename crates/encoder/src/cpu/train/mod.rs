//! Forward and backward passes of a body on the CPU without tensors.
//!
//! The rows of a batch are dealt to lanes, each of which takes its rows through all layers and back on one thread, in
//! memory that stays in its caches, and adds up its own gradient. How many lanes there are depends on model and batch only,
//! and their gradients are summed in order, so the result is the same bits on any number of threads.

mod convert;
mod dropout;
mod embeddings;
mod lane;
mod layer;
mod places;
mod register;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use entromask_kernels::{TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::rotation::Rotation;
use super::{Sentence, Wanted, pooled};
use crate::{Encoder, EncoderConfig, Pooling};
pub use dropout::Dropout;
use dropout::Rates;
use embeddings::Embeddings;
use lane::{Lane, LaneGradient};
use layer::Layer;

/// An encoder, laid out for a training step. Nothing goes back below the lowest parameters that need a gradient.
#[derive(Clone, Debug)]
pub struct TrainedBody {
    embeddings: Embeddings,
    projection: Option<TrainedLinear>,
    layers: Vec<Layer>,
    /// Which of `layers` is applied at each depth.
    order: Vec<usize>,
    norm: Option<TrainedNorm>,
    rates: Rates,
    /// Bases of the rotary frequencies that layers name by their index, and the size of a head.
    thetas: Vec<f64>,
    head_size: usize,
    /// Of hidden states.
    width: usize,
}

/// Memory of a training step, to be used again for the next one.
#[derive(Debug, Default)]
pub struct Lanes {
    all: Vec<Lane>,
    /// How many of them the last forward pass took; the others keep their memory.
    used: usize,
    depths: Vec<usize>,
    /// One a theta, as far as the longest row.
    rotations: Vec<Rotation>,
}

/// Hidden states at the wanted positions, row after row, `[n, hidden_size]` each, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    /// Of the last layer.
    pub last: Vec<f32>,
    /// Of the depths that were asked for, 0 being the embeddings.
    pub depths: Vec<Vec<f32>>,
}

/// Gradient of a body's parameters.
#[derive(Debug)]
pub struct BodyGradient<'a> {
    sum: &'a LaneGradient,
    words: Vec<(&'a [u32], &'a entromask_kernels::Matrix)>,
}

/// Parts of a batch, at least and at most: more of them can use more threads.
const LANES: RangeInclusive<usize> = 4..=16;

/// Memory for the gradients of all lanes, as far as it decides their number.
const GRADIENTS: usize = 256 << 20;

/// Tokens of a lane, as far as they decide the number: its gradient, as large as the model, is written once for them.
const TOKENS: usize = 256;

impl TrainedBody {
    /// Lays out `encoder`, whose tensors must be on the CPU.
    pub fn new(encoder: &Encoder, config: &EncoderConfig) -> Self {
        convert::body(encoder, config)
    }

    /// Whether any parameter needs a gradient. Embeddings and layers need one as a whole or not at all, and what stands above
    /// the last layer goes with it.
    pub fn is_trained(&self) -> bool {
        self.lowest_trained().is_some()
    }

    /// Hidden states at the wanted positions, of the last layer and of `depths`. Without `dropout` nothing is dropped.
    ///
    /// # Panics
    ///
    /// If a token is not in the vocabulary, or a row or position is too long.
    pub fn forward(
        &self,
        rows: &[Wanted<'_>],
        depths: &[usize],
        dropout: Option<Dropout>,
        lanes: &mut Lanes,
    ) -> States {
        let count = self.lanes(rows).min(rows.len()).max(1);
        lanes.depths = depths.to_vec();
        lanes.rotations = self.rotations(rows);
        lanes.all.resize_with(lanes.all.len().max(count), Lane::default);
        lanes.used = count;
        let rotations = &lanes.rotations;
        let size = rows.len().div_ceil(count).max(1);
        let parts = rows.chunks(size).chain(std::iter::repeat(&[][..]));
        let part = |(index, (lane, rows)): (usize, (&mut Lane, &[Wanted<'_>]))| {
            let of_lane =
                |dropout: Dropout| Dropout { first_row: dropout.first_row + index * size, ..dropout };
            lane.forward(self, rotations, rows, depths, dropout.map(of_lane))
        };
        let work: Vec<_> = lanes.all[..count].iter_mut().zip(parts).enumerate().collect();
        States::concatenated(work.into_par_iter().map(part).collect(), depths.len())
    }

    /// The gradient of the parameters, from those of what [`TrainedBody::forward`] returned.
    pub fn backward<'a>(&self, d_states: &States, lanes: &'a mut Lanes) -> BodyGradient<'a> {
        let Lanes { all, used, depths, rotations } = lanes;
        let lanes = &mut all[..*used];
        let mut first = 0;
        let parts: Vec<usize> = (lanes.iter())
            .map(|lane| {
                first += lane.wanted();
                first - lane.wanted()
            })
            .collect();
        (lanes.par_iter_mut().zip(parts))
            .for_each(|(lane, first)| lane.backward(self, rotations, (d_states, first), depths));
        let (sum, others) = lanes.split_first_mut().expect("at least one lane");
        sum.gradient.add_parts(&others.iter().map(|lane| &lane.gradient).collect::<Vec<_>>(), self);
        let lanes = &*lanes;
        BodyGradient { sum: &lanes[0].gradient, words: lanes.iter().map(Lane::words).collect() }
    }

    /// What a classifier reads of the last layer, `[rows, hidden_size]`, row-major; see
    /// [`CpuEncoder::pooled`](crate::CpuEncoder::pooled).
    pub fn pooled(
        &self,
        rows: &[Sentence<'_>],
        pooling: Pooling,
        dropout: Option<Dropout>,
        lanes: &mut Lanes,
    ) -> Vec<f32> {
        let positions = pooled::positions(rows, pooling);
        let States { last, .. } = self.forward(&Wanted::of(rows, &positions), &[], dropout, lanes);
        pooled::means(last.chunks_exact(self.width), &positions, self.width)
    }

    /// The gradient of the parameters, from that of what [`TrainedBody::pooled`] returned, `[rows, width]`.
    pub fn pooled_backward<'a>(
        &self,
        rows: &[Sentence<'_>],
        pooling: Pooling,
        d_pooled: &[f32],
        lanes: &'a mut Lanes,
    ) -> BodyGradient<'a> {
        let last = pooled::spread(d_pooled, &pooled::positions(rows, pooling), self.width);
        self.backward(&States { last, depths: Vec::new() }, lanes)
    }

    /// The lowest depth that anything must go back to; nothing if nothing is trained.
    fn lowest_trained(&self) -> Option<usize> {
        if self.embeddings.trained {
            return Some(0);
        }
        self.order.iter().position(|&layer| self.layers[layer].trained)
    }

    fn rotations(&self, rows: &[Wanted<'_>]) -> Vec<Rotation> {
        let longest = rows.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
        self.thetas.iter().map(|&theta| Rotation::new(theta, longest, self.head_size)).collect()
    }

    /// Into how many parts a batch is divided.
    fn lanes(&self, rows: &[Wanted<'_>]) -> usize {
        let layer = self.layers.first().map_or(1, Layer::parameters);
        let gradients = GRADIENTS / (4 * layer * self.layers.len().max(1));
        let tokens: usize = rows.iter().map(|row| row.input_ids.len()).sum();
        gradients.min(tokens / TOKENS).clamp(*LANES.start(), *LANES.end())
    }
}

impl States {
    fn concatenated(parts: Vec<Self>, depths: usize) -> Self {
        let mut all = Self { last: Vec::new(), depths: vec![Vec::new(); depths] };
        for part in parts {
            all.last.extend(part.last);
            all.depths.iter_mut().zip(part.depths).for_each(|(all, part)| all.extend(part));
        }
        all
    }
}
