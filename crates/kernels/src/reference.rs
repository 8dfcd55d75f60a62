//! The same measures in plain tensor operations.

use burn::tensor::activation::log_softmax;
use burn::tensor::module::linear;
use burn::tensor::{FloatDType, Int, Tensor};

/// [`Details`](crate::Details) of n positions as tensors.
#[derive(Clone, Debug)]
pub struct DetailTensors {
    /// −ln max q in nats, `[n]`.
    pub min_entropy: Tensor<1>,
    /// −ln Σ q² in nats, `[n]`.
    pub renyi2: Tensor<1>,
    /// Difference of the two highest probabilities, `[n]`.
    pub margin: Tensor<1>,
}

/// Entropy −Σ q ln q `[n]` and surprisal −ln q(target) `[n]`, in nats, on any device.
///
/// `hidden` is `[n, hidden_size]`, `weight` `[vocab_size, hidden_size]`, `bias` `[vocab_size]`, `targets` `[n]`. All
/// logits, `[n, vocab_size]`, are in memory at once, several times over: choose n accordingly. The product is computed in
/// the type of its factors, softmax and measures in f32.
pub fn head_entropy_reference(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
) -> (Tensor<1>, Tensor<1>) {
    entropy_and_surprisal(log_probabilities(hidden, weight, bias), targets)
}

/// [`head_entropy_reference`] with the further measures of the same predictions.
pub fn head_details_reference(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
) -> (Tensor<1>, Tensor<1>, DetailTensors) {
    let log_q = log_probabilities(hidden, weight, bias);
    let details = details(log_q.clone());
    let (entropy, surprisal) = entropy_and_surprisal(log_q, targets);
    (entropy, surprisal, details)
}

fn log_probabilities(hidden: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let logits = linear(hidden, weight.transpose(), Some(bias));
    // With the eight bits of bf16, Σ q over a vocabulary would be anything.
    log_softmax(logits.cast(FloatDType::F32), 1)
}

fn entropy_and_surprisal(log_q: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<1>) {
    let [n, vocab_size] = log_q.dims();
    let surprisal = log_q.clone().gather(1, targets.reshape([n, 1])).neg().reshape([n]);
    let entropy = (log_q.clone().exp() * log_q).sum_dim(1).neg().reshape([n]);
    (entropy.clamp(0.0, largest(vocab_size)), surprisal.clamp_min(0.0))
}

fn details(log_q: Tensor<2>) -> DetailTensors {
    let [n, vocab_size] = log_q.dims();
    let min_entropy = log_q.clone().max_dim(1).neg().reshape([n]);
    let renyi2 = (log_q.clone() * 2.0).exp().sum_dim(1).log().neg().reshape([n]);
    DetailTensors {
        min_entropy: min_entropy.clamp(0.0, largest(vocab_size)),
        renyi2: renyi2.clamp(0.0, largest(vocab_size)),
        margin: margin(log_q),
    }
}

fn margin(log_q: Tensor<2>) -> Tensor<1> {
    let [n, vocab_size] = log_q.dims();
    if vocab_size == 1 {
        return Tensor::<1>::ones([n], &log_q.device()).cast(FloatDType::F32);
    }
    let top = log_q.topk(2, 1).exp();
    (top.clone().narrow(1, 0, 1) - top.narrow(1, 1, 1)).reshape([n]).clamp(0.0, 1.0)
}

fn largest(vocab_size: usize) -> f64 {
    f64::from((vocab_size as f32).ln())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};
    use entromask_random::{keyed, normals};

    use super::*;

    const N: usize = 64;
    const D: usize = 128;
    const VOCAB: usize = 3000;

    /// Entropies of logits with a standard deviation of about 2, as in a trained model.
    fn measured(dtype: FloatDType) -> [Tensor<1>; 5] {
        let device = Device::flex();
        let draw = |rows: usize, columns: usize, std, purpose| {
            let values = normals(rows * columns, std, &mut keyed(1, purpose, 0, 0));
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device).cast(dtype)
        };
        let targets = Tensor::<1, Int>::arange(0..N as i64, &device);
        let bias = draw(1, VOCAB, 0.1, "bias").reshape([VOCAB]);
        let (hidden, weight) = (draw(N, D, 1.0, "hidden"), draw(VOCAB, D, 2.0 / (D as f64).sqrt(), "weight"));
        let (entropy, surprisal, details) = head_details_reference(hidden, weight, bias, targets);
        [entropy, surprisal, details.min_entropy, details.renyi2, details.margin]
    }

    /// Rounding the product moves a measure by up to 0.07 here, and the mean over the positions by less than 0.001.
    #[test]
    fn bf16_products_leave_softmax_and_entropy_in_f32() {
        let exact = measured(FloatDType::F32);
        for (index, (rounded, exact)) in measured(FloatDType::BF16).into_iter().zip(exact).enumerate() {
            assert_eq!(rounded.dtype(), DType::F32, "measure {index}");
            let off = rounded - exact;
            let (mean, most): (f32, f32) = (off.clone().mean().into_scalar(), off.abs().max().into_scalar());
            assert!(most > 0.0, "measure {index}: bf16 was not used");
            assert!(most < 0.1 && mean.abs() < 0.002, "measure {index}: mean {mean}, most {most}");
        }
    }

    #[test]
    fn huge_logits_in_bf16_are_finite() {
        let device = Device::flex();
        let tensor = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).cast(FloatDType::BF16)
        };
        let logits = [1e4, -1e4, 9e3, 1e4, 0.0];
        let weight = tensor(logits.to_vec(), [5, 1]);
        let bias = tensor(vec![0.0; 5], [1, 5]).reshape([5]);
        let targets = Tensor::<1, Int>::from_ints([1], &device);
        let (entropy, surprisal, _) =
            head_details_reference(tensor(vec![1.0], [1, 1]), weight, bias, targets);
        let (entropy, surprisal): (f32, f32) = (entropy.into_scalar(), surprisal.into_scalar());
        assert!((entropy - 2f32.ln()).abs() < 1e-6, "{entropy}");
        assert!((surprisal / 2e4 - 1.0).abs() < 0.01, "{surprisal}");
    }
}
