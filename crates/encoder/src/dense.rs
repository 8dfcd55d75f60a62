//! Dense layers.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;
use entromask_kernels::Products;

/// What `layer` makes of `input`, `[..., inputs]` to `[..., outputs]`.
pub(crate) fn dense<const D: usize>(layer: &Linear, input: Tensor<D>, products: Products) -> Tensor<D> {
    products.linear(input, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}
