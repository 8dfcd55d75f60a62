//! Muon: Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024,
//! <https://kellerjordan.github.io/posts/muon/>; scaled as in Liu et al., *Muon is Scalable for LLM Training*, 2025,
//! <https://arxiv.org/abs/2502.16982>, equation 4.
//!
//! The momentum of a matrix, μ·b + g with a look ahead (Nesterov), is replaced by the nearest matrix whose singular values
//! are about 1, and that times 0.2 · √(larger side) is the change, whose root mean square is about that of `AdamW`, so
//! that one learning rate and one weight decay serve both.

use burn::tensor::{Tensor, TensorData};
use entromask_kernels::Products;

use crate::adamw::Update;
use crate::gradients::Gradient;
use crate::moments::Moments;
use crate::scalars;

/// Of the quintic iteration, chosen for a steep rise at 0 (Jordan et al.).
const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;

/// The momentum is the first of the moments; the second stays empty.
pub(crate) fn step<const D: usize>(
    update: Update,
    momentum: f64,
    tensor: Tensor<D>,
    gradient: Gradient,
    moments: Option<Moments>,
) -> (Tensor<D>, Moments) {
    let (shape, device, on_host) = (tensor.shape(), tensor.device(), matches!(gradient, Gradient::Host(_)));
    let gradient = match gradient {
        Gradient::Host(data) => {
            Tensor::from_data(TensorData::new(flat(data), [shape.num_elements()]), &device)
        }
        Gradient::Device(tensor) => tensor,
    };
    let gradient = gradient.mul_scalar(update.scale);
    let velocity = match moments {
        Some(moments) => moments.into_device(&device)[0].clone().mul_scalar(momentum) + gradient.clone(),
        None => gradient.clone(),
    };
    let ahead = gradient + velocity.clone().mul_scalar(momentum);
    let [rows, columns] = [shape[0], shape[1]];
    let change = orthogonalized(ahead.reshape([rows, columns])).reshape(shape);
    let rate = update.rate * 0.2 * (rows.max(columns) as f64).sqrt();
    let kept = tensor.mul_scalar(1.0 - update.rate * update.weight_decay);
    (kept - change.mul_scalar(rate), stored(velocity, on_host))
}

/// U·Vᵀ of the singular value decomposition U·S·Vᵀ, roughly: singular values end between about 0.7 and 1.2.
fn orthogonalized(matrix: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    if rows > columns {
        return orthogonalized(matrix.transpose()).transpose();
    }
    let norm = scalars::sum(matrix.clone().square()).sqrt().clamp_min(1e-7);
    let [a, b, c] = COEFFICIENTS;
    (0..ITERATIONS).fold(matrix / norm.unsqueeze(), |x, _| {
        let square = product(x.clone(), x.clone().transpose());
        let polynomial = square.clone().mul_scalar(b) + product(square.clone(), square).mul_scalar(c);
        x.clone().mul_scalar(a) + product(polynomial, x)
    })
}

fn product(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    Products::AsTensors.matmul(left, right)
}

fn stored(velocity: Tensor<1>, on_host: bool) -> Moments {
    let empty = Tensor::zeros([0], &velocity.device());
    let moments = Moments::Device(Box::new([velocity, empty]));
    if on_host { Moments::Host(moments.into_host()) } else { moments }
}

fn flat(data: TensorData) -> Vec<f32> {
    data.try_into_vec().expect("gradients are f32 on the CPU")
}

#[cfg(test)]
mod tests {
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::{AdjustLrFn, MuonConfig, Optimizer as _};
    use burn::tensor::Device;

    use super::*;
    use crate::optimizer::AdamWConfig;
    use crate::scalars::tests::assert_bits_follow_no_threads;

    fn wave(step: usize, shape: [usize; 2]) -> Tensor<2> {
        let value = |i: usize| ((i * i + 7 * i + step * 3) as f32 * 0.37).sin();
        let values = (0..shape[0] * shape[1]).map(value).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn vec(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn changes_are_nearly_orthogonal() {
        for shape in [[6, 10], [10, 6]] {
            let found = orthogonalized(wave(1, shape));
            let wide = if shape[0] > shape[1] { found.transpose() } else { found };
            let gram = vec(wide.clone().matmul(wide.transpose()));
            for (index, value) in gram.iter().enumerate() {
                let expected = if index % 7 == 0 { 1.0 } else { 0.0 };
                assert!((value - expected).abs() < 0.5, "{shape:?} {index}: {value}");
            }
        }
    }

    #[test]
    fn a_large_matrix_gets_the_same_bits_on_any_number_of_threads() {
        assert_bits_follow_no_threads(|matrix| vec(orthogonalized(matrix)));
    }

    #[test]
    fn many_steps_agree_with_burn() {
        let config = AdamWConfig { weight_decay: 0.1, clip: 0.0, ..AdamWConfig::default() };
        let decay = WeightDecayConfig::new(0.1);
        let burn = MuonConfig::new()
            .with_weight_decay(Some(decay))
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
            .build();
        for shape in [[5, 9], [9, 5]] {
            let [mut theirs, mut ours] = [wave(50, shape), wave(50, shape)];
            let (mut state, mut moments) = (None, None);
            for number in 0..6 {
                (theirs, state) = burn.step(0.01, theirs, wave(number, shape), state);
                let update = Update::new(&config, number as u64 + 1, 0.01, 1.0);
                let gradient = Gradient::Host(wave(number, shape).into_data());
                let (next, found) = step(update, 0.95, ours, gradient, moments);
                (ours, moments) = (next, Some(found));
            }
            let (ours, theirs) = (vec(ours), vec(theirs));
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?} {theirs:?}");
        }
    }
}
