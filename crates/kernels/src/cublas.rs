//! Matrix products on NVIDIA GPUs by cuBLASLt.
//!
//! burn times its own kernels for each shape of a product and, in 0.22.1, has none for the tensor cores of Hopper that fuse
//! with what follows. NVIDIA's library needs no such search. It is looked for at run time, where the CUDA toolkit or `PyTorch`
//! put it; without it burn multiplies.

mod call;
mod library;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::device_handle::DeviceHandle;
use cubecl_common::device::Device as _;
use cubecl_runtime::runtime::Runtime;

use crate::strided::{self, Plan, Strided};

use call::Call;
use library::{Types, WORKSPACE};

/// Where CUDA's kernels are launched from.
type Server = <cubecl::cuda::CudaRuntime as Runtime>::Server;

/// Whether matrix products on `device` are cuBLASLt's: on NVIDIA GPUs, where the library was found.
#[must_use]
pub fn multiplies_on(device: &Device) -> bool {
    static IS_PRESENT: OnceLock<bool> = OnceLock::new();
    is_cuda(device.as_dispatch()) && *IS_PRESENT.get_or_init(library::is_present)
}

#[allow(clippy::match_wildcard_for_single_variants, reason = "with other features there are others")]
fn is_cuda(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Cube(device) => matches!(device, cubecl::Device::Cuda(_)),
        DispatchDevice::Autodiff(device) => is_cuda(device),
        _ => false,
    }
}

/// What a product is to be like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// What it is multiplied by.
    pub scale: f32,
    /// f32, whatever the type of the factors; theirs without.
    pub is_widened: bool,
    /// Of four dimensions, with the matrices of the second one beside each other in memory, row by row, as heads are within
    /// hidden states.
    pub is_interleaved: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { scale: 1.0, is_widened: false, is_interleaved: false }
    }
}

/// `left` · `right` on a device that [`multiplies_on`] names.
///
/// # Shapes
/// - left: `[..., m, k]`
/// - right: `[..., k, n]`, with the same leading dimensions
/// - output: `[..., m, n]`
pub(crate) fn matmul<const D: usize>(left: Tensor<D>, right: Tensor<D>, manner: Manner) -> Tensor<D> {
    let (left, right) = (left.into_dispatch(), right.into_dispatch());
    Tensor::from_dispatch(<Dispatch as CublasProduct>::cublas_product(left, right, manner))
}

/// `input` · `weight` + `bias` on such a device.
///
/// # Shapes
/// - input: `[rows, inputs]`
/// - weight: `[inputs, outputs]`
/// - bias: `[outputs]`
/// - output: `[rows, outputs]`
pub(crate) fn affine(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as CublasProduct>::cublas_affine(input, weight, bias))
}

