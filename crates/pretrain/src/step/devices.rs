//! A training step on the device that `ENTROMASK_TEST_DEVICE` names (`wgpu`, `vulkan`, `cuda`; by default the CPU, in tensors)
//! against the CPU.
//!
//! ```console
//! ENTROMASK_TEST_DEVICE=cuda cargo test --release --workspace --features entromask-device/cuda --lib -- on_the_device
//! ```

use burn::tensor::DType;
use entromask_kernels::Products;
use entromask_training::{AdamWConfig, Optimizer};

use super::mixed::{assert_near, learn, learned};
use super::tests::{config, families, guided};
use super::*;

fn spec() -> String {
    std::env::var("ENTROMASK_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

fn device() -> Device {
    entromask_device::open_all(&spec(), "f32").expect("opens").all.swap_remove(0).autodiff()
}

/// `exact`, or what the eleven bits of TF32 allow, to which tensor cores of CUDA round the factors of products of f32.
fn tolerance(exact: f64) -> f64 {
    if spec().starts_with("cuda") { 5e-3 } else { exact }
}

fn student(config: &EncoderConfig, device: &Device) -> MaskedLm {
    MaskedLm::init(config, 3, device)
}

#[test]
fn gradients_on_the_device_are_those_of_the_cpu() {
    let (device, cpu) = (device(), Device::flex().autodiff());
    for config in families() {
        let [found, exact] =
            [&device, &cpu].map(|device| learned(&student(&config, device), &ObjectiveConfig::default()));
        assert_near(&found, &exact, tolerance(1e-3), &format!("{:?}", config.model_type));
    }
    for positions in [Positions::Masked, Positions::All] {
        let [found, exact] =
            [&device, &cpu].map(|device| learned(&student(&config(), device), &guided(positions)));
        assert_near(&found, &exact, tolerance(1e-3), &format!("{positions:?}"));
    }
}

#[test]
fn products_in_bf16_on_the_device_are_near_those_in_f32() {
    let (device, cpu) = (device(), Device::flex().autodiff());
    if !device.supports_dtype(DType::BF16) {
        assert!(entromask_device::open_all(&spec(), "bf16").is_err(), "refused before it is used");
        return;
    }
    for config in families() {
        let rounded = student(&config, &device).with_products(Products::Bf16);
        let [found, exact] =
            [&rounded, &student(&config, &cpu)].map(|model| learned(model, &ObjectiveConfig::default()));
        assert_near(&found, &exact, 0.02, &format!("{:?}", config.model_type));
    }
}

#[test]
fn steps_on_the_device_are_those_of_the_cpu() {
    let train = |device: &Device| {
        let (mut model, mut losses) = (student(&config(), device), Vec::new());
        let mut optimizer = Optimizer::new(AdamWConfig::default());
        for _ in 0..10 {
            let (found, gradients) = learn(&model, &guided(Positions::Masked));
            losses.push(found.total);
            (model, _) = optimizer.step(1e-3, model, gradients).expect("finite");
        }
        losses
    };
    let (found, exact) = (train(&device()), train(&Device::flex().autodiff()));
    assert!(exact[9] < exact[0] - 0.05, "something is learnt: {exact:?}");
    assert!(
        found.iter().zip(&exact).all(|(a, b)| (a / b - 1.0).abs() < tolerance(1e-3)),
        "{found:?} {exact:?}"
    );
}
