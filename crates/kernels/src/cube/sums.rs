//! The reduction of logits.

mod kernel;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::kernel::{into_contiguous, into_contiguous_aligned};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::{CubeCount, CubeDim};

use super::rows::vector_size;

/// What the kernel keeps of the logits of a row, in this order.
pub(crate) const SUMS: usize = 6;

/// Threads that share a row.
const UNITS: u32 = 256;

/// Reduces each row of `logits` `[n, block]`, to which `bias` `[block]` is added, in one pass: to `[n, 6]`, the maximum
/// m, Σ e^(z−m), Σ (z−m) e^(z−m), the second highest logit, Σ e^(2(z−m)), and the logit of `targets[n] − start` or 0
/// where that is not in the block. Computed in f32, whatever the type of the logits.
pub(crate) fn softmax_sums(
    logits: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
    start: usize,
) -> Tensor<2> {
    let (logits, bias, targets) = (logits.into_dispatch(), bias.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as SoftmaxSums>::softmax_sums(logits, bias, targets, start))
}

#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait SoftmaxSums: Backend {
    #[fusion(dtype = DType::F32, shape = Shape::new([logits[0], SUMS]))]
    fn softmax_sums(
        logits: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        start: usize,
    ) -> FloatTensor<Self>;
}

impl SoftmaxSums for CubeBackend {
    fn softmax_sums(
        logits: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        start: usize,
    ) -> FloatTensor<Self> {
        // Rows may lie apart, as CUDA likes them to.
        let (logits, bias, targets) =
            (into_contiguous_aligned(logits), into_contiguous(bias), into_contiguous(targets));
        let [rows, tokens] = logits.shape().dims::<2>();
        let client = logits.client.clone();
        let shape = Shape::new([rows, SUMS]);
        let output = empty_device_dtype(client.clone(), logits.device.clone(), shape, DType::F32);
        let vector_size = vector_size(&client, logits.dtype, &[tokens, logits.meta.strides()[0]]);
        let units = client.properties().hardware.max_cube_dim.0.min(UNITS);
        let units = 1 << units.ilog2();
        let types =
            [logits.dtype, bias.dtype, targets.dtype].map(burn::backend::cubecl::dtype_to_storage_type);
        kernel::softmax_sums::launch(
            &client,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(units),
            vector_size,
            logits.into_tensor_arg(),
            bias.into_tensor_arg(),
            targets.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            start as u32,
            units,
            types,
        );
        output
    }
}
