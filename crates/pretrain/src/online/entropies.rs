//! Entropies of predictions.

use anyhow::Result;
use burn::tensor::Tensor;
use entromask_encoder::MaskedLm;
use entromask_kernels::{DeviceHead, head_entropy};

/// Entropy of the prediction from each of n hidden states after the head's transform, `[n, hidden_size]` without
/// autodiff, in nats.
///
/// # Errors
/// If the device fails.
pub(crate) fn entropies(model: &MaskedLm, hidden: &Tensor<2>) -> Result<Vec<f32>> {
    let (weight, bias) = model.decoder();
    let (weight, bias, [n, _]) = (plain(weight), plain(bias), hidden.dims());
    let measures = if entromask_device::is_cpu(&hidden.device()) {
        head_entropy(&read(hidden.clone())?, &read(weight)?, &read(bias)?, &vec![0; n])
    } else {
        let measured = DeviceHead::new(weight, bias).measure(hidden, &vec![0; n], false)?;
        measured.into_iter().map(|(measures, _)| measures).collect()
    };
    Ok(measures.into_iter().map(|measure| measure.entropy).collect())
}

fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    Ok(tensor.try_into_vec_as()?)
}
