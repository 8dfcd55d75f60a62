//! The reduction itself.

use burn_cubecl::cubecl;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Below any logit, yet finite: shading languages know no infinity.
const LOWEST_LOGIT: f32 = -1e30;

/// One cube a row: each unit keeps the sums of every `units`-th logit, then they are merged pairwise.
#[cube(launch)]
pub(super) fn softmax_sums<F: Float, N: Size, B: Float, I: Numeric>(
    logits: &Tensor<Vector<F, N>>,
    bias: &Tensor<Vector<B, N>>,
    targets: &Tensor<I>,
    output: &mut Tensor<f32>,
    start: u32,
    #[comptime] units: u32,
    #[define(F, B, I)] _types: [ElemType; 3],
) {
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS_X as usize;
    let count = comptime!(units as usize);
    let size = logits.vector_size();
    let columns = logits.shape(1);
    let first = row * logits.stride(0) / size;
    let mut highest = f32::new(LOWEST_LOGIT);
    let mut second = f32::new(LOWEST_LOGIT);
    let mut sum = f32::new(0.0);
    let mut weighted = f32::new(0.0);
    let mut squares = f32::new(0.0);
    let mut column = unit;
    while column < columns / size {
        let z =
            Vector::<f32, N>::cast_from(logits[first + column]) + Vector::<f32, N>::cast_from(bias[column]);
        let before = highest;
        #[unroll]
        for j in 0..N::value() {
            let logit = z.extract(j);
            second = max(second, min(highest, logit));
            highest = max(highest, logit);
        }
        let shift = before - highest;
        let scale = shift.exp();
        let below = z - Vector::new(highest);
        let shares = below.exp();
        weighted = (weighted + shift * sum) * scale + (below * shares).vector_sum();
        sum = sum * scale + shares.vector_sum();
        squares = squares * scale * scale + (shares * shares).vector_sum();
        column += count;
    }

    let mut highests = Shared::new_slice(count);
    let mut seconds = Shared::new_slice(count);
    let mut sums = Shared::new_slice(count);
    let mut weighteds = Shared::new_slice(count);
    let mut all_squares = Shared::new_slice(count);
    highests[unit] = highest;
    seconds[unit] = second;
    sums[unit] = sum;
    weighteds[unit] = weighted;
    all_squares[unit] = squares;
    sync_cube();

    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let half = comptime!((units >> (step + 1)) as usize);
        if unit < half {
            let other = unit + half;
            let (a, b) = (highests[unit], highests[other]);
            let (top, low) = (max(a, b), min(a, b));
            let (down_a, down_b) = (a - top, b - top);
            let (scale_a, scale_b) = (down_a.exp(), down_b.exp());
            weighteds[unit] = (weighteds[unit] + down_a * sums[unit]) * scale_a
                + (weighteds[other] + down_b * sums[other]) * scale_b;
            all_squares[unit] =
                all_squares[unit] * scale_a * scale_a + all_squares[other] * scale_b * scale_b;
            sums[unit] = sums[unit] * scale_a + sums[other] * scale_b;
            seconds[unit] = max(low, max(seconds[unit], seconds[other]));
            highests[unit] = top;
        }
        sync_cube();
    }

    if unit == 0 {
        let at = row * output.stride(0);
        output[at] = highests[0];
        output[at + 1] = sums[0];
        output[at + 2] = weighteds[0];
        output[at + 3] = seconds[0];
        output[at + 4] = all_squares[0];
        let target = u32::cast_from(targets[row]);
        let mut logit = f32::new(0.0);
        if target >= start {
            let place = (target - start) as usize;
            if place < columns {
                let (vector, at) = (place / size, place % size);
                logit = f32::cast_from(logits[first + vector].extract_dynamic(at))
                    + f32::cast_from(bias[vector].extract_dynamic(at));
            }
        }
        output[at + 5] = logit;
    }
}
