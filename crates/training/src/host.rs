//! The losses' gradient with respect to hidden states and decoder in host memory.
//!
//! Positions are computed in tiles, each on one thread from the logits to the gradient of the hidden states. The decoder's
//! gradient is summed tile by tile, so that the last bits follow their size: it must not depend on the number of threads.

use std::cell::RefCell;

use burn::tensor::Tensor;
use entromask_kernels::{Linear, Matrix, TrainedVocabulary, VocabularyGradient};
use rayon::prelude::*;

use crate::head::{Decoder, Guide};
use crate::logits::Mean;
use crate::rows::{self, RowLoss, Teaching};
use crate::soft::SoftTargets;

/// What the losses of some positions give.
pub(crate) struct HostGradient {
    /// Summed over the positions, not weighted.
    pub losses: RowLoss,
    /// `[n, hidden_size]`
    pub hidden: Vec<f32>,
    /// `[vocab_size, hidden_size]`
    pub weight: Vec<f32>,
    /// `[vocab_size]`
    pub bias: Vec<f32>,
}

/// Tiles of a batch, about: several for each of the threads that a small model can use.
const TILES: usize = 8;

/// Most and fewest positions of a tile: the decoder is read once for each of them.
const TILE: std::ops::RangeInclusive<usize> = 24..=96;

/// Memory that is kept from step to step: asking the system for it anew, which clears it, takes as long as a tenth of the
/// products.
#[derive(Default)]
struct Memory {
    /// `[vocab_size, hidden_size]`
    weight: Vec<f32>,
    vocabulary: TrainedVocabulary,
    gradient: VocabularyGradient,
    /// Of each tile in memory the hidden states, and the gradient of their logits.
    states: Vec<(Matrix, Matrix)>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The gradient at all positions, with about `rows` of them in memory at once, a whole number of tiles.
///
/// # Shapes
/// - hidden: `[n, hidden_size]`
pub(crate) fn gradient(
    hidden: &Tensor<2>,
    decoder: &Decoder,
    targets: &[Option<u32>],
    guide: Guide,
    mean: &Mean,
    rows: usize,
) -> HostGradient {
    let [_, width] = hidden.dims();
    let mut memory = MEMORY.take();
    let Memory { weight, vocabulary, gradient: sum, states } = &mut memory;
    read_rows(&decoder.weight, weight);
    vocabulary.read(weight, &read(&decoder.bias), decoder.products);
    let teacher = HostGuide::of(guide);
    let (hidden, size) = (read(hidden), tile(targets.len(), rows));
    sum.clear(vocabulary);
    let (mut losses, mut d_hidden) = (Vec::new(), Vec::with_capacity(hidden.len()));
    let positions: Vec<usize> = (0..targets.len()).collect();
    for chunk in positions.chunks(rows.next_multiple_of(size)) {
        let work = Work { vocabulary, teacher: &teacher, targets, mean };
        let tiles = chunk.len().div_ceil(size);
        states.resize_with(states.len().max(tiles), Default::default);
        let states = &mut states[..tiles];
        let tiles: Vec<_> = (chunk.par_chunks(size).zip(&mut *states))
            .map(|(tile, states)| {
                states.0.read_rows(&hidden[tile[0] * width..][..tile.len() * width], width);
                work.tile(tile, states)
            })
            .collect();
        for tile in tiles {
            losses.extend(tile.0);
            d_hidden.extend(tile.1);
        }
        sum.add(states);
    }
    let losses = RowLoss { ce: losses.iter().map(|l| l.ce).sum(), kd: losses.iter().map(|l| l.kd).sum() };
    let (weight, bias) = sum.to_parts();
    MEMORY.set(memory);
    HostGradient { losses, hidden: d_hidden, weight, bias }
}

/// A teacher in host memory.
enum HostGuide<'a> {
    Nobody,
    /// Its hidden states at the positions, and its decoder.
    Model(Vec<f32>, Linear),
    Soft(&'a SoftTargets),
}

impl<'a> HostGuide<'a> {
    fn of(guide: Guide<'a>) -> Self {
        match guide {
            Guide::Nobody => Self::Nobody,
            Guide::Model(hidden, decoder) => {
                let (weight, bias) = (read(&decoder.weight), read(&decoder.bias));
                Self::Model(read(hidden), Linear::from_columns(&weight, &bias, decoder.products))
            }
            Guide::Soft(soft) => Self::Soft(soft),
        }
    }

    /// Its logits at `positions`, if it is a model.
    fn logits(&self, positions: &[usize]) -> Matrix {
        let mut logits = Matrix::default();
        if let Self::Model(hidden, decoder) = self {
            let width = decoder.inputs();
            let hidden = &hidden[positions[0] * width..][..positions.len() * width];
            decoder.forward(&Matrix::from_rows(hidden, width), &mut logits);
        }
        logits
    }
}

struct Work<'a> {
    vocabulary: &'a TrainedVocabulary,
    teacher: &'a HostGuide<'a>,
    targets: &'a [Option<u32>],
    mean: &'a Mean,
}

impl Work<'_> {
    /// Of a tile of hidden states, the losses and the gradient; `logits` becomes that of the logits.
    fn tile(&self, positions: &[usize], (hidden, logits): &mut (Matrix, Matrix)) -> (Vec<RowLoss>, Vec<f32>) {
        self.vocabulary.forward(hidden, logits);
        let mut teacher = self.teacher.logits(positions);
        let row = |(row, &position): (usize, &usize)| self.row(row, position, logits, &mut teacher);
        let losses = positions.iter().enumerate().map(row).collect();
        let mut d_hidden = Matrix::default();
        self.vocabulary.backward(logits, &mut d_hidden);
        (losses, d_hidden.to_vec())
    }

    /// Replaces a row of logits by their gradient.
    fn row(&self, row: usize, position: usize, logits: &mut Matrix, teacher: &mut Matrix) -> RowLoss {
        let (target, weights) = (self.targets[position], self.mean.weights);
        let teaching = match self.teacher {
            HostGuide::Nobody => None,
            HostGuide::Model(..) => Some(Teaching::Logits(teacher.row_mut(row))),
            HostGuide::Soft(soft) => Some(Teaching::Top(soft.at(position))),
        };
        match (target, teaching) {
            (Some(target), None) => {
                let ce = self.vocabulary.cross_entropy(logits, row, target as usize, weights.ce);
                RowLoss { ce, kd: 0.0 }
            }
            (target, teaching) => rows::losses_and_gradient(logits.row_mut(row), target, teaching, weights),
        }
    }
}

/// Positions of a tile.
fn tile(positions: usize, rows: usize) -> usize {
    positions.div_ceil(TILES).next_multiple_of(6).clamp(*TILE.start(), *TILE.end()).min(rows)
}

/// Rows that are copied at once: with 256 hidden units that are 512 KiB.
const ROWS: usize = 512;

/// `values` become those of `tensor`, `[rows, width]`, on all threads. burn copies what it gives away twice.
fn read_rows(tensor: &Tensor<2>, values: &mut Vec<f32>) {
    let ([rows, width], tensor) = (tensor.dims(), tensor.clone().inner());
    values.resize(rows * width, 0.0);
    values.par_chunks_mut(ROWS * width).enumerate().for_each(|(index, to)| {
        let rows = tensor.clone().narrow(0, index * ROWS, to.len() / width);
        to.copy_from_slice(rows.into_data_as::<f32>().as_slice().expect("converted to f32"));
    });
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data_as::<f32>().try_into_vec().expect("converted to f32")
}
