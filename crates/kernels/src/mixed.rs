//! Matrix products in bf16 of tensors that are f32: mixed precision as in Micikevicius et al., *Mixed Precision Training*,
//! ICLR 2018, <https://arxiv.org/abs/1710.03740>, with bf16, whose exponents are those of f32, so that no loss has to be
//! scaled (Kalamkar et al., 2019, <https://arxiv.org/abs/1905.12322>).

use burn::tensor::module::linear;
use burn::tensor::{FloatDType, Tensor};

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
    /// - right: `[..., k, n]`
    /// - output: `[..., m, n]`
    #[must_use]
    pub fn matmul<const D: usize>(self, left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
        match self {
            Self::AsTensors => left.matmul(right),
            Self::Bf16 => self.operand(left).matmul(self.operand(right)).cast(FloatDType::F32),
        }
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
        if self == Self::AsTensors {
            return linear(input, weight, bias);
        }
        let product = linear(self.operand(input), self.operand(weight), None).cast(FloatDType::F32);
        match bias {
            Some(bias) => product + bias.unsqueeze(),
            None => product,
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
