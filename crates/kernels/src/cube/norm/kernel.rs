//! The normalisation itself.

use burn_cubecl::cubecl;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::cube::rows::sum_of_row;

#[cube(launch)]
pub(super) fn normalized<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    residual: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<F, N>>,
    beta: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[comptime] has_residual: bool,
    #[comptime] has_beta: bool,
    #[define(F)] _type: ElemType,
) {
    let size = input.vector_size();
    let unit = UNIT_POS_X as usize;
    let row = CUBE_POS * rows + UNIT_POS_Y as usize;
    let is_row = row < input.shape(0);
    // All units go through the sums together.
    let at = select(is_row, row, 0);
    let width = input.shape(1);
    let count = width / size;
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    let mut sum = Vector::<f32, N>::zeroed();
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if column < count {
            let mut value = Vector::cast_from(input[at * input.stride(0) / size + column]);
            if has_residual {
                value += Vector::cast_from(residual[at * residual.stride(0) / size + column]);
            }
            kept[i] = value;
            sum += value;
        }
    }
    let mean = sum_of_row(sum.vector_sum(), units, rows) / f32::cast_from(width);
    let mut squares = Vector::<f32, N>::zeroed();
    #[unroll]
    for i in 0..vectors {
        if i * units + unit < count {
            kept[i] = kept[i] - Vector::new(mean);
            squares += kept[i] * kept[i];
        }
    }
    let variance = sum_of_row(squares.vector_sum(), units, rows) / f32::cast_from(width);
    let scale = f32::new(1.0) / f32::sqrt(variance + epsilon);
    let written = at * output.stride(0) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if is_row && column < count {
            let mut value = kept[i] * Vector::new(scale) * Vector::cast_from(gamma[column]);
            if has_beta {
                value += Vector::cast_from(beta[column]);
            }
            output[written + column] = Vector::cast_from(value);
        }
    }
}
