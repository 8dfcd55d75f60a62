//! Entropy and surprisal of a softmax over a vocabulary, from hidden states.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::matrix::Matrix;
use crate::mixed::Products;
use crate::panels::NO_TOKEN;
use crate::peaks::Peaks;
use crate::product::{Left, ROWS, Start};
use crate::softmax::{Online, Sums};
use crate::weights::Weights;

/// How unsure a prediction is. Both in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// −Σ q ln q, between 0 and ln `vocab_size`; not a number where the logits are none.
    pub entropy: f32,
    /// −ln q(target), not negative; not a number where the logits are none.
    pub surprisal: f32,
}

/// Further measures of the same prediction, for who asks for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Details {
    /// Min-entropy −ln max q in nats, between 0 and `entropy`.
    pub min_entropy: f32,
    /// Rényi entropy of order 2, −ln Σ q², in nats, between `min_entropy` and `entropy`.
    pub renyi2: f32,
    /// Difference of the two highest probabilities, between 0 and 1; small where the prediction is unsure.
    pub margin: f32,
}

/// Entropy and surprisal for each of n positions; [`Head`] does the same many times for one decoder.
///
/// `hidden` is `[n, hidden_size]`, `weight` `[vocab_size, hidden_size]`, `bias` `[vocab_size]`, all row-major, and
/// `targets` `[n]` the ids whose surprisal is wanted.
pub fn head_entropy(hidden: &[f32], weight: &[f32], bias: &[f32], targets: &[u32]) -> Vec<Measures> {
    Head::new(weight, bias, Products::AsTensors).measure(hidden, targets)
}

/// A decoder laid out for the vector unit of this machine.
///
/// A position's result does not depend on the other positions, on their number or on the number of threads.
#[derive(Clone, Debug)]
pub struct Head {
    weights: Weights,
    /// `[vocab_size]`, filled up to whole panels.
    bias: Vec<f32>,
}

impl Head {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub fn new(weight: &[f32], bias: &[f32], products: Products) -> Self {
        let hidden_size = weight.len() / bias.len();
        assert_eq!(weight.len(), bias.len() * hidden_size, "one row of weights a token");
        let weights = Weights::from_columns(hidden_size, weight, products);
        let bias = weights.padded(bias, NO_TOKEN);
        Self { weights, bias }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.weights.outputs()
    }

    /// Entropy and surprisal of each row of `hidden` `[n, hidden_size]`, whose target is `targets[n]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree or a target is not below `vocab_size`.
    pub fn measure(&self, hidden: &[f32], targets: &[u32]) -> Vec<Measures> {
        self.reduce::<Sums>(hidden, targets)
    }

    /// [`Head::measure`] with further measures, which cost a second pass over each tile of logits.
    pub fn measure_details(&self, hidden: &[f32], targets: &[u32]) -> Vec<(Measures, Details)> {
        self.reduce::<Peaks>(hidden, targets)
    }

    fn reduce<O: Online>(&self, hidden: &[f32], targets: &[u32]) -> Vec<O::Output> {
        let hidden_size = self.weights.inputs();
        assert_eq!(hidden.len(), targets.len() * hidden_size, "one row of hidden states a target");
        assert!(targets.iter().all(|&target| (target as usize) < self.vocab_size()), "targets are tokens");
        let arch = Arch::new();
        let tiles = hidden.par_chunks(TILE * hidden_size).zip(targets.par_chunks(TILE));
        let reduced = tiles.map(|(hidden, targets)| {
            arch.dispatch(Tile::<O> { head: self, hidden, targets, online: PhantomData })
        });
        reduced.flatten_iter().collect()
    }
}

/// Positions that one task computes: a block of the decoder is read once for all of them.
const TILE: usize = 16 * ROWS;

/// Panels of a block: the logits of a tile and a block are 96 KiB with AVX2, 192 KiB with AVX-512, and stay in
/// the second-level cache.
const BLOCK: usize = 16;

struct Tile<'a, O> {
    head: &'a Head,
    hidden: &'a [f32],
    targets: &'a [u32],
    online: PhantomData<O>,
}

