//! Matrix products in bf16 of tensors that are f32: mixed precision as in Micikevicius et al., *Mixed Precision Training*,
//! ICLR 2018, <https://arxiv.org/abs/1710.03740>, with bf16, whose exponents are those of f32, so that no loss has to be
//! scaled (Kalamkar et al., 2019, <https://arxiv.org/abs/1905.12322>).

use burn::tensor::module::linear;
use burn::tensor::{FloatDType, Tensor};

#[cfg(feature = "cublas")]
use crate::cublas::{self, Manner};

/// In what type matrix products are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// In that of the tensors.
    #[default]
    AsTensors,
    /// In bf16, of tensors that are f32: both operands are rounded, and the product is f32 again. Automatic differentiation
    /// goes the same way back, so that gradients are f32 too. Weights, and whatever is not a product, stay as they are.
    Bf16,
}

impl Products {
    /// `left` · `right`.
    ///
    /// # Shapes
    /// - left: `[..., m, k]`
    /// - right: `[..., k, n]`, with the same leading dimensions
    /// - output: `[..., m, n]`
    #[must_use]
    pub fn matmul<const D: usize>(self, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
        let (left, right) = (self.operand(left), self.operand(right));
        #[cfg(feature = "cublas")]
        if cublas::multiplies_on(&left.device()) {
            return cublas::matmul(left, right, self.manner());
        }
        self.widened(left.matmul(right))
    }

    /// Scores of attention: `query` · `key`ᵀ / √`head_size`.
    ///
    /// # Shapes
    /// - query: `[batch_size, heads, n, head_size]`
    /// - key: `[batch_size, heads, seq_length, head_size]`
    /// - output: `[batch_size, heads, n, seq_length]`
    #[must_use]
    pub fn scores(self, query: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
        let (scale, key) = ((query.dims()[3] as f64).powf(-0.5), key.swap_dims(2, 3));
        #[cfg(feature = "cublas")]
        if cublas::multiplies_on(&query.device()) {
            let manner = Manner { scale: scale as f32, ..self.manner() };
            return cublas::matmul(self.operand(query), self.operand(key), manner);
        }
        // Scaling the queries costs seq_length / head_size times less than scaling the scores.
        self.matmul(query * scale, key)
    }

    /// What queries attend to: `weights` · `value`.
    ///
    /// # Shapes
    /// - weights: `[batch_size, heads, n, seq_length]`
    /// - value: `[batch_size, heads, seq_length, head_size]`
    /// - output: `[batch_size, heads, n, head_size]`
    #[must_use]
    pub fn attended(self, weights: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
        #[cfg(feature = "cublas")]
        if cublas::multiplies_on(&weights.device()) {
            // So that heads need not be copied to be beside each other.
            let manner = Manner { is_interleaved: true, ..self.manner() };
            return cublas::matmul(self.operand(weights), self.operand(value), manner);
        }
        self.matmul(weights, value)
    }

    /// `input` · `weight` + `bias`; the bias is added to what is f32 again.
    ///
    /// # Shapes
    /// - input: `[..., inputs]`
    /// - weight: `[inputs, outputs]`
    /// - bias: `[outputs]`
    /// - output: `[..., outputs]`
    #[must_use]
    pub fn linear<const D: usize>(
        self,
        input: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        let (input, weight) = (self.operand(input), self.operand(weight));
        #[cfg(feature = "cublas")]
        if cublas::multiplies_on(&input.device()) {
            return self.linear_by_cublas(input, weight, bias);
        }
        if self == Self::AsTensors {
            return linear(input, weight, bias);
        }
        plus(self.widened(linear(input, weight, None)), bias)
    }

