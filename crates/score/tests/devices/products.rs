//! Matrix products in the shapes that models use. Backends choose among dozens of kernels by their speed on these shapes, and do not look whether they are right.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use entromask_kernels::Products;
use entromask_random::{below, keyed};

use crate::device;

/// f32, and bf16 where the device has it.
pub(crate) fn types(device: &Device) -> Vec<FloatDType> {
    let bf16 = device.supports_dtype(DType::BF16).then_some(FloatDType::BF16);
    [FloatDType::F32].into_iter().chain(bf16).collect()
}

/// Integers from −2 to 2, of which products and sums are exact, but for what rounds the result.
fn integers<const D: usize>(shape: [usize; D], purpose: &str) -> TensorData {
    let mut random = keyed(1, purpose, shape.iter().product::<usize>() as u64, 0);
    let count = shape.iter().product();
    TensorData::new((0..count).map(|_| below(5, &mut random) as f32 - 2.0).collect::<Vec<_>>(), shape)
}

pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("reads as f32")
}

/// The largest error beside what rounding to `dtype` explains, and where.
pub(crate) fn worst(found: &[f32], exact: &[f32], dtype: FloatDType) -> (f32, usize) {
    assert_eq!(found.len(), exact.len());
    let unit = if dtype == FloatDType::BF16 { 1.0 / 256.0 } else { 1e-6 };
    let off = |(found, exact): (&f32, &f32)| match (found - exact).abs() - unit * exact.abs() {
        off if off.is_nan() => f32::INFINITY,
        off => off,
    };
    let all = found.iter().zip(exact).map(off).enumerate();
    all.fold((0.0, 0), |(most, at), (i, off)| if off > most { (off, i) } else { (most, at) })
}

#[test]
fn products_are_right() {
    let device = device();
    let mut wrong = Vec::new();
    // Layers of 4 × 256 and 12 × 768 for many rows and for few, the head's transform, a block of the vocabulary and its rest.
    for (m, k, n) in [
        (4096, 256, 256),
        (4096, 1024, 256),
        (613, 256, 5946),
        (2048, 768, 3072),
        (1024, 3072, 768),
        (613, 768, 8192),
    ] {
        let (left, right) = (integers([m, k], "left"), integers([k, n], "right"));
        let [a, b] = [&left, &right].map(|data| Tensor::<2>::from_data(data.clone(), &Device::flex()));
        let exact = read(a.matmul(b));
        for dtype in types(&device) {
            let [a, b] =
                [&left, &right].map(|data| Tensor::<2>::from_data(data.clone(), &device).cast(dtype));
            // A decoder's weight is `[n, k]`.
            let turned = b.clone().transpose().mul_scalar(1.0).transpose();
            for (name, b) in [("", b), (", transposed", turned)] {
                let (most, at) = worst(&read(Products::AsTensors.matmul(a.clone(), b)), &exact, dtype);
                if most > 1e-3 {
                    wrong.push(format!("[{m}, {k}] · [{k}, {n}]{name}, {dtype:?}: off by {most} at {at}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The way back of layers and of the heads of attention, which lie beside each other.
#[test]
fn gradients_of_products_are_right() {
    let shapes = |m, k, n| [[1, m, 1, k], [1, k, 1, n], [1, m, 1, n]];
    let heads = [[6, 40, 4, 32], [6, 32, 4, 24], [6, 40, 4, 24]];
    for shapes in [shapes(200, 64, 96), shapes(33, 130, 7), heads] {
        let data: [TensorData; 3] =
            std::array::from_fn(|i| integers(shapes[i], ["left", "right", "weights"][i]));
        let exact = gradients(&data, FloatDType::F32, &Device::flex());
        let device = device();
        for dtype in types(&device) {
            for (found, exact) in gradients(&data, dtype, &device).iter().zip(&exact) {
                let (most, at) = worst(found, exact, dtype);
                assert!(most <= 1e-3, "{shapes:?}, {dtype:?}: off by {most} at {at}");
            }
        }
    }
}

/// Of both factors, `[rows, length, heads, size]`, for the sum of their product with weights.
fn gradients(data: &[TensorData; 3], dtype: FloatDType, device: &Device) -> [Vec<f32>; 2] {
    let device = device.clone().autodiff();
    let [left, right, weights] = data.clone().map(|data| Tensor::<4>::from_data(data, &device).cast(dtype));
    let [left, right] = [left, right].map(Tensor::require_grad);
    let [a, b, weights] = [left.clone(), right.clone(), weights].map(|tensor| tensor.swap_dims(1, 2));
    let gradients = (Products::AsTensors.matmul(a, b) * weights).sum().backward();
    [left, right].map(|factor| read(factor.grad(&gradients).expect("tracked")))
}
