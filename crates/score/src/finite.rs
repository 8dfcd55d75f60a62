//! Whether predictions are numbers at all: a forward pass may overflow although every weight is finite.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{FloatDType, Tensor, TensorData, Transaction};
use entromask_fault::Fault;
use rayon::prelude::*;

use crate::pass::Pass;

/// Weights that a thread looks at.
const CHUNK: usize = 1 << 16;

/// Far below infinity, and below what stands for no token where the vocabulary is filled up.
const LARGEST_LOGIT: f64 = 1e29;

/// How large hidden states may be, so that no product with the decoder can overflow: looking at the states once is as good
/// as looking at every logit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Largest absolute values of the decoder's weights and of its bias.
    weight: f64,
    bias: f64,
}

impl Limit {
    /// `decoder` is `[vocab_size, hidden_size]`, row-major, `bias` `[vocab_size]`.
    pub(crate) fn of(decoder: &[f32], bias: &[f32]) -> Self {
        let [weight, bias] = [decoder, bias].map(|values| {
            let largest = values
                .par_chunks(CHUNK)
                .map(|values| values.iter().fold(0.0, |most: f32, value| most.max(value.abs())));
            f64::from(largest.reduce(|| 0.0, f32::max))
        });
        Self { weight, bias }
    }

    /// [`Limit::of`] a decoder on a device.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn of_tensors(decoder: &Tensor<2>, bias: &Tensor<1>) -> Result<Self> {
        Ok(Self { weight: largest(decoder)?, bias: largest(bias)? })
    }

    /// Whether the logits are finite where the absolute values of a hidden state add up to `sum`, which is not a number
    /// if one of them is not.
    pub(crate) fn holds(self, sum: f32) -> bool {
        f64::from(sum) * self.weight + self.bias <= LARGEST_LOGIT
    }
}

fn largest<const D: usize>(values: &Tensor<D>) -> Result<f64> {
    let largest = values.clone().cast(FloatDType::F32).abs().max().try_into_vec_as::<f32>()?;
    Ok(f64::from(largest[0]))
}

/// Sum of the absolute values of each row of `states` `[n, hidden_size]`: `[n, 1]`, in f32.
pub(crate) fn sums(states: &Tensor<2>) -> Tensor<2> {
    states.clone().cast(FloatDType::F32).abs().sum_dim(1)
}

/// The numbers in `sums` of several batches, `[n, 1]` each, in one read.
pub(crate) fn read(sums: Vec<Tensor<2>>) -> Result<Vec<f32>> {
    let read = sums.into_iter().fold(Transaction::default(), Transaction::register).try_execute()?;
    Ok(read.into_iter().map(TensorData::try_into_vec_as::<f32>).collect::<Result<Vec<_>, _>>()?.concat())
}

/// The least row and position among those that are not `good`; these go over all positions of `passes`, in order.
pub(crate) fn first_bad<'p>(
    rows: &[u64],
    passes: impl Iterator<Item = &'p Pass>,
    good: impl Iterator<Item = bool>,
) -> Option<(u64, u16)> {
    let places = passes.flat_map(|pass| pass.positions.iter().map(|&position| (rows[pass.row], position)));
    places.zip(good).filter(|(_, good)| !good).map(|(place, _)| place).min()
}

/// The fault of a model whose prediction is not finite there.
pub(crate) fn fault(model: &Path, (row, position): (u64, u16)) -> Fault {
    let model = model.display();
    Fault::input(format!("{model}: what it computes at row {row}, position {position} is not finite"))
        .remedy("its weights are damaged or its training has diverged: use another checkpoint")
}
