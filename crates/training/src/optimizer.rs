//! The optimizer: a rule that turns gradients into changes, clipping by the global norm, and the state of the rule.
//!
//! burn's optimizers key their state by parameter ids, which are drawn anew in every process, and clip each tensor by
//! itself. This one keys by path, so that its file is the same bytes in every run, and on the CPU it updates
//! parameter and moments in one pass over memory instead of a dozen.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::adamw::Update;
use crate::change;
use crate::diverged::diverged;
use crate::gradients::{Gradient, Gradients};
use crate::lamb::Lamb;
use crate::moments::{self, Kept, Moments};
use crate::muon;

/// How gradients become changes of the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// `AdamW` (Loshchilov & Hutter, 2019).
    #[default]
    AdamW,
    /// LAMB (You et al., 2020): `AdamW`'s change of each matrix, scaled to the matrix's norm. For large batches.
    Lamb,
    /// Muon (Jordan et al., 2024), scaled as `AdamW`'s changes are (Liu et al., 2025), for the matrices of the layers;
    /// `AdamW` for embeddings, decoder, norms and biases.
    Muon,
}

/// Share of its momentum that [`Rule::Muon`] keeps in a step, if nothing is said.
pub const MOMENTUM: f64 = 0.95;

/// The constants of [`Rule::AdamW`], and of what stands on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of matrices; norms and biases (parameters of one dimension) have none.
    pub weight_decay: f64,
    /// Largest global gradient norm; larger gradients are scaled down to it. 0 does not clip.
    pub clip: f64,
}

/// A rule with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The rule.
    pub rule: Rule,
    /// The constants of `AdamW`.
    pub adamw: AdamWConfig,
    /// Momentum of Muon.
    pub momentum: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.01, clip: 1.0 }
    }
}

impl From<AdamWConfig> for OptimizerConfig {
    fn from(adamw: AdamWConfig) -> Self {
        Self { rule: Rule::AdamW, adamw, momentum: MOMENTUM }
    }
}

/// An optimizer and its state: the number of steps, and the moments of each parameter by path. A parameter that has been
/// frozen at first begins as if the optimizer were new to it.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    kept: BTreeMap<String, Kept>,
}

impl Optimizer {
    /// An optimizer that has not made a step.
    pub fn new(config: impl Into<OptimizerConfig>) -> Self {
        Self { config: config.into(), steps: 0, kept: BTreeMap::new() }
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates the parameters of `module` that have a gradient. Returns them with the norm before clipping.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class failed if the norm is not finite; neither module nor state are changed then.
    pub fn step<M: Module>(
        &mut self,
        rate: f64,
        module: M,
        gradients: Gradients,
    ) -> anyhow::Result<(M, f64)> {
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(diverged(&format!("the gradient norm is {norm}"), ""));
        }
        self.steps += 1;
        let mut mapper = Mapper {
            update: Update::new(&self.config.adamw, self.steps, rate, norm),
            config: self.config,
            steps: self.steps,
            gradients: gradients.by_path,
            kept: &mut self.kept,
            path: Vec::new(),
        };
        Ok((module.map(&mut mapper), norm))
    }

    /// Writes the state. Equal states give equal bytes.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        moments::write(path, self.steps, &self.kept)
    }

    /// Reads what [`Optimizer::save`] wrote. The moments move to the parameters' device at the first step.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class input if the file is missing, damaged or something else.
    pub fn load(config: impl Into<OptimizerConfig>, path: &Path) -> anyhow::Result<Self> {
        let (steps, kept) = moments::read(path)?;
        Ok(Self { config: config.into(), steps, kept })
    }
}

struct Mapper<'a> {
    update: Update,
    config: OptimizerConfig,
    /// With the one that is made.
    steps: u64,
    gradients: BTreeMap<String, Gradient>,
    kept: &'a mut BTreeMap<String, Kept>,
    path: Vec<String>,
}

impl Mapper<'_> {
    /// What the parameter becomes in its own step number `steps`, and its moments.
    fn changed<const D: usize>(
        &self,
        (path, steps): (&str, u64),
        tensor: Tensor<D>,
        gradient: Gradient,
        moments: Option<Moments>,
    ) -> (Tensor<D>, Moments) {
        let update = self.update.corrected(steps).decayed::<D>();
        match self.config.rule {
            Rule::Muon if D == 2 && !is_table(path) => {
                muon::step(update, self.config.momentum, tensor, gradient, moments)
            }
            Rule::Lamb if D > 1 => change::step(&Lamb(update), tensor, gradient, moments),
            _ => change::step(&update, tensor, gradient, moments),
        }
    }
}

