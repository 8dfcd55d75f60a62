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

/// Scores that are in memory at once, 2 GiB of f32. Kernels count them with 32 bits, and a batch of long rows has more: one row
/// of 32,768 tokens 2^30 for each head.
const MOST_SCORES: usize = 1 << 29;

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
    in_parts(query, [key, value], hidden, MOST_SCORES, |query, [key, value], hidden| {
        let weights = attention_weights(Products::AsTensors.scores(query, key), hidden);
        Products::AsTensors.attended(weights, value)
    })
}

/// What `attend` gives of `query` `[batch_size, heads, n, head_size]`, `keys` and values `[batch_size, heads, seq_length, head_size]` and
/// `hidden` `[batch_size, heads, n, seq_length]`, asked for as few queries at a time as have no more than `most` scores.
#[must_use]
pub fn in_parts(
    query: Tensor<4>,
    keys: [Tensor<4>; 2],
    hidden: Option<Tensor<4, Bool>>,
    most: usize,
    attend: impl Fn(Tensor<4>, [Tensor<4>; 2], Option<Tensor<4, Bool>>) -> Tensor<4>,
) -> Tensor<4> {
    let ([batch_size, heads, n, _], [_, _, seq_length, _]) = (query.dims(), keys[0].dims());
    let at_once = (most / (batch_size * heads * seq_length).max(1)).max(1);
    if n <= at_once {
        return attend(query, keys, hidden);
    }
    let part = |start: usize| {
        let count = at_once.min(n - start);
        let hidden = hidden.clone().map(|hidden| hidden.narrow(2, start, count));
        attend(query.clone().narrow(2, start, count), keys.clone(), hidden)
    };
    Tensor::cat((0..n).step_by(at_once).map(part).collect(), 2)
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    #[test]
    fn queries_attend_to_the_same_in_parts() {
        let device = crate::cpu();
        let draw = |length| Tensor::<4>::random([2, 3, length, 8], Distribution::Normal(0.0, 1.0), &device);
        let (query, key, value) = (draw(7), draw(5), draw(5));
        let hidden =
            Tensor::<4>::random([2, 3, 7, 5], Distribution::Normal(0.0, 1.0), &device).greater_elem(0.5);
        let keys = [key, value];
        let attend = |query, [key, value]: [Tensor<4>; 2], hidden| {
            let weights = attention_weights(Products::AsTensors.scores(query, key), hidden);
            Products::AsTensors.attended(weights, value)
        };
        for hidden in [None, Some(hidden)] {
            let whole = attend(query.clone(), keys.clone(), hidden.clone()).into_data();
            // Three queries at a time, one, and one where even that is too much.
            for most in [2 * 3 * 5 * 3, 2 * 3 * 5, 1] {
                let parts = in_parts(query.clone(), keys.clone(), hidden.clone(), most, attend);
                parts.into_data().assert_approx_eq::<f32>(&whole, Tolerance::default());
            }
        }
    }
}
