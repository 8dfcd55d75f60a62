//! Scaled dot-product attention, and what both kinds of encoder need around it.

use burn::nn::Dropout;
use burn::tensor::module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Int, Tensor};
use entromask_kernels::{Products, attention, attention_weights, in_parts, is_cpu};

use crate::Batch;

/// Scores that are in one tensor at most: kernels count them with 32 bits.
const MOST_SCORES: usize = 1 << 31;

/// Attention of queries `[batch_size, heads, n, head_size]` to keys and values `[batch_size, heads, seq_length,
/// head_size]`; `hidden`, `[batch_size, heads, n, seq_length]`, is true where a key must not be seen.
///
/// Without automatic differentiation nothing is dropped, and this is burn's fused operation on the CPU and ours in bf16 on
/// NVIDIA GPUs. There burn's takes f16 only (`cubek-attention` 0.3.1) and is many kernels for other types.
pub(crate) fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    dropout: &Dropout,
    products: Products,
) -> Tensor<4> {
    match (query.is_autodiff(), products) {
        (false, Products::AsTensors) if is_cpu(&query.device()) => {
            module::attention(query, key, value, hidden, None, AttentionModuleOptions::default())
        }
        (false, Products::AsTensors) => attention(query, key, value, hidden),
        _ => plain(query, key, value, hidden, dropout, products),
    }
}

/// [`attend`] in single operations.
fn plain(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    dropout: &Dropout,
    products: Products,
) -> Tensor<4> {
    in_parts(query, [key, value], hidden, MOST_SCORES, |query, [key, value], hidden| {
        let weights = attention_weights(products.scores(query, key), hidden);
        products.attended(dropout.forward(weights), value)
    })
}

/// `[batch_size · length, heads · head_size]` to `[batch_size, heads, length, head_size]`.
pub(crate) fn split_heads(hidden: Tensor<2>, batch_size: usize, heads: usize) -> Tensor<4> {
    let [tokens, width] = hidden.dims();
    hidden.reshape([batch_size, tokens / batch_size.max(1), heads, width / heads]).swap_dims(1, 2)
}

/// The inverse of [`split_heads`].
pub(crate) fn merge_heads(context: Tensor<4>) -> Tensor<2> {
    let [batch_size, heads, length, head_size] = context.dims();
    context.swap_dims(1, 2).reshape([batch_size * length, heads * head_size])
}

/// True at padding, `[batch_size, seq_length]`; `None` when there is none.
pub(crate) fn padding(batch: &Batch) -> Option<Tensor<2, Bool>> {
    batch.attention_mask.clone().map(Tensor::bool_not)
}

/// Padding that no query may see: `[batch_size, seq_length]` to `[batch_size, heads, n, seq_length]`.
pub(crate) fn hide_keys(padding: &Tensor<2, Bool>, heads: usize, n: usize) -> Tensor<4, Bool> {
    let [batch_size, seq_length] = padding.dims();
    padding.clone().reshape([batch_size, 1, 1, seq_length]).expand([batch_size, heads, n, seq_length])
}

/// Places in the rows of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `[batch_size, n]`.
    pub(crate) positions: Tensor<2, Int>,
    /// Among all tokens, `[batch_size · n]`.
    flat: Tensor<1, Int>,
}

impl Places {
    pub(crate) fn new(positions: &Tensor<2, Int>, seq_length: usize) -> Self {
        let [batch_size, n] = positions.dims();
        let starts = Tensor::<1, Int>::arange(0..batch_size as i64, &positions.device()) * seq_length as i64;
        let flat = (positions.clone() + starts.unsqueeze_dim(1)).reshape([batch_size * n]);
        Self { positions: positions.clone(), flat }
    }
}

/// Rows of `hidden` `[batch_size · seq_length, hidden_size]` at `places`, `[batch_size · n, hidden_size]`; all of them
/// without.
pub(crate) fn pick(hidden: Tensor<2>, places: Option<&Places>) -> Tensor<2> {
    match places {
        Some(places) => hidden.select(0, places.flat.clone()),
        None => hidden,
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::DropoutConfig;
    use burn::tensor::{FloatDType, TensorData};
    use entromask_random::{keyed, normals};

    use super::*;

    #[test]
    fn single_operations_give_what_the_fused_one_gives() {
        let (device, no_dropout) = (entromask_kernels::cpu(), DropoutConfig::new(0.0).init());
        let [batch_size, heads, n, length, size] = [3, 2, 5, 40, 16];
        // bf16 rounds scores of about 8 by 1/64, and so weights by as much of themselves.
        for (dtype, tolerance) in [(FloatDType::F32, 1e-5), (FloatDType::BF16, 0.05)] {
            let draw = |length: usize, purpose| {
                let count = batch_size * heads * length * size;
                let values = normals(count, 1.5, &mut keyed(1, purpose, length as u64, 0));
                let data = TensorData::new(values, [batch_size, heads, length, size]);
                Tensor::<4>::from_data(data, &device).cast(dtype)
            };
            let (query, key, value) = (draw(n, "query"), draw(length, "key"), draw(length, "value"));
            let padded =
                (0..batch_size * length).map(|i| i % length >= 10 * (i / length + 1)).collect::<Vec<_>>();
            let padded = Tensor::<2, Bool>::from_data(TensorData::new(padded, [batch_size, length]), &device);
            for hidden in [None, Some(hide_keys(&padded, heads, n))] {
                let [q, k, v] = [&query, &key, &value].map(Clone::clone);
                let exact = [&query, &key, &value].map(|tensor| tensor.clone().cast(FloatDType::F32));
                let [exact_q, exact_k, exact_v] = exact;
                let fused =
                    attend(exact_q, exact_k, exact_v, hidden.clone(), &no_dropout, Products::AsTensors);
                let found = plain(q, k, v, hidden, &no_dropout, Products::AsTensors);
                assert_eq!(found.dtype(), query.dtype());
                let off = (found.cast(FloatDType::F32) - fused).abs().max().into_scalar::<f32>();
                assert!(off < tolerance, "{dtype:?}: {off}");
            }
        }
    }
}
