//! Rotary position embeddings: Su et al., *`RoFormer`*, 2021, <https://arxiv.org/abs/2104.09864>.

use std::cell::RefCell;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The rotations of a forward pass, of which its layers share a few: each is computed when it is first asked for.
#[derive(Default)]
pub(crate) struct Rotations(RefCell<Vec<(f64, Rotation)>>);

impl Rotations {
    /// As [`Rotation::new`]; the lengths are the same in a pass.
    pub(crate) fn of(&self, theta: f64, seq_length: usize, head_size: usize, device: &Device) -> Rotation {
        let mut known = self.0.borrow_mut();
        if let Some((_, rotation)) = known.iter().find(|(of, _)| of.total_cmp(&theta).is_eq()) {
            return rotation.clone();
        }
        let rotation = Rotation::new(theta, seq_length, head_size, device);
        known.push((theta, rotation.clone()));
        rotation
    }
}

/// Rotary position embeddings of one row: cosines and sines, `[seq_length, head_size]`.
#[derive(Clone)]
pub(crate) struct Rotation {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rotation {
    fn new(theta: f64, seq_length: usize, head_size: usize, device: &Device) -> Self {
        let half = head_size / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / head_size as f32);
        let angles: Vec<f32> = (0..seq_length)
            .flat_map(|position| (0..head_size).map(move |i| position as f32 * frequency(i % half)))
            .collect();
        let table = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::<2>::from_data(TensorData::new(values, [seq_length, head_size]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Turns `x` `[batch_size, heads, n, head_size]`, which lies at `positions` `[batch_size, n]` or at 0, 1, ….
    pub(crate) fn turn(&self, x: Tensor<4>, positions: Option<&Tensor<2, Int>>) -> Tensor<4> {
        let [_, _, n, head_size] = x.dims();
        let at = |table: &Tensor<2>| match positions {
            Some(positions) => {
                let [rows, _] = positions.dims();
                table
                    .clone()
                    .select(0, positions.clone().reshape([rows * n]))
                    .reshape([rows, 1, n, head_size])
            }
            None => table.clone().reshape([1, 1, n, head_size]),
        };
        let half = head_size / 2;
        let [left, right] = [0, half].map(|start| x.clone().narrow(3, start, half));
        let turned = Tensor::cat(vec![right.neg(), left], 3);
        x * at(&self.cos) + turned * at(&self.sin)
    }
}
