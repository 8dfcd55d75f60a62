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
    let count = input.shape(1) / size;
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    normalize::<F, N>(input, residual, at, &mut kept, epsilon, units, vectors, rows, has_residual);
    let written = at * output.stride(0) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if is_row && column < count {
            let mut value = kept[i] * Vector::cast_from(gamma[column]);
            if has_beta {
                value += Vector::cast_from(beta[column]);
            }
            output[written + column] = Vector::cast_from(value);
        }
    }
}

/// With x̂ the normalised row, σ its standard deviation and g `gradient` · `gamma`: (g − mean(g) − x̂ · mean(g · x̂)) / σ.
#[cube(launch)]
pub(super) fn gradient<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    residual: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<F, N>>,
    gradient: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[comptime] has_residual: bool,
    #[define(F)] _type: ElemType,
) {
    let size = input.vector_size();
    let unit = UNIT_POS_X as usize;
    let row = CUBE_POS * rows + UNIT_POS_Y as usize;
    let is_row = row < input.shape(0);
    // All units go through the sums together.
    let at = select(is_row, row, 0);
    let count = input.shape(1) / size;
    let width = f32::cast_from(input.shape(1));
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    let scale =
        normalize::<F, N>(input, residual, at, &mut kept, epsilon, units, vectors, rows, has_residual);
    let mut weighted = Array::<Vector<f32, N>>::new(vectors);
    let (mut sum, mut product) = (Vector::<f32, N>::zeroed(), Vector::<f32, N>::zeroed());
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if column < count {
            let value = Vector::<f32, N>::cast_from(gradient[at * gradient.stride(0) / size + column]);
            weighted[i] = value * Vector::cast_from(gamma[column]);
            sum += weighted[i];
            product += weighted[i] * kept[i];
        }
    }
    let mean = sum_of_row(sum.vector_sum(), units, rows) / width;
    let slope = sum_of_row(product.vector_sum(), units, rows) / width;
    let written = at * output.stride(0) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if is_row && column < count {
            let value = weighted[i] - Vector::new(mean) - kept[i] * Vector::new(slope);
            output[written + column] = Vector::cast_from(value * Vector::new(scale));
        }
    }
}

/// Sums of `gradient` · x̂ and of `gradient`, over the rows p, p + parts, p + 2 · parts, … for each part p, in so many turns.
#[cube(launch)]
pub(super) fn vector_gradients<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    residual: &Tensor<Vector<F, N>>,
    gradient: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    turns: u32,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[comptime] has_residual: bool,
    #[define(F)] _type: ElemType,
) {
    let size = input.vector_size();
    let unit = UNIT_POS_X as usize;
    let part = CUBE_POS * rows + UNIT_POS_Y as usize;
    let parts = output.shape(1);
    let count = input.shape(1) / size;
    let mut kept = Array::<Vector<f32, N>>::new(vectors);
    let mut of_gamma = Array::<Vector<f32, N>>::new(vectors);
    let mut of_beta = Array::<Vector<f32, N>>::new(vectors);
    #[unroll]
    for i in 0..vectors {
        of_gamma[i] = Vector::<f32, N>::zeroed();
        of_beta[i] = Vector::<f32, N>::zeroed();
    }
    // As often for all units of a cube, which go through the sums together.
    for turn in 0..turns {
        let row = turn as usize * parts + part;
        let is_row = row < input.shape(0);
        let at = select(is_row, row, 0);
        normalize::<F, N>(input, residual, at, &mut kept, epsilon, units, vectors, rows, has_residual);
        #[unroll]
        for i in 0..vectors {
            let column = i * units + unit;
            if is_row && column < count {
                let value = Vector::<f32, N>::cast_from(gradient[at * gradient.stride(0) / size + column]);
                of_gamma[i] = of_gamma[i] + value * kept[i];
                of_beta[i] = of_beta[i] + value;
            }
        }
    }
    let stride = output.stride(1) / size;
    #[unroll]
    for i in 0..vectors {
        let column = i * units + unit;
        if column < count {
            output[part * stride + column] = of_gamma[i];
            output[(parts + part) * stride + column] = of_beta[i];
        }
    }
}

/// Reads row `at` and leaves it normalised in `kept`; its 1 / σ.
#[cube]
fn normalize<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    residual: &Tensor<Vector<F, N>>,
    at: usize,
    kept: &mut Array<Vector<f32, N>>,
    epsilon: f32,
    #[comptime] units: usize,
    #[comptime] vectors: usize,
    #[comptime] rows: usize,
    #[comptime] has_residual: bool,
) -> f32 {
    let size = input.vector_size();
    let unit = UNIT_POS_X as usize;
    let width = input.shape(1);
    let count = width / size;
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
    #[unroll]
    for i in 0..vectors {
        if i * units + unit < count {
            kept[i] = kept[i] * Vector::new(scale);
        }
    }
    scale
}
