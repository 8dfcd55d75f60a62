//! Forward passes that remember what their backward pass needs, and the backward passes.
//!
//! A gradient is called `d_x` for ∂loss/∂x. Gradients of inputs are written, gradients of parameters are added up, so
//! that the parts of a batch can be computed one after the other.

mod activation;
mod attention;
mod linear;
mod norm;
mod tile;
mod vocabulary;

pub use attention::{AttentionTape, DropFactors};
pub use linear::{LinearGradient, TrainedLinear};
pub use norm::{NormGradient, NormTape, TrainedNorm};
pub use tile::{Heads, Span, Tile};
pub use vocabulary::{TrainedVocabulary, VocabularyGradient};

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData, bf16};
    use entromask_random::{keyed, normals};

    use crate::mixed::Products;

    pub(super) fn draw(n: usize, purpose: &str) -> Vec<f32> {
        normals(n, 1.0, &mut keyed(1, purpose, 0, 0))
    }

    /// Values that products of either type do not round: automatic differentiation in f32 says what both must give.
    pub(super) fn draw_rounded(n: usize, purpose: &str) -> Vec<f32> {
        draw(n, purpose).into_iter().map(|value| bf16::from_f32(value).to_f32()).collect()
    }

    pub(super) const PRODUCTS: [Products; 2] = [Products::AsTensors, Products::Bf16];

    /// A tensor that automatic differentiation follows.
    pub(super) fn tracked(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &device).require_grad()
    }

    pub(super) fn assert_close(found: &[f32], expected: Tensor<2>) {
        let expected: Vec<f32> = expected.try_into_vec_as().expect("f32");
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let allowed = 3e-5 * expected.abs().max(1.0);
            assert!((found - expected).abs() < allowed, "{index}: {found} {expected}");
        }
    }
}
