//! The product without special instructions, for tests and for processors that have none.

use burn::tensor::bf16;

use super::{Block, Pair, WIDTH, first_sums};
use crate::matrix::{View, ViewMut};
use crate::product::Start;

pub(super) fn multiply(input: View<'_>, block: Block<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
    for panel in 0..block.panels {
        for row in 0..input.rows() {
            let mut sums = first_sums(start, panel);
            for (values, pairs) in input.row(row).chunks(2).zip(block.rows_from(panel, 0)) {
                add_pair(values, pairs, &mut sums);
            }
            output.at(row, panel * WIDTH, WIDTH).copy_from_slice(&sums);
        }
    }
}

fn add_pair(values: &[f32], pairs: &[Pair; WIDTH], sums: &mut [f32; WIDTH]) {
    let factor = |half: usize| values.get(half).map_or(0.0, |&value| bf16::from_f32(value).to_f32());
    let (first, second) = (factor(0), factor(1));
    for (sum, &pair) in sums.iter_mut().zip(pairs) {
        let [low, high] = [pair << 16, pair & 0xffff_0000].map(f32::from_bits);
        *sum += first * low + second * high;
    }
}
