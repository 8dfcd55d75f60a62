//! Cross-entropy and distillation through the output layer of a masked language model, without a graph of the logits.
//!
//! The logits z = h·Wᵀ + b of a batch are by far its largest tensor (600 masked positions × 30,522 tokens × 4 bytes =
//! 73 MB), and autodiff would pass over them a dozen times. The gradient of both losses with respect to z is known in
//! closed form,
//!
//! ```text
//! G = λ_ce (softmax(z) − onehot(target)) / n + λ_kd T (softmax(z / T) − softmax(z_teacher / T)) / m ,
//! ```
//!
//! so that it is written over the logits, chunk by chunk (on the CPU by [`host`](crate::host), elsewhere in burn's operations), and only the three products that use it are left:
//! ∂h = G·W, ∂W = Gᵀ·h, ∂b = Σ G. The plain form is [`cross_entropy`](crate::cross_entropy) and
//! [`distillation`](crate::distillation); tests compare the two.

use burn::tensor::{Tensor, TensorData};
use entromask_kernels::{Products, is_cpu};

use crate::logits::{ChunkLoss, Mean, Taught};
use crate::soft::SoftTargets;
use crate::{host, scalars};

/// Logits that are in memory at once on the CPU: 128 MB.
const CHUNK_LOGITS: usize = 1 << 25;

/// On other devices, where burn's operations keep a few copies of them: 256 MB each.
const CHUNK_LOGITS_ON_DEVICE: usize = 1 << 26;

/// The output layer: logits = hidden · weightᵀ + bias.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// `[vocab_size, hidden_size]`
    pub weight: Tensor<2>,
    /// `[vocab_size]`
    pub bias: Tensor<1>,
    /// In what type it multiplies.
    pub products: Products,
}

/// A teacher for the distillation.
#[derive(Clone, Copy, Debug, Default)]
pub enum Guide<'a> {
    /// There is none.
    #[default]
    Nobody,
    /// Its hidden states (after the head's transform) at the positions, `[n, hidden_size of the teacher]`, and its
    /// decoder, both without autodiff.
    Model(&'a Tensor<2>, &'a Decoder),
    /// What it said at the positions when it was asked.
    Soft(&'a SoftTargets),
}

/// Weights of the two losses and the temperature of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Weight of the cross-entropy.
    pub ce: f64,
    /// Weight of the distillation; the teacher is not looked at if it is 0.
    pub kd: f64,
    /// Temperature of the distillation.
    pub temperature: f64,
}

/// Losses of a batch of positions, and what [`HeadLoss::add_gradients`] needs.
#[derive(Debug)]
pub struct HeadLoss {
    /// Cross-entropy, mean over the positions with a target; 0 if there are none.
    pub ce: f64,
    /// T²·KL(teacher ‖ student), mean over all positions; 0 without a teacher.
    pub kd: f64,
    /// A scalar whose gradient with respect to `hidden` is that of the weighted losses (its value means nothing).
    pub surrogate: Tensor<1>,
    decoder: Decoder,
    gradient: Decoder,
}

/// Losses of the student's `hidden` states (after the head's transform, tracked by autodiff) at n positions.
///
/// `targets` holds the original token where cross-entropy is asked for.
///
/// # Shapes
/// - hidden: `[n, hidden_size]`
pub fn head_loss(
    hidden: Tensor<2>,
    decoder: Decoder,
    targets: &[Option<u32>],
    teacher: Guide,
    objective: &Objective,
) -> HeadLoss {
    let teacher = if objective.kd == 0.0 { Guide::Nobody } else { teacher };
    let on_cpu = is_on_cpu(&decoder.weight.clone().inner());
    let rows = chunk_rows(&decoder, on_cpu);
    let how = if on_cpu { head_loss_on_host } else { head_loss_in_chunks };
    how(hidden, decoder, targets, teacher, objective, rows)
}

pub(crate) fn is_on_cpu(tensor: &Tensor<2>) -> bool {
    is_cpu(&tensor.device())
}

/// Positions whose logits are in memory at once.
pub(crate) fn chunk_rows(decoder: &Decoder, on_cpu: bool) -> usize {
    let logits = if on_cpu { CHUNK_LOGITS } else { CHUNK_LOGITS_ON_DEVICE };
    (logits / decoder.weight.dims()[0]).max(1)
}

