//! The product without special instructions, for tests and for processors that have none.

use burn::tensor::bf16;

use super::{Block, Pair, WIDTH};
use crate::matrix::ViewMut;
use crate::product::{Left, Start};

pub(super) fn multiply(input: Left<'_>, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    for row in 0..input.rows() {
        let values = values(input, row);
        for panel in 0..block.panels {
            let sums = output.at(row, panel * WIDTH, WIDTH);
            match start {
                Start::Zero => sums.fill(0.0),
                Start::Bias(bias) => sums.copy_from_slice(&bias[panel * WIDTH..][..WIDTH]),
                Start::Stored => {}
            }
            for (values, pairs) in values.chunks(2).zip(block.rows_from(panel, 0)) {
                add_pair(values, pairs, sums);
            }
        }
    }
}

fn values(input: Left<'_>, row: usize) -> Vec<f32> {
    match input {
        Left::Rows(view) => view.row(row).to_vec(),
        Left::Columns(view) => (0..view.rows()).map(|k| view.row(k)[row]).collect(),
    }
}

fn add_pair(values: &[f32], pairs: &[Pair; WIDTH], sums: &mut [f32]) {
    let factor = |half: usize| values.get(half).map_or(0.0, |&value| bf16::from_f32(value).to_f32());
    let (first, second) = (factor(0), factor(1));
    for (sum, &pair) in sums.iter_mut().zip(pairs) {
        let [low, high] = [pair << 16, pair & 0xffff_0000].map(f32::from_bits);
        *sum += first * low + second * high;
    }
}
