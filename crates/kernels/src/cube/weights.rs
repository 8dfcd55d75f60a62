//! The weights of attention in one pass, and their way back in another.

mod backward;
mod kernel;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Bool, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous_aligned;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::rows::{Shares, is_indexable, vector_size};

/// Softmax over the keys of `scores` `[batch_size, heads, n, seq_length]`, without those that are `hidden`, of the same shape.
/// Computed in f32, whatever the type of the scores, which the weights have. Where all keys are hidden all weigh the same.
pub(crate) fn weights(scores: Tensor<4>, hidden: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let scores = scores.into_dispatch();
    Tensor::from_dispatch(match hidden {
        Some(hidden) => <Dispatch as AttentionWeights>::attention_weights(scores, hidden.into_dispatch()),
        None => <Dispatch as AttentionWeights>::all_attention_weights(scores),
    })
}

#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub trait AttentionWeights: Backend {
    #[fusion(dtype = scores, shape = scores)]
    fn attention_weights(scores: FloatTensor<Self>, hidden: BoolTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = scores, shape = scores)]
    fn all_attention_weights(scores: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl AttentionWeights for CubeBackend {
    fn attention_weights(scores: FloatTensor<Self>, hidden: BoolTensor<Self>) -> FloatTensor<Self> {
        launch(scores, Some(hidden))
    }

    fn all_attention_weights(scores: FloatTensor<Self>) -> FloatTensor<Self> {
        launch(scores, None)
    }
}

fn launch(scores: CubeTensor, hidden: Option<CubeTensor>) -> CubeTensor {
    let scores = into_contiguous_aligned(scores);
    let [batch_size, heads, n, seq_length] = scores.shape().dims::<4>();
    let client = scores.client.clone();
    let output = empty_device_dtype(client.clone(), scores.device.clone(), scores.shape(), scores.dtype);
    let rows = batch_size * heads * n;
    if rows == 0 {
        return output;
    }
    assert!(is_indexable(&scores), "u32 does not count {rows} × {seq_length} scores");
    assert!(hidden.as_ref().is_none_or(|hidden| hidden.shape() == scores.shape()), "one for each score");
    let strides = [&scores, &output].map(|tensor| tensor.meta.strides()[2]);
    let vector_size = vector_size(&client, scores.dtype, &[strides[0], strides[1], seq_length]);
    let most = client.properties().hardware.max_units_per_cube as usize;
    let shares = Shares::new(seq_length / vector_size, most);
    let has_hidden = hidden.is_some();
    // One that is not read.
    let hidden = hidden.unwrap_or_else(|| scores.clone());
    let types = [scores.dtype, hidden.dtype].map(dtype_to_storage_type);
    kernel::weights::launch(
        &client,
        shares.cubes(rows),
        shares.cube(),
        vector_size,
        scores.into_tensor_arg(),
        hidden.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        shares.units,
        shares.vectors,
        shares.rows,
        has_hidden,
        types,
    );
    output
}