impl Decoder {
    /// Without autodiff.
    fn plain(&self) -> Self {
        Self { weight: self.weight.clone().inner(), bias: self.bias.clone().inner(), products: self.products }
    }
}

impl HeadLoss {
    /// Adds the gradients of the decoder's weight and bias to the result of the backward pass, where they are trained.
    pub fn add_gradients(self, backward: &mut burn::tensor::Gradients) {
        add_gradient(&self.decoder.weight, self.gradient.weight, backward);
        add_gradient(&self.decoder.bias, self.gradient.bias, backward);
    }
}

fn add_gradient<const D: usize>(
    parameter: &Tensor<D>,
    gradient: Tensor<D>,
    backward: &mut burn::tensor::Gradients,
) {
    if parameter.is_require_grad() {
        let earlier = parameter.grad_remove(backward);
        let sum = match earlier {
            Some(earlier) => earlier + gradient,
            None => gradient,
        };
        parameter.grad_replace(backward, sum);
    }
}

fn head_loss_on_host(
    hidden: Tensor<2>,
    decoder: Decoder,
    targets: &[Option<u32>],
    teacher: Guide,
    objective: &Objective,
    rows: usize,
) -> HeadLoss {
    let (plain, mean) = (decoder.plain(), Mean::new(targets, objective));
    let found = host::gradient(&hidden.clone().inner(), &plain, targets, teacher, &mean, rows);
    let (width, device) = (plain.weight.dims(), plain.weight.device());
    let gradient = Tensor::from_data(TensorData::new(found.hidden, hidden.dims()), &device);
    HeadLoss {
        ce: found.losses.ce / mean.targets,
        kd: found.losses.kd / mean.positions,
        surrogate: (hidden * Tensor::from_inner(gradient)).sum(),
        gradient: Decoder {
            weight: Tensor::from_data(TensorData::new(found.weight, width), &device),
            bias: Tensor::from_data(TensorData::new(found.bias, [width[0]]), &device),
            products: plain.products,
        },
        decoder,
    }
}

fn head_loss_in_chunks(
    hidden: Tensor<2>,
    decoder: Decoder,
    targets: &[Option<u32>],
    teacher: Guide,
    objective: &Objective,
    rows: usize,
) -> HeadLoss {
    let plain = decoder.plain();
    let (mean, inner) = (Mean::new(targets, objective), hidden.clone().inner());
    let mut sums = Sums::default();
    for (index, targets) in targets.chunks(rows).enumerate() {
        let part = |tensor: &Tensor<2>| tensor.clone().narrow(0, index * rows, targets.len());
        let teacher = match teacher {
            Guide::Nobody => Taught::Nothing,
            Guide::Model(hidden, decoder) => {
                Taught::Logits(logits(part(hidden), decoder) + decoder.bias.clone().unsqueeze())
            }
            Guide::Soft(soft) => Taught::Soft(soft.part(index * rows..index * rows + targets.len())),
        };
        let hidden = part(&inner);
        let (gradient, losses) = mean.gradient(logits(hidden.clone(), &plain), &plain.bias, targets, teacher);
        sums.add(&hidden, &plain, gradient, losses);
    }
    let (ce, kd) = sums.losses();
    let gradient_of_hidden = Tensor::cat(sums.hidden, 0);
    let width = plain.weight.dims();
    HeadLoss {
        ce: ce / mean.targets,
        kd: kd / mean.positions,
        surrogate: (hidden * gradient_of_hidden).sum(),
        gradient: Decoder {
            weight: sums.weight.unwrap_or_else(|| Tensor::zeros(width, &plain.weight.device())),
            bias: sums.bias.unwrap_or_else(|| plain.bias.zeros_like()),
            products: plain.products,
        },
        decoder,
    }
}

/// Without bias, `[n, vocab_size]`.
pub(crate) fn logits(hidden: Tensor<2>, decoder: &Decoder) -> Tensor<2> {
    decoder.products.matmul(hidden, decoder.weight.clone().transpose())
}

