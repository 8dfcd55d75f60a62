//! Forward and backward passes of a body on the CPU without tensors.
//!
//! The rows of a batch are dealt to lanes, each of which takes its rows through all layers and back on one thread, in
//! memory that stays in its caches, and adds up its own gradient. How many lanes there are depends on the model only,
//! and their gradients are summed in order, so the result is the same bits on any number of threads.

mod convert;
mod embeddings;
mod lane;
mod layer;
mod places;
mod register;
#[cfg(test)]
mod tests;

use entromask_kernels::{TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::Wanted;
use super::rotation::Rotation;
use crate::{EncoderConfig, MaskedLm};
use embeddings::Embeddings;
use lane::{Lane, LaneGradient};
use layer::Layer;

/// The body of a masked language model, laid out for a training step.
///
/// Nothing is dropped out; see [`TrainedBody::trains`].
#[derive(Clone, Debug)]
pub struct TrainedBody {
    embeddings: Embeddings,
    projection: Option<TrainedLinear>,
    layers: Vec<Layer>,
    /// Which of `layers` is applied at each depth.
    order: Vec<usize>,
    norm: Option<TrainedNorm>,
    /// Bases of the rotary frequencies that layers name by their index, and the size of a head.
    thetas: Vec<f64>,
    head_size: usize,
}

/// Memory of a training step, to be used again for the next one.
#[derive(Debug, Default)]
pub struct Lanes {
    all: Vec<Lane>,
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

/// Memory for the gradients of all lanes, as far as it decides their number.
const GRADIENTS: usize = 256 << 20;

impl TrainedBody {
    /// Whether models of this configuration can be trained so: nothing is dropped out.
    pub fn trains(config: &EncoderConfig) -> bool {
        config.hidden_dropout_prob + config.attention_probs_dropout_prob + config.modernbert().mlp_dropout
            == 0.0
    }

    /// Lays out `model`, whose tensors must be on the CPU.
    pub fn new(model: &MaskedLm, config: &EncoderConfig) -> Self {
        convert::body(model, config)
    }

    /// Hidden states at the wanted positions, of the last layer and of `depths`.
    ///
    /// # Panics
    ///
    /// If a token is not in the vocabulary, or a row or position is too long.
    pub fn forward(&self, rows: &[Wanted<'_>], depths: &[usize], lanes: &mut Lanes) -> States {
        let count = self.lanes().min(rows.len()).max(1);
        lanes.depths = depths.to_vec();
        lanes.rotations = self.rotations(rows);
        lanes.all.resize_with(count, Lane::default);
        let rotations = &lanes.rotations;
        let parts = rows.chunks(rows.len().div_ceil(count).max(1)).chain(std::iter::repeat(&[][..]));
        let work: Vec<_> = lanes.all.iter_mut().zip(parts).collect();
        let states: Vec<States> =
            work.into_par_iter().map(|(lane, rows)| lane.forward(self, rotations, rows, depths)).collect();
        States::concatenated(states, depths.len())
    }

    /// The gradient of the parameters, from those of what [`TrainedBody::forward`] returned.
    pub fn backward<'a>(&self, d_states: &States, lanes: &'a mut Lanes) -> BodyGradient<'a> {
        let Lanes { all: lanes, depths, rotations } = lanes;
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
        sum.gradient.add_parts(others.iter().map(|lane| &lane.gradient).collect());
        let lanes = &*lanes;
        BodyGradient { sum: &lanes[0].gradient, words: lanes.iter().map(Lane::words).collect() }
    }

    fn rotations(&self, rows: &[Wanted<'_>]) -> Vec<Rotation> {
        let longest = rows.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
        self.thetas.iter().map(|&theta| Rotation::new(theta, longest, self.head_size)).collect()
    }

    /// Into how many parts a batch is divided.
    fn lanes(&self) -> usize {
        let layer = self.layers.first().map_or(1, Layer::parameters);
        (GRADIENTS / (4 * layer * self.layers.len().max(1))).clamp(4, 16)
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
