//! Activation functions.

use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu};
use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// Activation functions, by their Hugging Face names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·Φ(x), exact.
    #[serde(alias = "gelu_python")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(alias = "gelu_accurate", alias = "gelu_python_tanh")]
    GeluNew,
    /// Another name of the tanh approximation.
    GeluFast,
    /// Another name of the tanh approximation.
    GeluPytorchTanh,
    /// x·σ(1.702·x).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// x·σ(x).
    Silu,
    /// Another name of SiLU.
    Swish,
}

impl Activation {
    /// Applies the function element by element. Of what is between, nothing is rounded to less than f32.
    pub(crate) fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        self.in_f32(x.cast(FloatDType::F32)).cast(dtype)
    }

    fn in_f32<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluNew | Self::GeluFast | Self::GeluPytorchTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x * 1.702),
            Self::Relu => relu(x),
            Self::Silu | Self::Swish => silu(x),
        }
    }
}
