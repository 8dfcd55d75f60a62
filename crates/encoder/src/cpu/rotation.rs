//! Rotary positions: Su et al., 2021, <https://arxiv.org/abs/2104.09864>.

use entromask_kernels::Matrix;

/// Cosines and sines of the angles at each position, `[positions, head_size / 2]`.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    angles: Vec<(f32, f32)>,
    half: usize,
}

/// Which way queries and keys are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// By the angles of their positions.
    Forward,
    /// By the same angles back, which is the backward pass.
    Inverse,
}

impl Rotation {
    pub(super) fn new(theta: f64, positions: usize, head_size: usize) -> Self {
        let half = head_size / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / head_size as f32);
        let angle = |position: usize| (0..half).map(move |i| position as f32 * frequency(i));
        let angles = (0..positions).flat_map(angle).map(|angle| (angle.cos(), angle.sin()));
        Self { angles: angles.collect(), half }
    }

    /// Turns the heads in the first `width` columns of the rows from `first` on, which lie at `positions`.
    pub(super) fn turn(
        &self,
        direction: Direction,
        values: &mut Matrix,
        first: usize,
        positions: impl Iterator<Item = usize>,
        width: usize,
    ) {
        let way = if direction == Direction::Inverse { -1.0 } else { 1.0 };
        for (row, position) in positions.enumerate() {
            let angles = &self.angles[position * self.half..][..self.half];
            for head in values.row_mut(first + row)[..width].chunks_exact_mut(2 * self.half) {
                let (left, right) = head.split_at_mut(self.half);
                for ((left, right), (cos, sin)) in left.iter_mut().zip(right).zip(angles) {
                    let sin = way * sin;
                    (*left, *right) = (*left * cos - *right * sin, *right * cos + *left * sin);
                }
            }
        }
    }
}
