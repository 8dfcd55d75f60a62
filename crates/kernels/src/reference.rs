//! The same measures in plain tensor operations.

use burn::tensor::activation::log_softmax;
use burn::tensor::module::linear;
use burn::tensor::{Int, Tensor};

/// Entropy −Σ q ln q `[n]` and surprisal −ln q(target) `[n]`, in nats, on any device.
///
/// `hidden` is `[n, hidden_size]`, `weight` `[vocab_size, hidden_size]`, `bias` `[vocab_size]`, `targets` `[n]`. All
/// logits, `[n, vocab_size]`, are in memory at once, several times over: choose n accordingly.
pub fn head_entropy_reference(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
) -> (Tensor<1>, Tensor<1>) {
    let [n, _] = hidden.dims();
    let [vocab_size, _] = weight.dims();
    let log_q = log_softmax(linear(hidden, weight.transpose(), Some(bias)), 1);
    let surprisal = log_q.clone().gather(1, targets.reshape([n, 1])).neg().reshape([n]);
    let entropy = (log_q.clone().exp() * log_q).sum_dim(1).neg().reshape([n]);
    (entropy.clamp(0.0, (vocab_size as f64).ln()), surprisal.clamp_min(0.0))
}
