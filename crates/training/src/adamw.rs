//! `AdamW` (Loshchilov & Hutter, 2019, algorithm 2).

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::change::Change;
use crate::gradients::CHUNK;
use crate::optimizer::AdamWConfig;

/// The scalars of one step, and the step of `AdamW`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) rate: f64,
    /// What gradients are multiplied with so that their norm is at most `clip`.
    pub(crate) scale: f64,
    pub(crate) betas: [f64; 2],
    /// 1 − βᵗ, which correct the moments' bias towards their start at 0; t are the parameter's own steps.
    pub(crate) corrections: [f64; 2],
    pub(crate) eps: f64,
    pub(crate) weight_decay: f64,
}

impl Update {
    /// The step after `steps` − 1 others, with a gradient of the global norm `norm`.
    pub(crate) fn new(config: &AdamWConfig, steps: u64, rate: f64, norm: f64) -> Self {
        let scale = if config.clip > 0.0 && norm > config.clip { config.clip / norm } else { 1.0 };
        let AdamWConfig { betas, eps, weight_decay, .. } = *config;
        Self { rate, scale, betas, corrections: [1.0; 2], eps, weight_decay }.corrected(steps)
    }

    /// For a parameter that makes its step number `steps`, with moments that began at 0 before the first of them.
    pub(crate) fn corrected(self, steps: u64) -> Self {
        Self { corrections: self.betas.map(|beta| 1.0 - beta.powf(steps as f64)), ..self }
    }

    pub(crate) fn decayed<const D: usize>(self) -> Self {
        Self { weight_decay: if D > 1 { self.weight_decay } else { 0.0 }, ..self }
    }

    /// The moments after `gradient`.
    pub(crate) fn moments_on_device(&self, gradient: Tensor<1>, moments: [Tensor<1>; 2]) -> [Tensor<1>; 2] {
        let [b1, b2] = self.betas;
        let gradient = gradient.mul_scalar(self.scale);
        let [first, second] = moments;
        let first = first.mul_scalar(b1) + gradient.clone().mul_scalar(1.0 - b1);
        [first, second.mul_scalar(b2) + gradient.square().mul_scalar(1.0 - b2)]
    }

    /// √v̂ + ε
    pub(crate) fn root_on_device(&self, second: &Tensor<1>) -> Tensor<1> {
        second.clone().div_scalar(self.corrections[1]).sqrt().add_scalar(self.eps)
    }

    fn on_chunk(&self, parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let [b1, b2] = self.betas.map(|beta| beta as f32);
        let (keep, scale) = ((1.0 - self.rate * self.weight_decay) as f32, self.scale as f32);
        let rate = (self.rate / self.corrections[0]) as f32;
        let (root, eps) = ((1.0 / self.corrections[1]).sqrt() as f32, self.eps as f32);
        for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * scale;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *p = keep * *p - rate * *m / (v.sqrt() * root + eps);
        }
    }
}

impl Change for Update {
    fn on_host(&self, parameter: &mut [f32], gradient: &[f32], [first, second]: &mut [Vec<f32>; 2]) {
        parameter
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
            .for_each(|((p, g), (m, v))| self.on_chunk(p, g, m, v));
    }

    fn on_device(
        &self,
        parameter: Tensor<1>,
        gradient: Tensor<1>,
        moments: [Tensor<1>; 2],
    ) -> [Tensor<1>; 3] {
        let [first, second] = self.moments_on_device(gradient, moments);
        let change = first.clone().mul_scalar(self.rate / self.corrections[0]) / self.root_on_device(&second);
        [parameter.mul_scalar(1.0 - self.rate * self.weight_decay) - change, first, second]
    }
}
