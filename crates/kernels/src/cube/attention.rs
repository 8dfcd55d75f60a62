//! Attention in one pass over keys and values, without its scores in memory.

mod kernel;

use std::sync::LazyLock;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, Dispatch, DispatchDevice, TensorMetadata, backend_extension};
use burn::tensor::{Bool, DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous_aligned;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::{CubeCount, CubeDim};

use self::kernel::Hidden;
use super::rows::is_indexable;

/// Planes of a cube at most.
const PLANES: usize = 8;

/// Elements of keys and values that a unit reads at once.
const VECTOR: usize = 8;

/// A variable of the environment and its value by which attention is products and a softmax again, to compare both.
const BY_PRODUCTS: (&str, &str) = ("ENTROMASK_ATTENTION", "products");

/// Longest heads, by the registers of a unit.
const LONGEST: usize = 128;

/// Whether [`attention`] takes these: on NVIDIA GPUs with tensor cores for bf16, heads of whole tiles in bf16.
pub(crate) fn attends(query: &Tensor<4>) -> bool {
    let head_size = query.dims()[3];
    query.dtype() == DType::BF16
        && head_size.is_multiple_of(16)
        && (16..=LONGEST).contains(&head_size)
        && multiplies_tiles(query.device().as_dispatch())
}

/// What queries attend to, softmax(`query` · `key`ᵀ / √`head_size`) · `value`, without keys that are `hidden`. The scores and
/// their softmax are f32, their weights bf16. Where all keys are hidden all weigh the same. Heads of the output are
/// interleaved in memory, as within hidden states.
///
/// # Shapes
/// - query, output: `[batch_size, heads, n, head_size]`
/// - key, value: `[batch_size, heads, seq_length, head_size]`
/// - hidden: `[batch_size, heads, n, seq_length]`
pub(crate) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let (query, key, value) = (query.into_dispatch(), key.into_dispatch(), value.into_dispatch());
    Tensor::from_dispatch(match hidden {
        Some(hidden) => <Dispatch as TiledAttention>::attention(query, key, value, hidden.into_dispatch()),
        None => <Dispatch as TiledAttention>::attention_to_all(query, key, value),
    })
}

fn multiplies_tiles(device: &DispatchDevice) -> bool {
    static IS_WANTED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os(BY_PRODUCTS.0).is_none_or(|way| way != BY_PRODUCTS.1));
    let DispatchDevice::Cube(device @ cubecl::Device::Cuda(_)) = device else { return false };
    if !*IS_WANTED {
        return false;
    }
    let [bf16, f32] = [FloatKind::BF16, FloatKind::F32].map(ElemType::Float);
    let tiles = MmaConfig { a_type: bf16, b_type: bf16, cd_type: f32, m: 16, n: 8, k: 16 };
    device.client().properties().features.matmul.mma.contains(&tiles)
}

#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait TiledAttention: Backend {
    #[fusion(dtype = query, shape = query)]
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: BoolTensor<Self>,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = query, shape = query)]
    fn attention_to_all(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl TiledAttention for CubeBackend {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        hidden: BoolTensor<Self>,
    ) -> FloatTensor<Self> {
        launch([query, key, value], Some(hidden))
    }

    fn attention_to_all(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        launch([query, key, value], None)
    }
}

fn launch(tensors: [CubeTensor; 3], hidden: Option<CubeTensor>) -> CubeTensor {
    let [query, key, value] = tensors.map(readable);
    let [batch_size, heads, n, head_size] = query.shape().dims::<4>();
    let length = key.shape()[2];
    assert_eq!(key.shape(), Shape::new([batch_size, heads, length, head_size]), "keys");
    assert_eq!(value.shape(), key.shape(), "one value for each key");
    let scores = Shape::new([batch_size, heads, n, length]);
    assert!(hidden.as_ref().is_none_or(|hidden| hidden.shape() == scores), "one for each score");
    let client = query.client.clone();
    let shape = Shape::new([batch_size, n, heads, head_size]);
    let mut output = empty_device_dtype(client.clone(), query.device.clone(), shape, query.dtype);
    output.meta.swap(1, 2);
    if batch_size * heads * n == 0 {
        return output;
    }
    assert!([&query, &key, &value].into_iter().all(is_indexable), "u32 counts fewer states");
    let hides = match &hidden {
        None => Hidden::None,
        Some(hidden) if hidden.meta.strides()[2] == 0 || n == 1 => Hidden::ByKey,
        Some(_) => Hidden::ByQuery,
    };
    // Flags of each query take registers, so that of larger cubes there would be one at a time.
    let most = if hides == Hidden::ByQuery { PLANES / 2 } else { PLANES };
    let planes = n.div_ceil(kernel::ROWS).next_power_of_two().min(most);
    // One that is not read.
    let hidden = hidden.unwrap_or_else(|| query.clone());
    let types = [query.dtype, hidden.dtype].map(dtype_to_storage_type);
    kernel::attend::launch(
        &client,
        CubeCount::Static((batch_size * heads) as u32, n.div_ceil(planes * kernel::ROWS) as u32, 1),
        CubeDim::new_2d(32, planes as u32),
        2,
        VECTOR,
        query.into_tensor_arg(),
        key.into_tensor_arg(),
        value.into_tensor_arg(),
        hidden.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        (head_size as f32).powf(-0.5),
        head_size,
        planes,
        hides,
        types,
    );
    output
}

/// Copied where vectors do not lie in one piece.
fn readable(tensor: CubeTensor) -> CubeTensor {
    let (strides, last) = (tensor.meta.strides(), 3);
    let start = tensor.handle.offset_start.unwrap_or(0) as usize;
    let is_readable = strides[last] == 1
        && strides[..last].iter().all(|stride| stride.is_multiple_of(VECTOR))
        && start.is_multiple_of(VECTOR * tensor.dtype.size());
    if is_readable { tensor } else { into_contiguous_aligned(tensor) }
}
