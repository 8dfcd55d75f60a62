//! What a forward pass computes between its matrix products on any device.
//!
//! On GPUs each is one pass of a kernel, with its own way back; elsewhere it is written in tensor operations, which the
//! kernels are tested against.

#[cfg(feature = "cube")]
use burn::tensor::Device;
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, FloatDType, Tensor, module};

use crate::Products;

/// Far below any score, yet finite: a row that is all hidden stays finite too.
const MASKED_SCORE: f32 = -1e9;

/// What queries attend to, softmax(`query` · `key`ᵀ / √`head_size`) · `value`, without keys that are `hidden`. Where all keys are
/// hidden all weigh the same. In bf16 on NVIDIA GPUs, for heads of 16, 32, … 128 values, one kernel whose scores are never in
/// memory and cannot be differentiated; elsewhere products and [`attention_weights`].
///
/// # Shapes
/// - query, output: `[batch_size, heads, n, head_size]`
/// - key, value: `[batch_size, heads, seq_length, head_size]`
/// - hidden: `[batch_size, heads, n, seq_length]`
#[must_use]
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    #[cfg(feature = "cublas")]
    if crate::cube::attends(&query) {
        return crate::cube::attention(query, key, value, hidden);
    }
    let weights = attention_weights(Products::AsTensors.scores(query, key), hidden);
    Products::AsTensors.attended(weights, value)
}

/// Softmax of `scores` over the keys, without those that are `hidden`. Computed in f32, whatever the type of the scores, which
/// the weights have. Where all keys are hidden all weigh the same.
///
/// # Shapes
/// - scores, hidden, output: `[batch_size, heads, n, seq_length]`
#[must_use]
pub fn attention_weights(scores: Tensor<4>, hidden: Option<Tensor<4, Bool>>) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if has_kernels(&scores.device()) {
        return crate::cube::weights(scores, hidden);
    }
    let dtype = scores.dtype();
    let scores = scores.cast(FloatDType::F32);
    let scores = match hidden {
        Some(hidden) => scores.mask_fill(hidden, MASKED_SCORE),
        None => scores,
    };
    softmax(scores, 3).cast(dtype)
}

/// Layer normalisation of `input` + `residual` (Ba et al., 2016, <https://arxiv.org/abs/1607.06450>), computed in f32,
/// whatever the type of the tensors.
///
/// # Shapes
/// - input, residual, output: `[n, width]`
/// - gamma, beta: `[width]`
#[must_use]
pub fn layer_norm(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if has_kernels(&input.device()) {
        return crate::cube::normalized(input, residual, gamma, beta, epsilon);
    }
    let dtype = input.dtype();
    let input = input.cast(FloatDType::F32);
    let sum = match residual {
        Some(residual) => input + residual.cast(FloatDType::F32),
        None => input,
    };
    let beta = beta.map(|beta| beta.cast(FloatDType::F32));
    module::layer_norm(sum, gamma.cast(FloatDType::F32), beta, epsilon).cast(dtype)
}

#[cfg(feature = "cube")]
fn has_kernels(device: &Device) -> bool {
    !crate::is_cpu(device)
}
