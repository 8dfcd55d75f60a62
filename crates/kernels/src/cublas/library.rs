//! The library itself.
#![expect(unsafe_code, reason = "the library is C")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;

use burn::tensor::DType;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use sys::cublasLtMatmulDescAttributes_t as Attribute;
use sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;
use sys::cublasLtMatrixLayoutAttribute_t as LayoutAttribute;

use crate::strided::{Geometry, Matrices};

/// What the library may use besides, bytes: as much as NVIDIA's guide advises for Hopper
/// (<https://docs.nvidia.com/cuda/cublas/>, `cublasSetWorkspace`).
pub(super) const WORKSPACE: usize = 32 << 20;

/// Whether it is where the system looks for libraries.
pub(super) fn is_present() -> bool {
    // SAFETY: loads a library, whose initialisers may do anything; this one's do nothing to us.
    unsafe { sys::is_culib_present() }
}

/// On the device, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) left: u64,
    pub(super) right: u64,
    pub(super) bias: Option<u64>,
    pub(super) output: u64,
    pub(super) workspace: u64,
}

/// f32 or bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Types {
    pub(super) of_factors: DType,
    pub(super) of_output: DType,
}

impl Addresses {
    /// So many elements behind these of the left factor, the right one and the output.
    pub(super) fn behind(self, [left, right, output]: [usize; 3], types: Types) -> Self {
        let bytes = |elements: usize, dtype: DType| (elements * dtype.size()) as u64;
        Self {
            left: self.left + bytes(left, types.of_factors),
            right: self.right + bytes(right, types.of_factors),
            output: self.output + bytes(output, types.of_output),
            ..self
        }
    }
}

/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    geometry: Geometry,
    types: Types,
    has_bias: bool,
    /// Of the left factor, the right one and the output, bytes.
    alignments: [u32; 3],
}

impl Key {
    pub(super) fn new(geometry: Geometry, types: Types, at: Addresses) -> Self {
        // More than 256 bytes are of no use to it.
        let alignment = |address: u64| 1 << address.trailing_zeros().min(8);
        let alignments = [at.left, at.right, at.output].map(alignment);
        Self { geometry, types, has_bias: at.bias.is_some(), alignments }
    }
}

thread_local! {
    /// A thread launches the kernels of one device and of no other, whose context is current there; a handle belongs to the
    /// context that was current when it was made.
    static LIBRARY: RefCell<Option<Library>> = const { RefCell::new(None) };
}

/// Puts the products of `key`, times `scale`, into `queue`.
pub(super) fn launch(
    key: Key,
    at: Addresses,
    scale: f32,
    queue: sys::cudaStream_t,
) -> Result<(), CublasError> {
    LIBRARY.with_borrow_mut(|library| {
        let library = match library {
            Some(library) => library,
            None => library.insert(Library::open()?),
        };
        library.launch(key, at, scale, queue)
    })
}

struct Library {
    handle: sys::cublasLtHandle_t,
    /// There are few: batches have few shapes.
    prepared: HashMap<Key, Prepared>,
}

impl Library {
    fn open() -> Result<Self, CublasError> {
        Ok(Self { handle: result::create_handle()?, prepared: HashMap::new() })
    }

    fn launch(
        &mut self,
        key: Key,
        at: Addresses,
        scale: f32,
        queue: sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        let prepared = match self.prepared.entry(key) {
            Entry::Occupied(prepared) => prepared.into_mut(),
            Entry::Vacant(place) => place.insert(Prepared::new(self.handle, key)?),
        };
        prepared.launch(self.handle, at, scale, queue)
    }
}

