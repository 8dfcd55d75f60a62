//! Matrix products in bf16, weights and everything else in f32: what `--dtype bf16` computes, by tensors as a GPU does it, and
//! without them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::DType;
use entromask_encoder::Lanes;
use entromask_kernels::Products;
use entromask_training::{AdamWConfig, Gradients, Optimizer, evaluate};

use super::tests::{DROPOUT, batch, config, families, guided};
use super::*;

pub(super) struct Learned {
    losses: Losses,
    /// Of all parameters.
    gradient: Vec<f32>,
}

fn student(config: &EncoderConfig, products: Products) -> MaskedLm {
    MaskedLm::init(config, 3, &Device::flex().autodiff()).with_products(products)
}

pub(super) fn learned(model: &MaskedLm, objective: &ObjectiveConfig) -> Learned {
    Learned::of(learn(model, objective))
}

fn learned_on_host(model: &MaskedLm, config: &EncoderConfig, objective: &ObjectiveConfig) -> Learned {
    let body = HostBody::new(model, config, Lanes::default());
    Learned::of(learn_with(Some(&body), model, objective))
}

impl Learned {
    fn of((losses, gradients): (Losses, Gradients)) -> Self {
        Self { losses, gradient: gradients.to_host().into_values().flatten().collect() }
    }
}

/// A step, its body in tensors, where `model` is.
pub(super) fn learn(model: &MaskedLm, objective: &ObjectiveConfig) -> (Losses, Gradients) {
    learn_with(None, model, objective)
}

fn learn_with(body: Option<&HostBody>, model: &MaskedLm, objective: &ObjectiveConfig) -> (Losses, Gradients) {
    let device = model.decoder().1.device();
    let teacher = MaskedLm::init(&config(), 4, &device.clone().inner()).with_products(model.products());
    let teacher = if objective.needs_teacher() { Teacher::Model(&teacher, None) } else { Teacher::Nobody };
    let batch = batch();
    let whole = Counts::of(&batch, teacher, objective);
    let pass = Pass { objective, whole, filling: Filling::tight(0), device: &device, body, dropout: DROPOUT };
    let forward = forward(model, teacher, &batch, pass);
    (forward.losses, Gradients::collect(model, forward.backward(model)))
}

fn length(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// bf16 has 8 bits, so that a product of many numbers is off by less than a hundredth; and that it is off shows that bf16
/// was used.
fn assert_rounded(found: &Learned, exact: &Learned, name: &str) {
    let off = assert_near(found, exact, 0.02, name);
    assert!(off > 1e-5, "{name}: the gradient is off by {off}");
}

/// With tensors and without.
fn assert_both_rounded(config: &EncoderConfig, objective: &ObjectiveConfig, name: &str) {
    let exact = learned(&student(config, Products::AsTensors), objective);
    let rounded = student(config, Products::Bf16);
    assert_rounded(&learned(&rounded, objective), &exact, name);
    assert_rounded(&learned_on_host(&rounded, config, objective), &exact, &format!("{name} without tensors"));
}

/// Losses differ by `tolerance` / 2 at most, and the gradient by `tolerance`, both relative. Returns the latter.
pub(super) fn assert_near(found: &Learned, exact: &Learned, tolerance: f64, name: &str) -> f64 {
    let losses = |losses: Losses| [losses.ce, losses.kd, losses.cos, losses.hidden, losses.total];
    let pairs = losses(found.losses).into_iter().zip(losses(exact.losses));
    for (found, exact) in pairs.filter(|pair| pair.1 > 0.0) {
        assert!((found / exact - 1.0).abs() < tolerance / 2.0, "{name}: {found} is not {exact}");
    }
    assert_eq!(found.gradient.len(), exact.gradient.len());
    let off: Vec<f32> = found.gradient.iter().zip(&exact.gradient).map(|(a, b)| a - b).collect();
    let off = length(&off) / length(&exact.gradient);
    assert!(off < tolerance, "{name}: the gradient is off by {off}");
    off
}

#[test]
fn each_family_learns_nearly_the_same() {
    for config in families() {
        let objective = ObjectiveConfig::default();
        assert_both_rounded(&config, &objective, &format!("{:?}", config.model_type));
    }
}

#[test]
fn guidance_is_nearly_the_same() {
    for positions in [Positions::Masked, Positions::All] {
        let objective = guided(positions);
        assert_both_rounded(&config(), &objective, &format!("{positions:?}"));
    }
}

/// Every parameter, whose type must be f32.
fn weights(model: &MaskedLm) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert_eq!(param.val().dtype(), DType::F32);
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut found = Collect(Vec::new());
    model.visit(&mut found);
    found.0
}

/// Steps of 1e-5 are lost in a weight of bf16 that is 1, as the scales of normalisations are: its neighbours are 1/256
/// and 1/128 away. Master weights of f32 add them up.
#[test]
fn small_steps_add_up_in_the_master_weights() {
    let mut model = student(&config(), Products::Bf16);
    let mut optimizer = Optimizer::new(AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });
    let before = weights(&model);
    for _ in 0..20 {
        let (_, gradients) = learn(&model, &ObjectiveConfig::default());
        (model, _) = optimizer.step(1e-5, model, gradients).expect("finite");
    }
    let after = weights(&model);
    let ones = before.iter().zip(&after).filter(|(before, _)| before.to_bits() == 1f32.to_bits());
    let moved = ones.clone().filter(|(_, after)| (**after - 1.0).abs() > 1e-4).count();
    assert!(2 * moved > ones.count(), "{moved}");
}

#[test]
fn a_batch_is_learnt_by_heart() {
    let mut model = student(&config(), Products::Bf16);
    let mut optimizer = Optimizer::new(AdamWConfig::default());
    for _ in 0..200 {
        let (_, gradients) = learn(&model, &ObjectiveConfig::default());
        (model, _) = optimizer.step(5e-3, model, gradients).expect("finite");
    }
    let model = model.valid();
    assert_eq!(model.products(), Products::Bf16);
    let (hidden, targets) = Reader::new((&model, &config()), &Device::flex()).masked_states(&batch());
    let found = evaluate(&hidden, &decoder(&model), &targets);
    assert_eq!((found.hits, found.positions), (6, 6));
    assert!(found.surprisal / 6.0 < 0.1, "{}", found.surprisal / 6.0);
}