/// What the chunks of a batch add up to.
#[derive(Default)]
struct Sums {
    losses: Vec<ChunkLoss>,
    hidden: Vec<Tensor<2>>,
    weight: Option<Tensor<2>>,
    bias: Option<Tensor<1>>,
}

impl Sums {
    /// Cross-entropy and distillation, read from the device.
    fn losses(&mut self) -> (f64, f64) {
        let losses = std::mem::take(&mut self.losses);
        let chunks = losses.len();
        let (ce, kd): (Vec<_>, Vec<_>) = losses.into_iter().map(|loss| (loss.ce, loss.kd)).unzip();
        let read = scalars::read(ce.into_iter().chain(kd.into_iter().flatten()));
        let (ce, kd) = read.split_at(chunks);
        (ce.iter().sum(), kd.iter().sum())
    }

    fn add(&mut self, hidden: &Tensor<2>, decoder: &Decoder, gradient: Tensor<2>, losses: ChunkLoss) {
        self.losses.push(losses);
        let ones = Tensor::ones([1, gradient.dims()[0]], &gradient.device());
        let bias = Products::AsTensors.matmul(ones, gradient.clone()).squeeze_dim(0);
        let gradient = decoder.products.operand(gradient);
        self.hidden.push(decoder.products.matmul(gradient.clone(), decoder.weight.clone()));
        let weight = decoder.products.matmul(gradient.transpose(), hidden.clone());
        self.bias = Some(self.bias.take().map_or(bias.clone(), |sum| sum + bias));
        self.weight = Some(self.weight.take().map_or(weight.clone(), |sum| sum + weight));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Int;

    use super::*;
    use crate::{cross_entropy, distillation};

    const OBJECTIVE: Objective = Objective { ce: 0.7, kd: 1.3, temperature: 2.0 };
    const TARGETS: [Option<u32>; 5] = [Some(3), Some(0), None, Some(18), Some(7)];

    fn wave<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin() * 1.5).collect();
        Tensor::from_data(TensorData::new(values, shape), &entromask_kernels::cpu())
    }

    fn tracked<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
        Tensor::from_inner(tensor).require_grad()
    }

    fn decoder(step: f32) -> Decoder {
        Decoder { weight: wave([19, 4], step), bias: wave([19], step * 3.0), products: Products::default() }
    }

    fn student() -> (Tensor<2>, Decoder) {
        let Decoder { weight, bias, products } = decoder(0.7);
        (tracked(wave([5, 4], 0.9)), Decoder { weight: tracked(weight), bias: tracked(bias), products })
    }

    fn vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-6), "{a:?}\n{b:?}");
    }

    /// ce, kd and the gradients of hidden, weight and bias by autodiff through the logits.
    fn plain(teacher: Option<&Tensor<2>>) -> (f64, f64, [Vec<f32>; 3]) {
        let (hidden, decoder) = student();
        let logits = logits(hidden.clone(), &decoder) + decoder.bias.clone().unsqueeze();
        let with_target: Vec<i64> = vec![0, 1, 3, 4];
        let with_target = Tensor::<1, Int>::from_data(TensorData::new(with_target, [4]), &logits.device());
        let targets: Vec<i64> = TARGETS.iter().flatten().map(|&t| i64::from(t)).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [4]), &logits.device());
        let ce = cross_entropy(logits.clone().select(0, with_target), targets);
        let mut loss = ce.clone().mul_scalar(OBJECTIVE.ce);
        let mut kd = 0.0;
        if let Some(teacher) = teacher {
            let decoder = self::decoder(1.1);
            let teacher =
                Tensor::from_inner(self::logits(teacher.clone(), &decoder) + decoder.bias.unsqueeze());
            let divergence = distillation(logits, teacher, OBJECTIVE.temperature);
            kd = divergence.clone().into_scalar::<f64>();
            loss = loss + divergence.mul_scalar(OBJECTIVE.kd);
        }
        let backward = loss.backward();
        let gradients = [
            vec(hidden.grad(&backward).expect("tracked")),
            vec(decoder.weight.grad(&backward).expect("tracked")),
            vec(decoder.bias.grad(&backward).expect("tracked")),
        ];
        (ce.into_scalar::<f64>(), kd, gradients)
    }

    type Fused = fn(Tensor<2>, Decoder, &[Option<u32>], Guide, &Objective, usize) -> HeadLoss;

    fn fused(fused: Fused, teacher: Guide, rows: usize) -> (f64, f64, [Vec<f32>; 3]) {
        let (hidden, decoder) = student();
        let loss = fused(hidden.clone(), decoder.clone(), &TARGETS, teacher, &OBJECTIVE, rows);
        let (ce, kd) = (loss.ce, loss.kd);
        let mut backward = loss.surrogate.backward();
        loss.add_gradients(&mut backward);
        let gradients = [
            vec(hidden.grad(&backward).expect("tracked")),
            vec(decoder.weight.grad(&backward).expect("tracked")),
            vec(decoder.bias.grad(&backward).expect("tracked")),
        ];
        (ce, kd, gradients)
    }

    #[test]
    fn gradients_are_the_same_bits_on_any_number_of_threads() {
        let (n, targets) = (307, (0..307).map(|position| Some(position % 19)).collect::<Vec<_>>());
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let (_, decoder) = student();
                let hidden = tracked(wave([n, 4], 0.9));
                let objective = Objective { kd: 0.0, ..OBJECTIVE };
                let loss = head_loss(hidden.clone(), decoder.clone(), &targets, Guide::Nobody, &objective);
                let mut backward = loss.surrogate.backward();
                loss.add_gradients(&mut backward);
                let of = |tensor: Option<Tensor<2>>| vec(tensor.expect("tracked"));
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                [of(hidden.grad(&backward)), of(decoder.weight.grad(&backward))].map(bits)
            })
        };
        let alone = run(1);
        assert!([2, 3, 5].into_iter().all(|threads| run(threads) == alone));
    }

    #[test]
    fn agrees_with_autodiff_through_the_logits() {
        let teacher = wave([5, 4], 1.7);
        let teachers = decoder(1.1);
        for teacher in [None, Some(&teacher)] {
            let exact = plain(teacher);
            let guide = teacher.map_or(Guide::Nobody, |hidden| Guide::Model(hidden, &teachers));
            for rows in [1, 2, 5, 100] {
                assert_equal(&fused(head_loss_in_chunks, guide, rows), &exact);
                assert_equal(&fused(head_loss_on_host, guide, rows), &exact);
            }
        }
    }

    #[test]
    fn in_bf16_they_are_nearly_the_same() {
        let (hidden, decoder) = student();
        let decoder = Decoder { products: Products::Bf16, ..decoder };
        let (ce, _, gradients) = plain(None);
        for how in [head_loss_in_chunks, head_loss_on_host] {
            let loss = how(hidden.clone(), decoder.clone(), &TARGETS, Guide::Nobody, &OBJECTIVE, 2);
            let off = (loss.ce / ce - 1.0).abs();
            assert!(off > 1e-6 && off < 0.01, "{off}");
            let backward = loss.surrogate.backward();
            let found = vec(hidden.grad(&backward).expect("tracked"));
            assert!(found.iter().zip(&gradients[0]).all(|(a, b)| (a - b).abs() < 0.01), "{found:?}");
        }
    }

    #[test]
    fn host_and_device_agree_on_soft_targets() {
        let soft = SoftTargets {
            k: 2,
            tokens: vec![3, 0, 1, 2, 18, 4, 5, 6, 7, 8],
            logits: vec(wave([10], 1.3)),
            tail: vec![0.1, 0.5, 0.0, 0.9, 0.25],
        };
        for rows in [2, 100] {
            let guide = Guide::Soft(&soft);
            assert_equal(&fused(head_loss_on_host, guide, rows), &fused(head_loss_in_chunks, guide, rows));
        }
    }

    /// Losses, and gradients of hidden states, weight and bias.
    fn assert_equal(found: &(f64, f64, [Vec<f32>; 3]), exact: &(f64, f64, [Vec<f32>; 3])) {
        assert!(
            (found.0 - exact.0).abs() < 1e-6 && (found.1 - exact.1).abs() < 1e-5,
            "{} {}",
            found.1,
            exact.1
        );
        found.2.iter().zip(&exact.2).for_each(|(found, exact)| assert_close(exact, found));
    }
}
