//! LAMB: You et al., *Large Batch Optimization for Deep Learning: Training BERT in 76 minutes*, ICLR 2020, algorithm 2,
//! <https://arxiv.org/abs/1904.00962>.
//!
//! With bias-corrected moments m̂ and v̂ of a matrix θ, r = m̂ / (√v̂ + ε) + λθ, and θ ← θ − η · ‖θ‖ / ‖r‖ · r. Where one
//! of the norms is 0 their ratio counts as 1. Norms and biases are neither decayed nor scaled, as in the authors' code.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::adamw::Update;
use crate::change::Change;
use crate::gradients::{CHUNK, sum_of_squares};

/// The step of LAMB.
pub(crate) struct Lamb(pub(crate) Update);

impl Change for Lamb {
    fn on_host(&self, parameter: &mut [f32], gradient: &[f32], moments: &mut [Vec<f32>; 2]) {
        let direction = direction(self.0, parameter, gradient, moments);
        let ratio = ratio(sum_of_squares(parameter).sqrt(), sum_of_squares(&direction).sqrt());
        let rate = (self.0.rate * ratio) as f32;
        let chunks = parameter.par_chunks_mut(CHUNK).zip(direction.par_chunks(CHUNK));
        chunks.for_each(|(values, changes)| values.iter_mut().zip(changes).for_each(|(p, r)| *p -= rate * r));
    }

    fn on_device(
        &self,
        parameter: Tensor<1>,
        gradient: Tensor<1>,
        moments: [Tensor<1>; 2],
    ) -> [Tensor<1>; 3] {
        let Self(update) = self;
        let [first, second] = update.moments_on_device(gradient, moments);
        let direction = first.clone().div_scalar(update.corrections[0]) / update.root_on_device(&second)
            + parameter.clone().mul_scalar(update.weight_decay);
        let ratio = ratio_on_device(&parameter, &direction);
        [parameter - direction * ratio.mul_scalar(update.rate), first, second]
    }
}

/// r, after an update of the moments.
fn direction(
    update: Update,
    parameter: &[f32],
    gradient: &[f32],
    [first, second]: &mut [Vec<f32>; 2],
) -> Vec<f32> {
    let [b1, b2] = update.betas.map(|beta| beta as f32);
    let [c1, c2] = update.corrections.map(|correction| (1.0 / correction) as f32);
    let (scale, eps, decay) = (update.scale as f32, update.eps as f32, update.weight_decay as f32);
    let mut direction = vec![0.0; parameter.len()];
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    let values = parameter.par_chunks(CHUNK).zip(gradient.par_chunks(CHUNK));
    direction.par_chunks_mut(CHUNK).zip(moments.zip(values)).for_each(|(r, ((m, v), (p, g)))| {
        for ((r, (m, v)), (p, g)) in r.iter_mut().zip(m.iter_mut().zip(v)).zip(p.iter().zip(g)) {
            let g = g * scale;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *r = *m * c1 / ((*v * c2).sqrt() + eps) + decay * p;
        }
    });
    direction
}

fn ratio(parameter: f64, direction: f64) -> f64 {
    if parameter > 0.0 && direction > 0.0 { parameter / direction } else { 1.0 }
}

/// [`ratio()`] of the norms as a number that never leaves the device, `[1]`.
fn ratio_on_device(parameter: &Tensor<1>, direction: &Tensor<1>) -> Tensor<1> {
    let norm = |tensor: &Tensor<1>| tensor.clone().square().sum().sqrt();
    let [parameter, direction] = [norm(parameter), norm(direction)];
    let is_zero = parameter.clone().equal_elem(0.0).bool_or(direction.clone().equal_elem(0.0));
    (parameter / direction).mask_fill(is_zero, 1.0)
}

#[cfg(test)]
mod tests {
    use burn::optim::{LambConfig, Optimizer as _};
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::change::step;
    use crate::gradients::Gradient;
    use crate::optimizer::AdamWConfig;

    const CONFIG: AdamWConfig = AdamWConfig { betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.1, clip: 0.0 };

    fn vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
    }

    /// By hand: in the first step m̂ / √v̂ is the sign of the gradient, so r = (1 + 0.3, −1 + 0.4) = (1.3, −0.6) for
    /// θ = (3, 4) and λ = 0.1; ‖θ‖ / ‖r‖ = 5 / √2.05 = 3.492151, and with η = 0.01
    /// θ ← (3 − 0.0453980, 4 + 0.0209529).
    #[test]
    fn one_step_by_hand() {
        let update = Update::new(&CONFIG, 1, 0.01, 1.0);
        let parameter = Tensor::<2>::from_floats([[3.0, 4.0]], &Device::flex());
        let gradient = Gradient::Host(TensorData::from([0.5f32, -0.25]));
        let (found, _) = step(&Lamb(update), parameter, gradient, None);
        assert!(close(&vec(found), &[2.954_602, 4.020_953], 1e-5));
    }

    #[test]
    fn a_parameter_of_zeros_can_begin_to_move() {
        let update = Update::new(&CONFIG, 1, 0.01, 1.0);
        let parameter = Tensor::<2>::zeros([1, 2], &Device::flex());
        let gradient = Gradient::Host(TensorData::from([0.5f32, -0.25]));
        let (found, _) = step(&Lamb(update), parameter.clone(), gradient, None);
        assert!(close(&vec(found), &[-0.01, 0.01], 1e-6));
        let gradient = Tensor::from_floats([0.5, -0.25], &Device::flex());
        let (found, _) = step(&Lamb(update), parameter.clone(), Gradient::Device(gradient), None);
        assert!(close(&vec(found), &[-0.01, 0.01], 1e-6));
        let nothing = Gradient::Device(Tensor::zeros([2], &Device::flex()));
        let (found, _) = step(&Lamb(update), parameter, nothing, None);
        assert!(close(&vec(found), &[0.0, 0.0], 1e-9), "both norms are 0");
    }

    #[test]
    fn many_steps_agree_with_burn_and_on_a_device() {
        let device = Device::flex();
        let burn = LambConfig::new().with_weight_decay(0.1).build();
        let wave = |step: usize| {
            let value = |i: usize| ((i * 7 + step * 3) as f32).sin();
            Tensor::<2>::from_data(TensorData::new((0..40).map(value).collect(), [8, 5]), &device)
        };
        let [mut theirs, mut ours, mut on_device] = [wave(100), wave(100), wave(100)];
        let (mut state, mut moments, mut device_moments) = (None, None, None);
        for number in 0..12 {
            let update = Lamb(Update::new(&CONFIG, number as u64 + 1, 0.02, 1.0));
            (theirs, state) = burn.step(0.02, theirs, wave(number), state);
            let gradient = Gradient::Host(wave(number).into_data());
            let (next, found) = step(&update, ours, gradient, moments);
            (ours, moments) = (next, Some(found));
            let gradient = Gradient::Device(wave(number).flatten(0, 1));
            let (next, found) = step(&update, on_device, gradient, device_moments);
            (on_device, device_moments) = (next, Some(found));
        }
        let theirs = vec(theirs);
        assert!(close(&vec(ours), &theirs, 2e-5) && close(&vec(on_device), &theirs, 2e-5));
        assert!(!close(&theirs, &vec(wave(100)), 0.05), "it moves");
    }
}
