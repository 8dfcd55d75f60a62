//! Dense layers and layer normalisation.

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use entromask_kernels::{Products, layer_norm};

/// What `layer` makes of `input`, `[..., inputs]` to `[..., outputs]`.
pub(crate) fn dense<const D: usize>(layer: &Linear, input: Tensor<D>, products: Products) -> Tensor<D> {
    products.linear(input, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}

/// `norm` of `input` + `residual`, `[n, width]` each.
pub(crate) fn normed(
    norm: &LayerNorm,
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    epsilon: f64,
) -> Tensor<2> {
    layer_norm(input, residual, norm.gamma.val(), norm.beta.as_ref().map(Param::val), epsilon)
}

/// `[batch_size, seq_length, width]` to `[batch_size · seq_length, width]`.
///
/// burn multiplies the rows of a batch one by one where that seems better to it. One product of all tokens keeps a GPU
/// busier.
pub(crate) fn flat(hidden: Tensor<3>) -> Tensor<2> {
    let [batch_size, seq_length, width] = hidden.dims();
    hidden.reshape([batch_size * seq_length, width])
}
