//! Entropies of predictions.

use burn::tensor::{Int, Tensor};
use entromask_encoder::MaskedLm;
use entromask_kernels::{head_entropy, head_entropy_reference};

/// Positions whose logits are in memory at once where the head is not fused.
const PLAIN_POSITIONS: usize = 2_048;

/// Entropy of the prediction from each of n hidden states after the head's transform, `[n, hidden_size]` without
/// autodiff, in nats.
pub(crate) fn entropies(model: &MaskedLm, hidden: &Tensor<2>) -> Vec<f32> {
    let (weight, bias) = model.decoder();
    let (weight, bias, [n, _]) = (plain(weight), plain(bias), hidden.dims());
    if entromask_device::is_cpu(&hidden.device()) {
        let measures = head_entropy(&read(hidden.clone()), &read(weight), &read(bias), &vec![0; n]);
        return measures.into_iter().map(|measure| measure.entropy).collect();
    }
    let chunks = (0..n).step_by(PLAIN_POSITIONS).flat_map(|start| {
        let part = hidden.clone().narrow(0, start, PLAIN_POSITIONS.min(n - start));
        let targets = Tensor::<1, Int>::zeros([part.dims()[0]], &part.device());
        read(head_entropy_reference(part, weight.clone(), bias.clone(), targets).0)
    });
    chunks.collect()
}

fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("a float tensor reads as f32")
}