    #[cfg(feature = "cublas")]
    fn linear_by_cublas<const D: usize>(
        self,
        input: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        let (mut shape, [inputs, outputs]) = (input.dims(), weight.dims());
        shape[D - 1] = outputs;
        let input = input.reshape([-1, inputs as i64]);
        let output = match bias {
            // The library is known to refuse a bias of single rows or columns: PyTorch does not ask it for that either
            // (`addmm` in aten/src/ATen/native/cuda/Blas.cpp).
            Some(bias) if self == Self::AsTensors && input.dims()[0].min(inputs).min(outputs) > 1 => {
                cublas::affine(input, weight, bias)
            }
            bias => plus(cublas::matmul(input, weight, self.manner()), bias),
        };
        output.reshape(shape)
    }

    #[cfg(feature = "cublas")]
    fn manner(self) -> Manner {
        Manner { is_widened: self == Self::Bf16, ..Manner::default() }
    }

    /// The product of operands, in the type that tensors have.
    fn widened<const D: usize>(self, product: Tensor<D>) -> Tensor<D> {
        match self {
            Self::AsTensors => product,
            Self::Bf16 => product.cast(FloatDType::F32),
        }
    }

    /// `tensor` as a product takes it. What goes into several is rounded once with it.
    #[must_use]
    pub fn operand<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        match self {
            Self::AsTensors => tensor,
            Self::Bf16 => tensor.cast(FloatDType::BF16),
        }
    }
}

fn plus<const D: usize>(product: Tensor<D>, bias: Option<Tensor<1>>) -> Tensor<D> {
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    /// bf16 has 8 bits of a significand.
    const LARGEST_ERROR: f32 = 1.0 / 256.0;

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    }

    fn vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        assert_eq!(tensor.dtype(), DType::F32);
        tensor.into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn operands_are_rounded_and_what_is_no_product_is_not() {
        let device = Device::flex();
        // 1 + 2^-9 is no number of bf16: it rounds to 1.
        let fine = tensor(&[1.0 + 1.0 / 512.0, 3.0], [1, 2], &device);
        let ones = tensor(&[1.0, 1.0], [2, 1], &device);
        assert_eq!(vec(Products::Bf16.matmul(fine.clone(), ones.clone())), [4.0]);
        assert_eq!(vec(Products::AsTensors.matmul(fine.clone(), ones.clone())), [4.0 + 1.0 / 512.0]);
        let bias = tensor(&[1.0 / 512.0], [1], &device);
        let found = Products::Bf16.linear(fine, ones, Some(bias));
        assert_eq!(vec(found), [4.0 + 1.0 / 512.0], "the bias is added in f32");
    }

    proptest! {
        /// Each operand is off by 2^-9 at most, and the result once more: |error| ≤ about 3 · 2^-9 · Σ |a| |b|, and the
        /// same on the way back.
        #[test]
        fn values_and_gradients_are_near_those_of_f32(
            left in prop::collection::vec(-4.0f32..4.0, 3 * 5),
            right in prop::collection::vec(-4.0f32..4.0, 5 * 2),
        ) {
            let device = Device::flex().autodiff();
            let run = |products: Products| {
                let a = tensor(&left, [1, 3, 5], &device).require_grad();
                let b = tensor(&right, [5, 2], &device).require_grad();
                let product = products.linear(a.clone(), b.clone(), None);
                let gradients = product.clone().square().sum().backward();
                let gradient = [vec(a.grad(&gradients).expect("tracked")), vec(b.grad(&gradients).expect("tracked"))];
                (vec(product), gradient)
            };
            let ((found, gradient), (exact, expected)) = (run(Products::Bf16), run(Products::AsTensors));
            let size = 5.0 * 16.0;
            for (a, b) in found.iter().zip(&exact) {
                prop_assert!((a - b).abs() <= 2.0 * LARGEST_ERROR * size, "{} {}", a, b);
            }
            for (a, b) in gradient.iter().flatten().zip(expected.iter().flatten()) {
                prop_assert!((a - b).abs() <= 2.0 * LARGEST_ERROR * 2.0 * size * 5.0 * 4.0, "{} {}", a, b);
            }
        }
    }
}
