//! The way back of the softmax.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous_aligned;
use burn_cubecl::ops::numeric::empty_device_dtype;

use super::{AttentionWeights, kernel};
use crate::cube::rows::{Shares, is_indexable, vector_size};

#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait WeightsGradient: Backend {
    /// From the gradient of the weights that of the scores, all `[batch_size, heads, n, seq_length]`.
    #[fusion(dtype = weights, shape = weights)]
    fn weights_gradient(weights: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl WeightsGradient for CubeBackend {
    fn weights_gradient(weights: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let (weights, gradient) = (into_contiguous_aligned(weights), into_contiguous_aligned(gradient));
        assert_eq!(
            (weights.shape(), weights.dtype),
            (gradient.shape(), gradient.dtype),
            "one for each weight"
        );
        let [batch_size, heads, n, seq_length] = weights.shape().dims::<4>();
        let client = weights.client.clone();
        let output =
            empty_device_dtype(client.clone(), weights.device.clone(), weights.shape(), weights.dtype);
        let rows = batch_size * heads * n;
        if rows == 0 {
            return output;
        }
        assert!(is_indexable(&weights), "u32 does not count {rows} × {seq_length} weights");
        let [a, b, c] = [&weights, &gradient, &output].map(|tensor| tensor.meta.strides()[2]);
        let vector_size = vector_size(&client, weights.dtype, &[a, b, c, seq_length]);
        let most = client.properties().hardware.max_units_per_cube as usize;
        let shares = Shares::new(seq_length / vector_size, most);
        let dtype = dtype_to_storage_type(weights.dtype);
        kernel::gradient::launch(
            &client,
            shares.cubes(rows),
            shares.cube(),
            vector_size,
            weights.into_tensor_arg(),
            gradient.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            shares.units,
            shares.vectors,
            shares.rows,
            dtype,
        );
        output
    }
}

impl<B: Backend + AttentionWeights + WeightsGradient, C: CheckpointStrategy> AttentionWeights
    for Autodiff<B, C>
{
    fn attention_weights(scores: FloatTensor<Self>, hidden: BoolTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(&scores, B::attention_weights(scores.primitive().clone(), hidden))
    }

    fn all_attention_weights(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(&scores, B::all_attention_weights(scores.primitive().clone()))
    }
}

fn tracked<B: Backend + WeightsGradient, C: CheckpointStrategy>(
    scores: &FloatTensor<Autodiff<B, C>>,
    weights: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Softmax.prepare::<C>([scores.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(weights.clone(), weights),
        OpsKind::UnTracked(prepared) => prepared.finish(weights),
    }
}

/// A score that is hidden has no weight, and so no gradient.
#[derive(Debug)]
struct Softmax;

impl<B: Backend + WeightsGradient> Backward<B, 1> for Softmax {
    /// The weights.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(scores)] = ops.parents {
            gradients.register::<B>(scores.id, B::weights_gradient(ops.state, gradient));
        }
    }
}
