//! The way back of layer normalisation. What is normalised is computed once more, which costs less than keeping it.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{into_contiguous, into_contiguous_aligned};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{NormalizedRows, kernel};
use crate::cube::rows::{Shares, is_indexable, vector_size};

/// Sums over rows that are made side by side, and added up then.
const PARTS: usize = 2_048;

#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait NormGradient: Backend {
    /// That of input + residual, `[n, width]`. `residual` is not read without its flag.
    #[fusion(dtype = input, shape = input)]
    fn norm_gradient(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        has_residual: bool,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// Parts of those of gamma and of beta, `[2, PARTS, width]`.
    #[fusion(dtype = DType::F32, shape = parts_of(input))]
    fn norm_vector_gradients(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        has_residual: bool,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

fn parts_of(input: &Shape) -> Shape {
    Shape::new([2, PARTS, input[1]])
}

/// What both launches read.
struct Rows {
    input: CubeTensor,
    residual: CubeTensor,
    gradient: CubeTensor,
    shares: Shares,
    vector_size: usize,
}

impl Rows {
    fn new(input: CubeTensor, residual: CubeTensor, gradient: CubeTensor, has_residual: bool) -> Self {
        let (input, gradient) = (into_contiguous_aligned(input), into_contiguous_aligned(gradient));
        let residual = if has_residual { into_contiguous_aligned(residual) } else { input.clone() };
        let [rows, width] = input.shape().dims::<2>();
        assert_eq!((input.shape(), input.dtype), (gradient.shape(), gradient.dtype), "one for each value");
        assert!(is_indexable(&input), "u32 does not count {rows} × {width} elements");
        let [a, b, c] = [&input, &residual, &gradient].map(|tensor| tensor.meta.strides()[0]);
        let vector_size = vector_size(&input.client, input.dtype, &[a, b, c, width]);
        let most = input.client.properties().hardware.max_units_per_cube as usize;
        Self { shares: Shares::new(width / vector_size, most), input, residual, gradient, vector_size }
    }

    fn count(&self) -> usize {
        self.input.shape()[0]
    }

    fn empty(&self, shape: Shape, dtype: DType) -> CubeTensor {
        empty_device_dtype(self.input.client.clone(), self.input.device.clone(), shape, dtype)
    }
}

impl NormGradient for CubeBackend {
    fn norm_gradient(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        has_residual: bool,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let rows = Rows::new(input, residual, gradient, has_residual);
        let output = rows.empty(rows.input.shape(), rows.input.dtype);
        if rows.count() == 0 {
            return output;
        }
        let dtype = dtype_to_storage_type(rows.input.dtype);
        kernel::gradient::launch(
            &rows.input.client.clone(),
            rows.shares.cubes(rows.count()),
            rows.shares.cube(),
            rows.vector_size,
            rows.input.into_tensor_arg(),
            rows.residual.into_tensor_arg(),
            into_contiguous(gamma).into_tensor_arg(),
            rows.gradient.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            epsilon,
            rows.shares.units,
            rows.shares.vectors,
            rows.shares.rows,
            has_residual,
            dtype,
        );
        output
    }

    fn norm_vector_gradients(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        has_residual: bool,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let rows = Rows::new(input, residual, gradient, has_residual);
        let output = rows.empty(parts_of(&rows.input.shape()), DType::F32);
        // Not left to the kernel: software Vulkan divides by zero where a unit does not exist, and loops as often.
        let turns = rows.count().div_ceil(PARTS) as u32;
        let dtype = dtype_to_storage_type(rows.input.dtype);
        kernel::vector_gradients::launch(
            &rows.input.client.clone(),
            rows.shares.cubes(PARTS),
            rows.shares.cube(),
            rows.vector_size,
            rows.input.into_tensor_arg(),
            rows.residual.into_tensor_arg(),
            rows.gradient.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            epsilon,
            turns,
            rows.shares.units,
            rows.shares.vectors,
            rows.shares.rows,
            has_residual,
            dtype,
        );
        output
    }
}

impl<B: Backend + NormalizedRows + NormGradient, C: CheckpointStrategy> NormalizedRows for Autodiff<B, C> {
    fn normalized_rows(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        has_residual: bool,
        has_beta: bool,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let tensors = [&input, &residual, &gamma, &beta];
        let prepared = LayerNorm.prepare::<C>(tensors.map(|of| of.node())).compute_bound().stateful();
        let [a, b, c, d] = tensors.map(|of| of.primitive().clone());
        let output = B::normalized_rows(a, b, c, d, has_residual, has_beta, epsilon);
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let nodes = [&input, &residual, &gamma].map(|of| prepared.checkpoint(of));
                prepared.finish(Kept { nodes, has_residual, has_beta, epsilon }, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

/// What the way back needs.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Input, residual and gamma.
    nodes: [NodeId; 3],
    has_residual: bool,
    has_beta: bool,
    epsilon: f32,
}

#[derive(Debug)]
struct LayerNorm;

impl<B: Backend + NormGradient> Backward<B, 4> for LayerNorm {
    type State = Kept;

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let Kept { nodes, has_residual, has_beta, epsilon } = ops.state;
        let [input, residual, gamma] =
            nodes.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id));
        let gradient = gradients.consume::<B>(&ops.node);
        let [of_input, of_residual, of_gamma, of_beta] = ops.parents;
        let (of_residual, of_beta) = (of_residual.filter(|_| has_residual), of_beta.filter(|_| has_beta));
        if of_gamma.is_some() || of_beta.is_some() {
            let (input, residual, gradient) = (input.clone(), residual.clone(), gradient.clone());
            let parts = B::norm_vector_gradients(input, residual, gradient, has_residual, epsilon);
            let sums = B::float_sum_dim(parts, 1);
            for (index, node) in [of_gamma, of_beta].into_iter().enumerate() {
                if let Some(node) = node {
                    gradients.register::<B>(node.id, vector::<B>(sums.clone(), index, &gamma));
                }
            }
        }
        if of_input.is_some() || of_residual.is_some() {
            let of_sum = B::norm_gradient(input, residual, gamma, gradient, has_residual, epsilon);
            for node in [of_input, of_residual].into_iter().flatten() {
                gradients.register::<B>(node.id, of_sum.clone());
            }
        }
    }
}

/// One of `sums` `[2, 1, width]`, as `like` is.
fn vector<B: Backend>(sums: FloatTensor<B>, index: usize, like: &FloatTensor<B>) -> FloatTensor<B> {
    let slices = [Slice::from(index..index + 1), Slice::from(0..1), Slice::full()];
    let one = B::float_reshape(B::float_slice(sums, &slices), like.shape());
    if like.dtype() == DType::F32 { one } else { B::float_cast(one, like.dtype().into()) }
}