/// Whether a matrix holds a row for each of something, and is no map between hidden states.
fn is_table(path: &str) -> bool {
    path.split('.').any(|field| field.ends_with("embeddings") || field == "decoder")
}

impl ModuleMapper for Mapper<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(gradient) = self.gradients.remove(&path) else { return param };
        let (id, tensor, mapper) = param.consume();
        let device = tensor.device();
        let (moments, born) = match self.kept.remove(&path) {
            Some(Kept { moments, born }) => (Some(moments), born),
            None => (None, self.steps - 1),
        };
        let own = self.steps - born;
        let (tensor, moments) = self.changed((&path, own), tensor.inner(), gradient, moments);
        self.kept.insert(path, Kept { moments, born });
        let tensor = if device.is_autodiff() { Tensor::from_inner(tensor).require_grad() } else { tensor };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamGroup;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamWConfig as BurnConfig, GradientsParams};
    use burn::tensor::{Device, TensorData};
    use entromask_fault::{Class, class_of};

    use super::*;

    const CONFIG: AdamWConfig = AdamWConfig { betas: [0.9, 0.99], eps: 1e-6, weight_decay: 0.1, clip: 0.0 };
    /// A size that is no multiple of a SIMD width.
    const WIDTH: usize = 37;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    fn ramp(step: usize) -> Tensor<2> {
        let values =
            (0..2 * WIDTH).map(|i| ((i * 7 + step * 13) % 11) as f32 / 11.0 - 0.4).collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(values, [2, WIDTH]), &device())
    }

    fn layer() -> Linear {
        let weight = (0..WIDTH * 3).map(|i| (i as f32 * 0.37).sin() * 0.3).collect::<Vec<_>>();
        let mut layer = LinearConfig::new(WIDTH, 3).init(&device());
        layer.weight = layer
            .weight
            .map(|_| Tensor::from_data(TensorData::new(weight, [WIDTH, 3]), &device()).require_grad());
        layer.bias = layer.bias.map(|bias| bias.map(|_| Tensor::zeros([3], &device()).require_grad()));
        layer
    }

    fn backward(layer: &Linear, step: usize) -> burn::tensor::Gradients {
        layer.forward(ramp(step)).sub_scalar(0.5).square().mean().backward()
    }

    fn values(layer: &Linear) -> Vec<f32> {
        let bias =
            layer.bias.as_ref().expect("has one").val().into_data().try_into_vec::<f32>().expect("f32");
        layer.weight.val().into_data().try_into_vec::<f32>().expect("f32").into_iter().chain(bias).collect()
    }

    fn train(optimizer: &mut Optimizer, mut layer: Linear, steps: std::ops::Range<usize>) -> Linear {
        for step in steps {
            let gradients = Gradients::collect(&layer, backward(&layer, step));
            (layer, _) = optimizer.step(0.01, layer, gradients).expect("finite");
        }
        layer
    }

    fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
    }

    #[test]
    fn agrees_with_burn() {
        let burn = |decay: f64| {
            BurnConfig::new()
                .with_beta_1(0.9)
                .with_beta_2(0.99)
                .with_epsilon(1e-6)
                .with_weight_decay(decay as f32)
        };
        let mut theirs =
            burn(0.1).init().with_group(ParamGroup::from_predicate("bias"), burn(0.0).build(), None);
        let mut reference = layer();
        for step in 0..20 {
            let gradients = GradientsParams::from_grads(backward(&reference, step), &reference);
            reference = theirs.step(0.01, reference, gradients);
        }
        let ours = train(&mut Optimizer::new(CONFIG), layer(), 0..20);
        assert!(close(&values(&ours), &values(&reference), 1e-5));
    }

    #[test]
    fn device_and_host_arithmetic_agree() {
        let (mut layer_on_device, mut optimizer) =
            (layer(), Optimizer::new(AdamWConfig { clip: 0.1, ..CONFIG }));
        for step in 0..10 {
            let gradients =
                Gradients::collect_in(&layer_on_device, backward(&layer_on_device, step), |_| false);
            (layer_on_device, _) = optimizer.step(0.01, layer_on_device, gradients).expect("finite");
        }
        let on_host = train(&mut Optimizer::new(AdamWConfig { clip: 0.1, ..CONFIG }), layer(), 0..10);
        assert!(close(&values(&layer_on_device), &values(&on_host), 1e-5));
    }

    #[test]
    fn saved_state_goes_on_bit_for_bit_and_is_the_same_bytes_each_time() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let mut whole = Optimizer::new(CONFIG);
        let straight = train(&mut whole, layer(), 0..6);
        let mut first = Optimizer::new(CONFIG);
        let half = train(&mut first, layer(), 0..3);
        first.save(&one)?;
        let mut second = Optimizer::load(CONFIG, &one)?;
        assert_eq!(values(&train(&mut second, half, 3..6)), values(&straight));
        whole.save(&one)?;
        second.save(&two)?;
        assert_eq!(std::fs::read(&one)?, std::fs::read(&two)?);
        assert_eq!(second.steps(), 6);
        Ok(())
    }

    /// Steps with a gradient that does not depend on the values, with the weight frozen or not.
    fn pull(optimizer: &mut Optimizer, mut layer: Linear, frozen: bool, steps: usize) -> Linear {
        layer.weight = layer.weight.set_require_grad(!frozen);
        for _ in 0..steps {
            let gradients = Gradients::collect(&layer, layer.forward(ramp(0)).sum().backward());
            (layer, _) = optimizer.step(0.01, layer, gradients).expect("finite");
        }
        layer
    }

    /// In a parameter's first step m̂ / √v̂ is the sign of its gradient, so that it moves by the rate, whatever the step of
    /// the others.
    #[test]
    fn what_thaws_later_begins_with_a_change_of_the_rate_and_goes_on_bit_for_bit() -> anyhow::Result<()> {
        let config = AdamWConfig { weight_decay: 0.0, ..CONFIG };
        let (mut optimizer, file) = (Optimizer::new(config), tempfile::NamedTempFile::new()?);
        let frozen = pull(&mut optimizer, layer(), true, 5);
        optimizer.save(file.path())?;
        let is_noted = |bytes: Vec<u8>| bytes.windows(5).any(|name| name == b"born.");
        assert!(!is_noted(std::fs::read(file.path())?), "the bias was trained from the beginning");
        let thawed = pull(&mut optimizer, frozen, false, 1);
        for (before, after) in values(&layer())[..WIDTH * 3].iter().zip(values(&thawed)) {
            assert!(((before - after).abs() - 0.01).abs() < 1e-5, "{before} {after}");
        }
        optimizer.save(file.path())?;
        assert!(is_noted(std::fs::read(file.path())?));
        let mut loaded = Optimizer::load(config, file.path())?;
        let straight = values(&pull(&mut optimizer, thawed.clone(), false, 3));
        assert_eq!(values(&pull(&mut loaded, thawed, false, 3)), straight);
        Ok(())
    }

    /// With a clip of half the norm, moments after one step are half of those without: (1 − β₁)·g and (1 − β₂)·g².
    #[test]
    fn clipping_scales_all_gradients_by_the_global_norm() {
        let layer = layer();
        let gradients = || Gradients::collect(&layer, backward(&layer, 0));
        let norm = gradients().norm();
        let moments = |clip: f64, gradients: Gradients| {
            let mut optimizer = Optimizer::new(AdamWConfig { clip, ..CONFIG });
            optimizer.step(0.01, layer.clone(), gradients).expect("finite");
            optimizer.kept.values().flat_map(|kept| kept.moments.to_host()[0].to_vec()).collect::<Vec<_>>()
        };
        let free = moments(0.0, gradients());
        let clipped = moments(norm / 2.0, gradients());
        assert!(free.iter().any(|value| value.abs() > 1e-3) && clipped.len() == free.len());
        assert!(close(&clipped, &free.iter().map(|value| value / 2.0).collect::<Vec<_>>(), 1e-7));
        assert!(close(&moments(norm * 2.0, gradients()), &free, 1e-9), "smaller norms are left alone");
    }

    #[test]
    fn gradients_that_are_not_finite_stop_the_run() {
        let layer = layer();
        let loss = layer.forward(ramp(0)).mul_scalar(f32::INFINITY).sum();
        let gradients = Gradients::collect(&layer, loss.backward());
        let error = Optimizer::new(CONFIG).step(0.01, layer, gradients).expect_err("not finite");
        assert_eq!(class_of(error.as_ref()), Class::Failed);
    }

    #[test]
    fn a_truncated_state_is_an_input_error() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let mut optimizer = Optimizer::new(CONFIG);
        train(&mut optimizer, layer(), 0..1);
        optimizer.save(file.path())?;
        let bytes = std::fs::read(file.path())?;
        for keep in [0, 7, bytes.len() - 1] {
            std::fs::write(file.path(), &bytes[..keep])?;
            let error = Optimizer::load(CONFIG, file.path()).expect_err("truncated");
            assert_eq!(class_of(error.as_ref()), Class::Input);
        }
        Ok(())
    }
}