/// A product that the library has chosen an algorithm for. Its matrices lie by columns, so that what it computes is the
/// transposed product: right · left.
struct Prepared {
    description: sys::cublasLtMatmulDesc_t,
    right: sys::cublasLtMatrixLayout_t,
    left: sys::cublasLtMatrixLayout_t,
    output: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Prepared {
    fn new(handle: sys::cublasLtHandle_t, key: Key) -> Result<Self, CublasError> {
        let Geometry { m, n, k, batch, left, right, output } = key.geometry;
        let layout = |dtype, shape, matrices| layout(dtype, shape, matrices, batch);
        let Types { of_factors, of_output } = key.types;
        let right_layout = layout(of_factors, [n, k], right)?;
        let left_layout = layout(of_factors, [k, m], left)?;
        let output_layout = layout(of_output, [n, m], output)?;
        let description = describe(key)?;
        let preference = prefer(key)?;
        // SAFETY: all were made above.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                description,
                right_layout,
                left_layout,
                output_layout,
                output_layout,
                preference,
            )
        };
        // SAFETY: made above, and not used again.
        unsafe { result::destroy_matmul_pref(preference) }?;
        let algorithm = found?.algo;
        Ok(Self { description, right: right_layout, left: left_layout, output: output_layout, algorithm })
    }

    fn launch(
        &self,
        handle: sys::cublasLtHandle_t,
        at: Addresses,
        scale: f32,
        queue: sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        if let Some(bias) = at.bias {
            set(self.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let nothing = 0.0_f32;
        let pointer = |address: u64| address as *mut c_void;
        // SAFETY: the addresses are those of tensors with the geometry of the key that this was prepared for, on the device
        // of `queue`, whose context is current on this thread; the bias has n values, and the work space is of WORKSPACE
        // bytes there. The scalars lie on the host, as the description says, and are read before this returns.
        unsafe {
            result::matmul(
                handle,
                self.description,
                (&raw const scale).cast(),
                (&raw const nothing).cast(),
                pointer(at.right),
                self.right,
                pointer(at.left),
                self.left,
                pointer(at.output),
                self.output,
                pointer(at.output),
                self.output,
                &raw const self.algorithm,
                pointer(at.workspace),
                WORKSPACE,
                queue,
            )
        }
    }
}

/// `rows` and `columns` as the library has them before it transposes.
fn layout(
    dtype: DType,
    [rows, columns]: [usize; 2],
    matrices: Matrices,
    batch: usize,
) -> Result<sys::cublasLtMatrixLayout_t, CublasError> {
    let [rows, columns] = if matrices.is_transposed { [columns, rows] } else { [rows, columns] };
    let layout =
        result::create_matrix_layout(kind(dtype), rows as u64, columns as u64, matrices.stride as i64)?;
    let (count, apart) = (batch as i32, matrices.apart as i64);
    let set = |attribute, value: *const c_void, size| {
        // SAFETY: the value is alive and has the size that the library wants for the attribute.
        unsafe { result::set_matrix_layout_attribute(layout, attribute, value, size) }
    };
    set(LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, (&raw const count).cast(), size_of_val(&count))?;
    set(
        LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
        (&raw const apart).cast(),
        size_of_val(&apart),
    )?;
    Ok(layout)
}

fn kind(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        other => unreachable!("no product is {other:?}"),
    }
}

/// Sums are f32; factors that are f32 are rounded to TF32, as burn's kernels round them.
fn describe(key: Key) -> Result<sys::cublasLtMatmulDesc_t, CublasError> {
    let compute = match key.types.of_factors {
        DType::F32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let description = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?;
    set(description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(key.geometry.right.is_transposed))?;
    set(description, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(key.geometry.left.is_transposed))?;
    if key.has_bias {
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
        set(description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
    }
    Ok(description)
}

/// `value` has the type that the library's documentation names for `attribute`: i32 for a transposition, u32 for an epilogue,
/// u64 for an address.
fn set<T>(
    description: sys::cublasLtMatmulDesc_t,
    attribute: Attribute,
    value: &T,
) -> Result<(), CublasError> {
    // SAFETY: the value is alive, its size is given, and all callers, of this file, pass the attribute's type.
    unsafe {
        result::set_matmul_desc_attribute(
            description,
            attribute,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
}

fn prefer(key: Key) -> Result<sys::cublasLtMatmulPreference_t, CublasError> {
    let preference = result::create_matmul_pref()?;
    let set = |attribute, value: *const c_void, size| {
        // SAFETY: the value is alive and has the size that the library wants for the attribute.
        unsafe { result::set_matmul_pref_attribute(preference, attribute, value, size) }
    };
    let room = WORKSPACE;
    set(
        PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        (&raw const room).cast(),
        size_of_val(&room),
    )?;
    let [left, right, output] = key.alignments;
    for (attribute, alignment) in [
        (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, right),
        (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, left),
        (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, output),
        (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, output),
    ] {
        set(attribute, (&raw const alignment).cast(), size_of_val(&alignment))?;
    }
    Ok(preference)
}
