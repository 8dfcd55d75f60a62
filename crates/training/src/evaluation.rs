//! How well a masked language model predicts: surprisal and accuracy.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use entromask_kernels::{Linear, Matrix};
use rayon::prelude::*;

use crate::head::{Decoder, chunk_rows, is_on_cpu, logits};
use crate::{rows, scalars};

/// Sums over positions that have been evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Sum of −ln q(target), nats.
    pub surprisal: f64,
    /// Positions whose target is the most probable token.
    pub hits: u64,
    /// Positions.
    pub positions: u64,
}

/// Surprisal, in nats, and accuracy of `targets` under `hidden` `[n, embedding_size]`, the states after the head's transform,
/// without autodiff.
pub fn evaluate(hidden: &Tensor<2>, decoder: &Decoder, targets: &[u32]) -> Evaluation {
    let on_cpu = is_on_cpu(&decoder.weight);
    let how = if on_cpu { evaluate_on_host } else { evaluate_on_device };
    how(hidden, decoder, targets, chunk_rows(decoder, on_cpu))
}

fn evaluate_on_host(hidden: &Tensor<2>, decoder: &Decoder, targets: &[u32], rows: usize) -> Evaluation {
    let width = hidden.dims()[1];
    let (hidden, weight) = (read(hidden), read(&decoder.weight));
    let decoder = Linear::from_columns(&weight, &read(&decoder.bias), decoder.products);
    let mut total = Evaluation::default();
    for (hidden, targets) in hidden.chunks(rows * width).zip(targets.chunks(rows)) {
        let tiles = hidden.par_chunks(TILE * width).zip(targets.par_chunks(TILE));
        let found: Vec<_> =
            tiles.flat_map_iter(|(hidden, targets)| tile(&decoder, hidden, targets)).collect();
        total.surprisal += found.iter().map(|(surprisal, _)| surprisal).sum::<f64>();
        total.hits += found.iter().filter(|(_, hit)| *hit).count() as u64;
        total.positions += targets.len() as u64;
    }
    total
}

/// Positions that one thread computes: the decoder is read once for them.
const TILE: usize = 96;

/// Surprisal of each position of `hidden`, `[n, hidden_size]`, and whether it is a hit.
fn tile(decoder: &Linear, hidden: &[f32], targets: &[u32]) -> Vec<(f64, bool)> {
    let mut logits = Matrix::default();
    decoder.forward(&Matrix::from_rows(hidden, decoder.inputs()), &mut logits);
    let rows = targets.iter().enumerate();
    rows.map(|(row, &target)| rows::surprisal_and_hit(logits.row_mut(row), target)).collect()
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// Only sums leave the device.
fn evaluate_on_device(hidden: &Tensor<2>, decoder: &Decoder, targets: &[u32], rows: usize) -> Evaluation {
    let chunks = targets.chunks(rows).enumerate().flat_map(|(index, targets)| {
        let hidden = hidden.clone().narrow(0, index * rows, targets.len());
        let logits = logits(hidden, decoder) + decoder.bias.clone().unsqueeze();
        let columns: Vec<i64> = targets.iter().map(|&target| i64::from(target)).collect();
        let columns = TensorData::new(columns, [targets.len(), 1]);
        let columns = Tensor::<2, Int>::from_data(columns, &logits.device());
        let hits = logits.clone().gather(1, columns.clone()).greater_equal(logits.clone().max_dim(1));
        [log_softmax(logits, 1).gather(1, columns).sum().neg(), hits.float().sum()]
    });
    let sums = scalars::read(chunks);
    let (sums, _) = sums.as_chunks::<2>();
    Evaluation {
        surprisal: sums.iter().map(|[surprisal, _]| surprisal).sum(),
        hits: sums.iter().map(|[_, hits]| *hits as u64).sum(),
        positions: targets.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use entromask_kernels::Products;

    use super::*;
    use crate::cross_entropy;

    fn wave<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin() * 1.5).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn surprisal_is_summed_and_hits_are_counted_on_the_host_and_on_devices() {
        let hidden = wave([5, 4], 0.9);
        let decoder =
            Decoder { weight: wave([19, 4], 0.7), bias: wave([19], 2.1), products: Products::default() };
        let logits = logits(hidden.clone(), &decoder) + decoder.bias.clone().unsqueeze();
        let best: Vec<u32> =
            logits.clone().argmax(1).into_data().iter::<i64>().map(|index| index as u32).collect();
        let mut targets = best.clone();
        targets[2] = (best[2] + 1) % 19;
        let wanted = targets.iter().map(|&target| i64::from(target)).collect();
        let wanted = Tensor::<1, Int>::from_data(TensorData::new(wanted, [5]), &Device::flex());
        let mean = cross_entropy(logits, wanted).into_scalar::<f64>();
        for rows in [1, 2, 5, 100] {
            for how in [evaluate_on_host, evaluate_on_device] {
                let found = how(&hidden, &decoder, &targets, rows);
                assert_eq!((found.hits, found.positions), (4, 5));
                assert!((found.surprisal / 5.0 - mean).abs() < 1e-5);
            }
        }
    }
}