impl<O: Online> WithSimd for Tile<'_, O> {
    type Output = Vec<O::Output>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<O::Output> {
        let Head { weights, bias } = self.head;
        let width = BLOCK * weights.panel_width();
        let hidden = Matrix::from_rows(self.hidden, weights.inputs());
        let mut logits = Matrix::default();
        logits.reshape(self.targets.len(), width);
        let mut sums = vec![O::EMPTY; self.targets.len()];
        for (index, (block, bias)) in weights.blocks(BLOCK).zip(bias.chunks(width)).enumerate() {
            block.multiply(simd, Left::Rows(hidden.all()), Start::Bias(bias), &mut logits.view_mut(0, 0));
            for (row, (sums, &target)) in sums.iter_mut().zip(self.targets).enumerate() {
                sums.add(simd, &logits.row(row)[..bias.len()], (target as usize).wrapping_sub(index * width));
            }
        }
        sums.iter().map(|sums| sums.output(weights.outputs())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head_details_reference;
    use burn::tensor::{Device, Int, Tensor, TensorData, bf16};
    use entromask_random::{keyed, normals};
    use proptest::prelude::*;

    struct Case {
        n: usize,
        d: usize,
        vocab: usize,
        hidden: Vec<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
        targets: Vec<u32>,
    }

    /// `scale` is about the standard deviation of the logits.
    fn case(n: usize, d: usize, vocab: usize, scale: f64) -> Case {
        let draw = |n, std, purpose| normals(n, std, &mut keyed(1, purpose, 0, 0));
        Case {
            n,
            d,
            vocab,
            hidden: draw(n * d, scale / (d as f64).sqrt(), "hidden"),
            weight: draw(vocab * d, 1.0, "weight"),
            bias: draw(vocab, scale, "bias"),
            targets: (0..n).map(|i| (i * 7919 % vocab) as u32).collect(),
        }
    }

    impl Case {
        fn fused(&self) -> Vec<Measures> {
            head_entropy(&self.hidden, &self.weight, &self.bias, &self.targets)
        }

        fn fused_details(&self) -> Vec<(Measures, Details)> {
            Head::new(&self.weight, &self.bias, Products::AsTensors)
                .measure_details(&self.hidden, &self.targets)
        }

        fn in_f64(&self) -> Vec<(Measures, Details)> {
            let row = |i: usize| &self.hidden[i * self.d..(i + 1) * self.d];
            (0..self.n).map(|i| self.measures_in_f64(row(i), self.targets[i] as usize)).collect()
        }

        fn measures_in_f64(&self, hidden: &[f32], target: usize) -> (Measures, Details) {
            let logit = |(weight, bias): (&[f32], &f32)| {
                let products = hidden.iter().zip(weight).map(|(&h, &w)| f64::from(h) * f64::from(w));
                products.sum::<f64>() + f64::from(*bias)
            };
            let mut logits: Vec<f64> = self.weight.chunks_exact(self.d).zip(&self.bias).map(logit).collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max;
            let entropy: f64 = logits.iter().map(|z| (log_sum - z) * (z - log_sum).exp()).sum();
            let squares: f64 = logits.iter().map(|z| (2.0 * (z - log_sum)).exp()).sum();
            let surprisal = (log_sum - logits[target]) as f32;
            logits.sort_by(|a, b| b.total_cmp(a));
            let margin = (logits[0] - log_sum).exp() - (logits[1] - log_sum).exp();
            let measures = Measures { entropy: entropy as f32, surprisal };
            let min_entropy = (log_sum - max) as f32;
            (measures, Details { min_entropy, renyi2: -squares.ln() as f32, margin: margin as f32 })
        }

        fn in_burn(&self) -> Vec<(Measures, Details)> {
            let device = Device::flex();
            let tensor = |values: &[f32], rows| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &device)
            };
            let bias = tensor(&self.bias, 1).reshape([self.vocab]);
            let targets =
                TensorData::new(self.targets.iter().map(|&t| t as i32).collect::<Vec<_>>(), [self.n]);
            let targets = Tensor::<1, Int>::from_data(targets, &device);
            let (hidden, weight) = (tensor(&self.hidden, self.n), tensor(&self.weight, self.vocab));
            let (entropy, surprisal, details) = head_details_reference(hidden, weight, bias, targets);
            let read = |tensor: Tensor<1>| tensor.try_into_vec_as::<f32>().expect("f32");
            let [entropy, surprisal] = [entropy, surprisal].map(read);
            let [min_entropy, renyi2, margin] =
                [details.min_entropy, details.renyi2, details.margin].map(read);
            let at = |i: usize| {
                let measures = Measures { entropy: entropy[i], surprisal: surprisal[i] };
                (measures, Details { min_entropy: min_entropy[i], renyi2: renyi2[i], margin: margin[i] })
            };
            (0..self.n).map(at).collect()
        }
    }

    fn assert_details_close(found: &[(Measures, Details)], expected: &[(Measures, Details)], tolerance: f32) {
        assert_close(&only_measures(found), &only_measures(expected), tolerance);
        for (index, ((_, found), (_, expected))) in found.iter().zip(expected).enumerate() {
            let off = [
                found.min_entropy - expected.min_entropy,
                found.renyi2 - expected.renyi2,
                found.margin - expected.margin,
            ];
            assert!(off.iter().all(|off| off.abs() < tolerance), "{index}: {found:?} is not {expected:?}");
        }
    }

    fn only_measures(all: &[(Measures, Details)]) -> Vec<Measures> {
        all.iter().map(|(measures, _)| *measures).collect()
    }

    fn assert_close(found: &[Measures], expected: &[Measures], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let entropy = (found.entropy - expected.entropy).abs();
            let surprisal = (found.surprisal - expected.surprisal).abs();
            // The surprisal is a difference of logits, so its error grows with their size.
            let allowed = tolerance * expected.surprisal.max(1.0);
            assert!(entropy < tolerance && surprisal < allowed, "{index}: {found:?} is not {expected:?}");
        }
    }

    #[test]
    fn equals_f64_and_the_reference() {
        for (n, d, vocab, scale) in
            [(1, 1, 2, 1.0), (100, 24, 777, 1.0), (7, 128, 3001, 3.0), (97, 33, 256, 0.1)]
        {
            let case = case(n, d, vocab, scale);
            assert_details_close(&case.fused_details(), &case.in_f64(), 1e-4);
            assert_details_close(&case.fused_details(), &case.in_burn(), 1e-4);
            assert_eq!(case.fused(), only_measures(&case.fused_details()), "details change no bit");
        }
    }

    #[test]
    fn in_bf16_it_equals_f64_of_rounded_factors() {
        let mut case = case(200, 40, 1_100, 3.0);
        let head = Head::new(&case.weight, &case.bias, Products::Bf16);
        let found = head.measure_details(&case.hidden, &case.targets);
        for value in case.hidden.iter_mut().chain(&mut case.weight) {
            *value = bf16::from_f32(*value).to_f32();
        }
        assert_details_close(&found, &case.in_f64(), 1e-4);
    }

    #[test]
    fn a_uniform_prediction_has_entropy_ln_v() {
        let (d, vocab) = (4, 30_522);
        let measured = head_entropy(&[0.5; 4], &vec![0.0; d * vocab], &vec![2.0; vocab], &[11]);
        let expected = (vocab as f32).ln();
        assert_close(&measured, &[Measures { entropy: expected, surprisal: expected }], 1e-5);
        assert!(measured[0].entropy <= expected);
    }

    #[test]
    fn a_fair_coin_has_entropy_ln_2() {
        // Logits 3, 3 and −10000: two outcomes of probability 1/2.
        let measured = head_entropy(&[1.0], &[3.0, 3.0, -1e4], &[0.0; 3], &[0]);
        assert_close(&measured, &[Measures { entropy: 2f32.ln(), surprisal: 2f32.ln() }], 1e-6);
    }

    #[test]
    fn huge_logits_are_finite() {
        let vocab = 1000;
        let mut bias = vec![-1e4; vocab];
        bias[700] = 1e4;
        let (hidden, weight, targets) = (vec![0.0; 2], vec![1.0; vocab], vec![700, 3]);
        let case = Case { n: 2, d: 1, vocab, hidden, weight, bias, targets };
        let details = Details { min_entropy: 0.0, renyi2: 0.0, margin: 1.0 };
        for measured in [case.fused_details(), case.in_burn()] {
            assert_eq!(measured[0], (Measures { entropy: 0.0, surprisal: 0.0 }, details));
            assert_eq!(measured[1], (Measures { entropy: 0.0, surprisal: 2e4 }, details));
        }
        assert_eq!(case.fused(), only_measures(&case.in_burn()));
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for state in [f32::NAN, f32::INFINITY] {
            let (hidden, weight) = ([0.5, state], vec![1.0; 2 * 300]);
            let head = Head::new(&weight, &[0.0; 300], Products::AsTensors);
            let (measures, details) = head.measure_details(&hidden, &[3])[0];
            let all = [measures.surprisal, details.min_entropy, details.renyi2, details.margin];
            assert!(measures.entropy.is_nan() && all.iter().all(|value| value.is_nan()), "{measures:?}");
            assert!(head.measure(&hidden, &[3])[0].surprisal.is_nan());
        }
    }

    #[test]
    fn two_equal_tops_have_no_margin() {
        let vocab = 300;
        for (a, b) in [(0, 1), (7, 15), (3, 299), (130, 131)] {
            let mut bias = vec![0.0; vocab];
            (bias[a], bias[b]) = (9.0, 9.0);
            let case = Case {
                n: 1,
                d: 1,
                vocab,
                hidden: vec![0.0],
                weight: vec![1.0; vocab],
                bias,
                targets: vec![0],
            };
            assert_eq!(case.fused_details()[0].1.margin.to_bits(), 0);
            assert_details_close(&case.fused_details(), &case.in_f64(), 1e-5);
        }
    }

    #[test]
    fn a_vocabulary_of_one_token_is_certain() {
        let case = Case {
            n: 1,
            d: 1,
            vocab: 1,
            hidden: vec![1.0],
            weight: vec![1.0],
            bias: vec![0.0],
            targets: vec![0],
        };
        let certain = Details { min_entropy: 0.0, renyi2: 0.0, margin: 1.0 };
        assert_eq!([case.fused_details()[0].1, case.in_burn()[0].1], [certain; 2]);
    }

    #[test]
    fn threads_and_neighbours_change_no_bit() {
        for products in [Products::AsTensors, Products::Bf16] {
            neighbours_change_no_bit(products);
        }
    }

    fn neighbours_change_no_bit(products: Products) {
        let case = case(250, 16, 999, 2.0);
        let head = Head::new(&case.weight, &case.bias, products);
        let all = head.measure_details(&case.hidden, &case.targets);
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(one_thread.install(|| head.measure_details(&case.hidden, &case.targets)), all);
        for i in [0, 5, 96, 249] {
            let (hidden, targets) = (&case.hidden[i * 16..(i + 1) * 16], &case.targets[i..=i]);
            assert_eq!(head.measure_details(hidden, targets), all[i..=i]);
        }
    }

    #[test]
    fn no_positions_give_no_measures() {
        assert_eq!(head_entropy(&[], &[1.0, 2.0], &[0.0], &[]), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entropy_is_between_0_and_ln_v(logits in prop::collection::vec(prop_oneof![-200f32..200.0, -1e4f32..1e4], 1..600), shift in -100f32..100.0) {
            let (vocab, weight) = (logits.len(), vec![1.0; logits.len()]);
            let case = Case { n: 1, d: 1, vocab, hidden: vec![shift], weight, bias: logits, targets: vec![0] };
            let limit = (vocab as f32).ln();
            for (measured, details) in [case.fused_details()[0], case.in_burn()[0]] {
                prop_assert!((0.0..=limit).contains(&measured.entropy), "{measured:?}");
                prop_assert!(measured.surprisal >= 0.0 && measured.surprisal.is_finite());
                // The plain path rounds each on its own.
                let order = [0.0, details.min_entropy, details.renyi2, measured.entropy, limit];
                prop_assert!(order.windows(2).all(|pair| pair[0] <= pair[1] + 1e-5), "{order:?}");
                prop_assert!((0.0..=limit).contains(&details.min_entropy) && (0.0..=limit).contains(&details.renyi2));
                prop_assert!((0.0..=1.0).contains(&details.margin));
            }
        }
    }
}
