//! Layer normalisation in one pass, and its way back in two.

mod backward;
mod kernel;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{into_contiguous, into_contiguous_aligned};
use burn_cubecl::ops::numeric::empty_device_dtype;

use super::rows::{Shares, is_indexable, vector_size};

/// `input` + `residual`, both `[n, width]`, with each row normalised, times `gamma` `[width]` and plus `beta` `[width]`.
/// Computed in f32, whatever the type of `input`, which the output has.
pub(crate) fn normalized(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    let (has_residual, has_beta) = (residual.is_some(), beta.is_some());
    let dtype = input.dtype();
    let [input, residual] =
        [input.clone(), residual.unwrap_or(input)].map(|of| of.cast(dtype).into_dispatch());
    let [gamma, beta] = [gamma.clone(), beta.unwrap_or(gamma)].map(|of| of.cast(dtype).into_dispatch());
    Tensor::from_dispatch(<Dispatch as NormalizedRows>::normalized_rows(
        input,
        residual,
        gamma,
        beta,
        has_residual,
        has_beta,
        epsilon as f32,
    ))
}

#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub trait NormalizedRows: Backend {
    /// `residual` and `beta` are not read without their flags.
    #[fusion(dtype = input, shape = input)]
    fn normalized_rows(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        has_residual: bool,
        has_beta: bool,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

impl NormalizedRows for CubeBackend {
    fn normalized_rows(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        has_residual: bool,
        has_beta: bool,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let input = into_contiguous_aligned(input);
        let residual = if has_residual { into_contiguous_aligned(residual) } else { input.clone() };
        let (gamma, beta) = (into_contiguous(gamma), into_contiguous(beta));
        let [rows, width] = input.shape().dims::<2>();
        let client = input.client.clone();
        let output = empty_device_dtype(client.clone(), input.device.clone(), input.shape(), input.dtype);
        if rows == 0 {
            return output;
        }
        assert!(is_indexable(&input), "u32 does not count {rows} × {width} elements");
        let strides = [&input, &residual, &output].map(|tensor| tensor.meta.strides()[0]);
        let vector_size = vector_size(&client, input.dtype, &[strides.as_slice(), &[width]].concat());
        let shares =
            Shares::new(width / vector_size, client.properties().hardware.max_units_per_cube as usize);
        kernel::normalized::launch(
            &client,
            shares.cubes(rows),
            shares.cube(),
            vector_size,
            input.clone().into_tensor_arg(),
            residual.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            epsilon,
            shares.units,
            shares.vectors,
            shares.rows,
            has_residual,
            has_beta,
            burn::backend::cubecl::dtype_to_storage_type(input.dtype),
        );
        output
    }
}
