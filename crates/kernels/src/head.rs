//! Entropy and surprisal of a softmax over a vocabulary, from hidden states.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::logits::{self, Panels, ROWS};
use crate::softmax::Sums;

/// How unsure a prediction is. Both in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// −Σ q ln q, between 0 and ln `vocab_size`.
    pub entropy: f32,
    /// −ln q(target), not negative.
    pub surprisal: f32,
}

/// Entropy and surprisal for each of n positions; [`Head`] does the same many times for one decoder.
///
/// `hidden` is `[n, hidden_size]`, `weight` `[vocab_size, hidden_size]`, `bias` `[vocab_size]`, all row-major, and
/// `targets` `[n]` the ids whose surprisal is wanted.
pub fn head_entropy(hidden: &[f32], weight: &[f32], bias: &[f32], targets: &[u32]) -> Vec<Measures> {
    Head::new(weight, bias).measure(hidden, targets)
}

/// A decoder laid out for the vector unit of this machine.
///
/// A position's result does not depend on the other positions, on their number or on the number of threads.
#[derive(Clone, Debug)]
pub struct Head {
    panels: Panels,
}

impl Head {
    /// `weight` is `[vocab_size, hidden_size]`, `bias` `[vocab_size]`.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        Self { panels: Panels::new(weight, bias) }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.panels.vocab_size
    }

    /// Entropy and surprisal of each row of `hidden` `[n, hidden_size]`, whose target is `targets[n]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree or a target is not below `vocab_size`.
    pub fn measure(&self, hidden: &[f32], targets: &[u32]) -> Vec<Measures> {
        assert_eq!(
            hidden.len(),
            targets.len() * self.panels.hidden_size,
            "one row of hidden states a target"
        );
        assert!(targets.iter().all(|&target| (target as usize) < self.vocab_size()), "targets are tokens");
        let arch = Arch::new();
        let tiles = hidden.par_chunks(TILE * self.panels.hidden_size).zip(targets.par_chunks(TILE));
        let measured =
            tiles.map(|(hidden, targets)| arch.dispatch(Tile { panels: &self.panels, hidden, targets }));
        measured.flatten_iter().collect()
    }
}

/// Positions that one task computes: a block of the decoder is read once for all of them.
const TILE: usize = 16 * ROWS;

struct Tile<'a> {
    panels: &'a Panels,
    hidden: &'a [f32],
    targets: &'a [u32],
}

impl WithSimd for Tile<'_> {
    type Output = Vec<Measures>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Measures> {
        let hidden = logits::pack_hidden(self.hidden, self.panels.hidden_size);
        let mut logits = vec![0.0; hidden.len() / self.panels.hidden_size * ROWS * self.panels.block];
        let mut sums = vec![Sums::EMPTY; self.targets.len()];
        for (index, block) in self.panels.blocks().enumerate() {
            logits::multiply(simd, &hidden, &block, &mut logits);
            let start = index * self.panels.block;
            let rows = logits.chunks_exact(self.panels.block);
            for ((sums, row), &target) in sums.iter_mut().zip(rows).zip(self.targets) {
                sums.add(simd, &row[..block.columns()], (target as usize).wrapping_sub(start));
            }
        }
        sums.iter().map(|sums| sums.measures(self.panels.vocab_size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head_entropy_reference;
    use burn::tensor::{Device, Int, Tensor, TensorData};
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

        fn in_f64(&self) -> Vec<Measures> {
            let row = |i: usize| &self.hidden[i * self.d..(i + 1) * self.d];
            (0..self.n).map(|i| self.measures_in_f64(row(i), self.targets[i] as usize)).collect()
        }

        fn measures_in_f64(&self, hidden: &[f32], target: usize) -> Measures {
            let logit = |(weight, bias): (&[f32], &f32)| {
                let products = hidden.iter().zip(weight).map(|(&h, &w)| f64::from(h) * f64::from(w));
                products.sum::<f64>() + f64::from(*bias)
            };
            let logits: Vec<f64> = self.weight.chunks_exact(self.d).zip(&self.bias).map(logit).collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max;
            let entropy: f64 = logits.iter().map(|z| (log_sum - z) * (z - log_sum).exp()).sum();
            Measures { entropy: entropy as f32, surprisal: (log_sum - logits[target]) as f32 }
        }

        fn in_burn(&self) -> Vec<Measures> {
            let device = Device::flex();
            let tensor = |values: &[f32], rows| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &device)
            };
            let bias = tensor(&self.bias, 1).reshape([self.vocab]);
            let targets =
                TensorData::new(self.targets.iter().map(|&t| t as i32).collect::<Vec<_>>(), [self.n]);
            let targets = Tensor::<1, Int>::from_data(targets, &device);
            let hidden = tensor(&self.hidden, self.n);
            let (entropy, surprisal) =
                head_entropy_reference(hidden, tensor(&self.weight, self.vocab), bias, targets);
            let read = |tensor: Tensor<1>| tensor.try_into_vec_as::<f32>().expect("f32");
            let pairs = read(entropy).into_iter().zip(read(surprisal));
            pairs.map(|(entropy, surprisal)| Measures { entropy, surprisal }).collect()
        }
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
            assert_close(&case.fused(), &case.in_f64(), 1e-4);
            assert_close(&case.fused(), &case.in_burn(), 1e-4);
        }
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
        let measured = head_entropy(&[0.0, 0.0], &vec![1.0; vocab], &bias, &[700, 3]);
        assert_eq!(measured[0], Measures { entropy: 0.0, surprisal: 0.0 });
        assert_eq!(measured[1], Measures { entropy: 0.0, surprisal: 2e4 });
    }

    #[test]
    fn threads_and_neighbours_change_no_bit() {
        let case = case(250, 16, 999, 2.0);
        let all = case.fused();
        let head = Head::new(&case.weight, &case.bias);
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(one_thread.install(|| head.measure(&case.hidden, &case.targets)), all);
        for i in [0, 5, 96, 249] {
            assert_eq!(head.measure(&case.hidden[i * 16..(i + 1) * 16], &case.targets[i..=i]), all[i..=i]);
        }
    }

    #[test]
    fn no_positions_give_no_measures() {
        assert_eq!(head_entropy(&[], &[1.0, 2.0], &[0.0], &[]), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entropy_is_between_0_and_ln_v(logits in prop::collection::vec(-200f32..200.0, 1..600), shift in -100f32..100.0) {
            let weight = vec![1.0; logits.len()];
            let measured = head_entropy(&[shift], &weight, &logits, &[0])[0];
            prop_assert!(measured.entropy >= 0.0 && measured.entropy <= (logits.len() as f32).ln());
            prop_assert!(measured.surprisal >= 0.0 && measured.surprisal.is_finite());
        }
    }
}
