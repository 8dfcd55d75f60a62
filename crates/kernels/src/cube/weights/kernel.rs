//! The softmax itself.

use burn_cubecl::cubecl;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::cube::rows::{highest_of_row, sum_of_row};

/// Below any score, yet finite: a row that is all hidden stays finite, and shading languages know no infinity.
const LOWEST_SCORE: f32 = -1e30;

#[cube(launch)]
pub(super) fn weights<F: Float, N: Size, B: Numeric>(
    scores: &Tensor<Vector<F, N>>,
    hidden: &Tensor<B>,
    output: &mut Tensor<Vector<F, N>>,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[comptime] has_hidden: bool,
    #[define(F, B)] _types: [ElemType; 2],
) {
    let size = scores.vector_size();
    let unit = UNIT_POS_X as usize;
    let (heads, n) = (scores.shape(1), scores.shape(2));
    let row = CUBE_POS * rows + UNIT_POS_Y as usize;
    let is_row = row < scores.shape(0) * heads * n;
    // All units go through the reductions together.
    let at = select(is_row, row, 0);
    let count = scores.shape(3) / size;
    let mask =
        at / (heads * n) * hidden.stride(0) + at / n % heads * hidden.stride(1) + at % n * hidden.stride(2);
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    let mut highest = f32::new(LOWEST_SCORE);
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if column < count {
            let mut value = Vector::<f32, N>::cast_from(scores[at * scores.stride(2) / size + column]);
            #[unroll]
            for j in 0..N::value() {
                if has_hidden {
                    if u32::cast_from(hidden[mask + (column * size + j) * hidden.stride(3)]) != 0 {
                        value.insert(j, f32::new(LOWEST_SCORE));
                    }
                }
                highest = max(highest, value.extract(j));
            }
            kept[i] = value;
        }
    }
    let highest = highest_of_row(highest, units, rows);
    let mut sum = Vector::<f32, N>::zeroed();
    #[unroll]
    for i in 0..vectors {
        if i * units + unit < count {
            kept[i] = (kept[i] - Vector::new(highest)).exp();
            sum += kept[i];
        }
    }
    let share = f32::new(1.0) / sum_of_row(sum.vector_sum(), units, rows);
    let written = at * output.stride(2) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if is_row && column < count {
            output[written + column] = Vector::cast_from(kept[i] * Vector::new(share));
        }
    }
}

/// `weights` · (`gradient` − Σ `weights` · `gradient`), the sum over a row.
#[cube(launch)]
pub(super) fn gradient<F: Float, N: Size>(
    weights: &Tensor<Vector<F, N>>,
    gradient: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[define(F)] _type: ElemType,
) {
    let size = weights.vector_size();
    let unit = UNIT_POS_X as usize;
    let row = CUBE_POS * rows + UNIT_POS_Y as usize;
    let is_row = row < weights.shape(0) * weights.shape(1) * weights.shape(2);
    // All units go through the sum together.
    let at = select(is_row, row, 0);
    let count = weights.shape(3) / size;
    let mut shares = Array::<Vector<f32, N>>::new(vectors);
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    let mut sum = Vector::<f32, N>::zeroed();
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if column < count {
            shares[i] = Vector::cast_from(weights[at * weights.stride(2) / size + column]);
            kept[i] = Vector::cast_from(gradient[at * gradient.stride(2) / size + column]);
            sum += shares[i] * kept[i];
        }
    }
    let sum = sum_of_row(sum.vector_sum(), units, rows);
    let written = at * output.stride(2) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if is_row && column < count {
            output[written + column] = Vector::cast_from(shares[i] * (kept[i] - Vector::new(sum)));
        }
    }
}
