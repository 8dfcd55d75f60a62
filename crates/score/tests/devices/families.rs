//! What encoders of all families compute, on the models that `crates/encoder` compares with `transformers` on the CPU.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use entromask_encoder::{EncoderConfig, Filling, MaskedLm, Wanted};
use entromask_kernels::Products;
use entromask_random::{below, keyed};

use crate::{dtype, open, spec};

#[test]
fn states_on_the_device_are_those_of_the_cpu() {
    let device = open(&dtype());
    for case in cases() {
        let (model, config) = MaskedLm::from_pretrained(&case, &device).expect("loads");
        let found = states(&model, &config, &device);
        let exact = on_the_cpu(&case, Products::AsTensors);
        let (off, allowed) = (off(&found, &exact), allowed(&case, &exact));
        assert!(off <= allowed, "{}: off by {off}, {allowed} allowed", case.display());
    }
}

/// How far bf16 is off depends on the weights: products in bf16, of tensors that stay f32, are the measure. On CUDA those of
/// f32 round their factors to the eleven bits of TF32.
fn allowed(case: &Path, exact: &[f32]) -> f32 {
    let largest = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    match (dtype().as_str(), spec().starts_with("cuda")) {
        ("bf16", _) => 3.0 * off(&on_the_cpu(case, Products::Bf16), exact),
        (_, true) => 5e-3 * largest,
        (_, false) => 1e-4 * largest,
    }
}

fn off(found: &[f32], exact: &[f32]) -> f32 {
    assert_eq!(found.len(), exact.len());
    found.iter().zip(exact).fold(0.0, |most, (found, exact)| match (found - exact).abs() {
        off if off.is_nan() => f32::INFINITY,
        off => most.max(off),
    })
}

fn on_the_cpu(case: &Path, products: Products) -> Vec<f32> {
    let (model, config) = MaskedLm::from_pretrained(case, &Device::flex()).expect("loads");
    states(&model.with_products(products), &config, &Device::flex())
}

/// What the decoder sees at some tokens of rows of unlike length.
fn states(model: &MaskedLm, config: &EncoderConfig, device: &Device) -> Vec<f32> {
    let lengths = [14, 9, 1, 12];
    let rows = lengths.map(|length| ids(length, config.vocab_size));
    let positions = [vec![13, 0, 7], vec![8, 8], vec![0], (0..12).collect()];
    let wanted: Vec<Wanted<'_>> = rows
        .iter()
        .zip(&positions)
        .map(|(input_ids, positions)| Wanted { input_ids, token_type_ids: &[], positions })
        .collect();
    let states = model.states_at(&wanted, Filling::roomy(config.filling_id()), device);
    model.transform(states).cast(FloatDType::F32).try_into_vec_as().expect("f32")
}

fn ids(length: usize, vocab_size: usize) -> Vec<u32> {
    let mut random = keyed(1, "ids", length as u64, 0);
    (0..length).map(|_| below(vocab_size, &mut random) as u32).collect()
}

/// Below the crate, where cargo runs tests, or below the project.
fn cases() -> Vec<PathBuf> {
    let folders =
        ["../encoder", "crates/encoder"].map(|crate_| Path::new(crate_).join("tests/fixtures/families"));
    let folder = folders.iter().find(|folder| folder.is_dir()).expect("fixtures");
    let mut cases: Vec<PathBuf> =
        fs_err::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    assert!(cases.len() >= 15);
    cases
}
