//! Scaled dot-product attention, and what both kinds of encoder need around it.

use burn::nn::Dropout;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Int, Tensor};
use entromask_kernels::Products;

use crate::Batch;

/// Far below any score, yet finite: a row that is all padding stays finite too.
const MASKED_SCORE: f32 = -1e9;

/// Attention of queries `[batch_size, heads, n, head_size]` to keys and values `[batch_size, heads, seq_length,
/// head_size]`; `hidden`, `[batch_size, heads, n, seq_length]`, is true where a key must not be seen.
///
/// Without automatic differentiation this is burn's fused operation and nothing is dropped; its softmax is in the type of
/// the products, so that it is not used where that is another than the tensors'.
pub(crate) fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    dropout: &Dropout,
    products: Products,
) -> Tensor<4> {
    if !query.is_autodiff() && products == Products::AsTensors {
        return attention(query, key, value, hidden, None, AttentionModuleOptions::default());
    }
    let [_, _, _, head_size] = query.dims();
    // Scaling the queries costs seq_length / head_size times less than scaling the scores.
    let scores = products.matmul(query * (head_size as f64).powf(-0.5), key.swap_dims(2, 3));
    let scores = match hidden {
        Some(hidden) => scores.mask_fill(hidden, MASKED_SCORE),
        None => scores,
    };
    products.matmul(dropout.forward(softmax(scores, 3)), value)
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
