//! What layers compute between their matrix products.

use burn::tensor::{Bool, Device, FloatDType, Tensor, TensorData};
use entromask_kernels::{attention_weights, layer_norm};
use entromask_random::{keyed, normals};

use crate::device;
use crate::products::{read, types, worst};

fn draw<const D: usize>(shape: [usize; D], size: f64, purpose: &str) -> TensorData {
    let count = shape.iter().product();
    TensorData::new(normals(count, size, &mut keyed(1, purpose, count as u64, 0)), shape)
}

/// Padding of rows, the same for all heads and queries: none in the first row, everything in the last one.
fn hidden([rows, heads, n, length]: [usize; 4], device: &Device) -> Tensor<4, Bool> {
    let kept = |row: usize| length - row * length / (rows - 1).max(1);
    let hidden: Vec<bool> = (0..rows * length).map(|i| i % length >= kept(i / length)).collect();
    Tensor::<2, Bool>::from_data(TensorData::new(hidden, [rows, length]), device)
        .reshape([rows, 1, 1, length])
        .expand([rows, heads, n, length])
}

#[test]
fn weights_of_attention_are_right() {
    let device = device();
    for shape in
        [[3, 4, 5, 77], [4, 2, 16, 128], [2, 3, 7, 40], [2, 1, 3, 1_000], [40, 12, 128, 32], [1, 1, 2, 5_000]]
    {
        let scores = draw(shape, 3.0, "scores");
        for dtype in types(&device) {
            for padded in [false, true] {
                let weights = |device: &Device, computed: FloatDType| {
                    // What is compared is the softmax, not the rounding of its scores.
                    let scores = Tensor::<4>::from_data(scores.clone(), device).cast(dtype).cast(computed);
                    let hidden = padded.then(|| hidden(shape, device));
                    read(attention_weights(scores, hidden).cast(FloatDType::F32))
                };
                let (found, exact) = (weights(&device, dtype), weights(&Device::flex(), FloatDType::F32));
                let (most, at) = worst(&found, &exact, dtype);
                assert!(most <= 1e-5, "{shape:?}, {dtype:?}, padded: {padded}: off by {most} at {at}");
            }
        }
    }
}

#[test]
fn layer_normalisation_is_right() {
    let device = device();
    for [rows, width] in [[24, 16], [1, 64], [33, 768], [700, 100], [5, 77], [9, 2_050], [2_000, 256]] {
        let [input, residual] = ["input", "residual"].map(|name| draw([rows, width], 2.0, name));
        let [gamma, beta] = ["gamma", "beta"].map(|name| draw([width], 1.0, name));
        for dtype in types(&device) {
            for (has_residual, has_beta) in [(false, false), (true, false), (false, true), (true, true)] {
                let normed = |device: &Device, computed: FloatDType| {
                    let rounded = |tensor: Tensor<2>| tensor.cast(dtype).cast(computed);
                    let matrix = |data: &TensorData| rounded(Tensor::from_data(data.clone(), device));
                    let vector = |data: &TensorData| {
                        Tensor::<1>::from_data(data.clone(), device).cast(dtype).cast(computed)
                    };
                    let residual = has_residual.then(|| matrix(&residual));
                    let beta = has_beta.then(|| vector(&beta));
                    read(
                        layer_norm(matrix(&input), residual, vector(&gamma), beta, 1e-5)
                            .cast(FloatDType::F32),
                    )
                };
                let (found, exact) = (normed(&device, dtype), normed(&Device::flex(), FloatDType::F32));
                let (most, at) = worst(&found, &exact, dtype);
                assert!(most <= 1e-4, "{rows} × {width}, {dtype:?}: off by {most} at {at}");
            }
        }
    }
}

/// Rows in which every key is hidden are left out: what they weigh is said by nobody.
#[test]
fn gradients_of_weights_of_attention_are_right() {
    let device = device();
    for shape in [[3, 4, 5, 77], [4, 2, 16, 128], [2, 1, 3, 1_000], [40, 12, 128, 32]] {
        let (scores, weights) = (draw(shape, 3.0, "scores"), draw(shape, 1.0, "weights"));
        for padded in [false, true] {
            let gradient = |device: &Device| {
                let device = device.clone().autodiff();
                let scores = Tensor::<4>::from_data(scores.clone(), &device).require_grad();
                let [rows, heads, n, length] = shape;
                let hidden = padded.then(|| hidden([rows + 1, heads, n, length], &device));
                let hidden = hidden.map(|hidden| hidden.slice([0..rows, 0..heads, 0..n, 0..length]));
                let weights = Tensor::<4>::from_data(weights.clone(), &device);
                let sums = (attention_weights(scores.clone(), hidden) * weights).sum().backward();
                read(scores.grad(&sums).expect("tracked"))
            };
            let (most, at) = worst(&gradient(&device), &gradient(&Device::flex()), FloatDType::F32);
            assert!(most <= 1e-5, "{shape:?}, padded: {padded}: off by {most} at {at}");
        }
    }
}

#[test]
fn gradients_of_layer_normalisation_are_right() {
    let device = device();
    for [rows, width] in [[24, 16], [1, 64], [33, 768], [700, 100], [5, 77], [9, 2_050], [5_000, 256]] {
        let [input, residual, weights] =
            ["input", "residual", "weights"].map(|name| draw([rows, width], 2.0, name));
        let [gamma, beta] = ["gamma", "beta"].map(|name| draw([width], 1.0, name));
        for (has_residual, has_beta) in [(false, false), (true, false), (false, true), (true, true)] {
            let gradients = |device: &Device| {
                let device = device.clone().autodiff();
                let matrix = |data: &TensorData| Tensor::<2>::from_data(data.clone(), &device);
                let vector = |data: &TensorData| Tensor::<1>::from_data(data.clone(), &device).require_grad();
                let [input, residual] = [&input, &residual].map(|data| matrix(data).require_grad());
                let [gamma, beta] = [&gamma, &beta].map(vector);
                let normed = layer_norm(
                    input.clone(),
                    has_residual.then(|| residual.clone()),
                    gamma.clone(),
                    has_beta.then(|| beta.clone()),
                    1e-5,
                );
                let sums = (normed * matrix(&weights)).sum().backward();
                let of_matrix = |of: &Tensor<2>| of.grad(&sums).map(read);
                let of_vector = |of: &Tensor<1>| of.grad(&sums).map(read);
                [of_matrix(&input), of_matrix(&residual), of_vector(&gamma), of_vector(&beta)]
            };
            let (found, exact) = (gradients(&device), gradients(&Device::flex()));
            for (name, (found, exact)) in
                ["input", "residual", "gamma", "beta"].into_iter().zip(found.iter().zip(&exact))
            {
                let what = format!("{rows} × {width}, {has_residual}, {has_beta}: {name}");
                assert_eq!(found.is_some(), exact.is_some(), "{what}");
                let [found, exact] = [found, exact].map(|of| of.as_deref().unwrap_or_default());
                let (most, at) = worst(found, exact, FloatDType::F32);
                assert!(most <= 1e-3, "{what}: off by {most} at {at}");
            }
        }
    }
}