#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub trait CublasProduct: Backend {
    #[fusion(dtype = manner.dtype(left), shape = product_shape(left, right))]
    fn cublas_product(left: FloatTensor<Self>, right: FloatTensor<Self>, manner: Manner)
    -> FloatTensor<Self>;

    #[fusion(dtype = input, shape = product_shape(input, weight))]
    fn cublas_affine(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Manner {
    fn dtype(self, of_factors: DType) -> DType {
        if self.is_widened { DType::F32 } else { of_factors }
    }
}

fn product_shape(left: &Shape, right: &Shape) -> Shape {
    let mut shape = left.clone();
    let last = shape.num_dims() - 1;
    shape[last] = right[last];
    shape
}

impl CublasProduct for CubeBackend {
    fn cublas_product(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        manner: Manner,
    ) -> FloatTensor<Self> {
        let (mut shape, dtype) = (product_shape(&left.shape(), &right.shape()), manner.dtype(left.dtype));
        if !manner.is_interleaved {
            let output = empty(&left, shape, dtype);
            return multiply(left, right, None, manner.scale, output);
        }
        shape.swap(1, 2);
        let output = Self::float_swap_dims(empty(&left, shape, dtype), 1, 2);
        multiply(left, right, None, manner.scale, output)
    }

    fn cublas_affine(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = empty(&input, product_shape(&input.shape(), &weight.shape()), input.dtype);
        multiply(input, weight, Some(into_contiguous(bias)), 1.0, output)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "its caller has no further use for it")]
fn multiply(
    left: CubeTensor,
    right: CubeTensor,
    bias: Option<CubeTensor>,
    scale: f32,
    output: CubeTensor,
) -> CubeTensor {
    check(&left, &right, bias.as_ref());
    if output.shape().num_elements() == 0 {
        return output;
    }
    let cubecl::Device::Cuda(device) = &left.device else { unreachable!("asked for on CUDA only") };
    let device = DeviceHandle::<Server>::new(device.to_id());
    let (left, right) = (multipliable(left), multipliable(right));
    let workspace = empty(&left, Shape::new([WORKSPACE]), DType::U8);
    let plan = Plan::new(placed(&left), placed(&right), placed(&output)).expect("all are matrices");
    let binding = |tensor: &CubeTensor| tensor.handle.clone().binding();
    let call = Call {
        plan,
        scale,
        types: Types { of_factors: left.dtype, of_output: output.dtype },
        left: binding(&left),
        right: binding(&right),
        bias: bias.as_ref().map(binding),
        output: binding(&output),
        workspace: binding(&workspace),
    };
    device.submit(move |server| call.run(server));
    output
}

/// The library goes by addresses and what it is told.
fn check(left: &CubeTensor, right: &CubeTensor, bias: Option<&CubeTensor>) {
    let (a, b, last) = (left.shape(), right.shape(), left.shape().num_dims() - 1);
    let fits = a[..last - 1] == b[..last - 1] && a[last] == b[last - 1] && a[last] > 0;
    assert!(fits, "{a:?} does not multiply {b:?}");
    assert!(matches!(left.dtype, DType::F32 | DType::BF16) && left.dtype == right.dtype, "{:?}", right.dtype);
    if let Some(bias) = bias {
        assert_eq!((bias.shape().num_elements(), bias.dtype), (b[last], left.dtype), "bias");
    }
}

fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// Copied where its rows and its columns lie apart.
fn multipliable(tensor: CubeTensor) -> CubeTensor {
    if strided::is_multipliable(placed(&tensor)) { tensor } else { into_contiguous(tensor) }
}

fn placed(tensor: &CubeTensor) -> Strided<'_> {
    Strided { shape: tensor.meta.shape(), strides: tensor.meta.strides() }
}

impl<B: Backend + CublasProduct, C: CheckpointStrategy> CublasProduct for Autodiff<B, C> {
    fn cublas_product(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        manner: Manner,
    ) -> FloatTensor<Self> {
        let prepared = Product.prepare::<C>([left.node(), right.node()]).compute_bound().stateful();
        let product = B::cublas_product(left.primitive().clone(), right.primitive().clone(), manner);
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                // A factor is needed for the gradient of the other one.
                let (needs_left, needs_right) = (right.is_tracked(), left.is_tracked());
                let factors = [(needs_left, &left), (needs_right, &right)]
                    .map(|(needed, factor)| needed.then(|| prepared.checkpoint(factor)));
                prepared.finish((factors, manner.scale), product)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(product),
        }
    }

    fn cublas_affine(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let outputs = bias.shape().num_elements();
        let bias = Self::float_reshape(bias, Shape::new([1, outputs]));
        Self::float_add(Self::cublas_product(input, weight, Manner::default()), bias)
    }
}

/// Its way back: two products.
#[derive(Debug)]
struct Product;

impl<B: Backend + CublasProduct> Backward<B, 2> for Product {
    /// The factors that are needed, and the scale.
    type State = ([Option<NodeId>; 2], f32);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (factors, scale) = ops.state;
        let [left, right] =
            factors.map(|id| id.map(|id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id)));
        let gradient = gradients.consume::<B>(&ops.node);
        let gradient = match left.as_ref().or(right.as_ref()) {
            // That of a widened product is f32.
            Some(factor) if factor.dtype() != gradient.dtype() => {
                B::float_cast(gradient, factor.dtype().into())
            }
            _ => gradient,
        };
        let manner = Manner { scale, ..Manner::default() };
        let [of_left, of_right] = ops.parents;
        if let (Some(node), Some(right)) = (of_left, right) {
            let product = B::cublas_product(gradient.clone(), B::float_transpose(right), manner);
            gradients.register::<B>(node.id, product);
        }
        if let (Some(node), Some(left)) = (of_right, left) {
            gradients.register::<B>(node.id, B::cublas_product(B::float_transpose(left), gradient, manner));
        }
    }
}
