//! How units of a GPU share the rows of a matrix: some units take a row, and a cube as many rows as it has units for.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::ir::VectorSize;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: usize = 256;

/// Units that share a row unless it is long: as many as NVIDIA's run in step.
const FEW: usize = 32;

/// Vectors that a unit keeps in registers where it may have more units beside it.
const VECTORS: usize = 4;

/// Cubes along one dimension of a launch: WebGPU takes no more than 65,535.
const CUBES: usize = 32_768;

/// Who takes what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Of a row.
    pub(super) units: usize,
    /// Vectors of a unit at most.
    pub(super) vectors: usize,
    /// Of a cube.
    pub(super) rows: usize,
}

impl Shares {
    /// For rows of so many vectors on a device whose cubes have at most `most` units.
    pub(super) fn new(vectors: usize, most: usize) -> Self {
        let most = 1 << UNITS.min(most).ilog2();
        let units = vectors.min(FEW).max(vectors.div_ceil(VECTORS)).next_power_of_two().min(most);
        Self { units, vectors: vectors.div_ceil(units), rows: most / units }
    }

    pub(super) fn cube(self) -> CubeDim {
        CubeDim::new_2d(self.units as u32, self.rows as u32)
    }

    /// Cubes for so many rows.
    pub(super) fn cubes(self, rows: usize) -> CubeCount {
        let cubes = rows.div_ceil(self.rows);
        CubeCount::Static(cubes.min(CUBES) as u32, cubes.div_ceil(CUBES) as u32, 1)
    }
}

/// Whether the 32 bits that kernels count with are enough.
pub(super) fn is_indexable(tensor: &CubeTensor) -> bool {
    u32::try_from(tensor.meta.shape()[0] * tensor.meta.strides()[0]).is_ok()
}

/// Elements that a unit reads at once where all `lengths` are multiples of them.
pub(super) fn vector_size(client: &Client, dtype: DType, lengths: &[usize]) -> VectorSize {
    let divides = |&size: &VectorSize| lengths.iter().all(|length| length % size == 0);
    client.io_optimized_vector_sizes(dtype.size()).filter(divides).max().unwrap_or(1)
}

/// The sum of the values of all units of a row.
#[cube]
pub(super) fn sum_of_row(value: f32, #[comptime] units: usize, #[comptime] rows: usize) -> f32 {
    reduced_row(value, true, units, rows)
}

/// The highest of the values of all units of a row.
#[cube]
pub(super) fn highest_of_row(value: f32, #[comptime] units: usize, #[comptime] rows: usize) -> f32 {
    reduced_row(value, false, units, rows)
}

/// Their sum, or the highest.
#[cube]
fn reduced_row(
    value: f32,
    #[comptime] is_sum: bool,
    #[comptime] units: usize,
    #[comptime] rows: usize,
) -> f32 {
    let mut values = Shared::new_slice(comptime!(units * rows));
    let (unit, first) = (UNIT_POS_X as usize, UNIT_POS_Y as usize * units);
    values[first + unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let (a, b) = (values[first + unit], values[first + unit + half]);
            if is_sum {
                values[first + unit] = a + b;
            } else {
                values[first + unit] = max(a, b);
            }
        }
        sync_cube();
    }
    values[first]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_a_row_and_fill_a_cube() {
        for vectors in 1..3_000 {
            for most in [64, 256, 1_000] {
                let Shares { units, vectors: each, rows } = Shares::new(vectors, most);
                assert!(units * each >= vectors && units * (each - 1) < vectors, "{vectors}");
                assert!(units.is_power_of_two() && rows >= 1 && units * rows <= most.min(UNITS));
            }
        }
    }

    #[test]
    fn a_row_of_a_model_is_read_at_once() {
        let few = Shares::new(16, 1_024);
        assert_eq!((few.units, few.vectors, few.rows), (16, 1, 16));
        let width = Shares::new(96, 1_024);
        assert_eq!((width.units, width.vectors, width.rows), (32, 3, 8));
        let long = Shares::new(1_024, 1_024);
        assert_eq!((long.units, long.vectors, long.rows), (256, 4, 1));
    }

    #[test]
    fn no_dimension_has_more_cubes_than_webgpu_takes() {
        let CubeCount::Static(x, y, 1) = Shares::new(256, 256).cubes(1_000_000) else { panic!("static") };
        assert!(x <= 65_535 && y <= 65_535 && x as usize * y as usize * 4 >= 1_000_000);
    }
}
