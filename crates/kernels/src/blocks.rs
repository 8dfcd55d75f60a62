//! A decoder on a GPU, in blocks of tokens.

use burn::tensor::{Int, Tensor};

use crate::cube::{SUMS, softmax_sums};
use crate::head::{Details, Measures};
use crate::peaks::Peaks;
use crate::softmax::Online;
use crate::{Products, is_cpu};

/// Tokens of a block.
pub(crate) const BLOCK: usize = 8_192;

/// Odd numbers of tokens could not be read several at a time.
const MULTIPLE: usize = 64;

/// Below any logit, and within the range of bf16.
const NO_LOGIT: f32 = -1e30;

#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    vocab_size: usize,
}

#[derive(Clone, Debug)]
struct Block {
    /// `[hidden_size, tokens]`, or as many tokens more as make [`MULTIPLE`]s of them.
    weight: Tensor<2>,
    /// So low where there is no token that its probability is 0.
    bias: Tensor<1>,
    /// First token.
    start: usize,
    tokens: usize,
}

impl Blocks {
    /// `None` on the CPU, which has no kernel for them.
    pub(crate) fn new(weight: &Tensor<2>, bias: &Tensor<1>) -> Option<Self> {
        let [vocab_size, _] = weight.dims();
        let block = |start: usize| {
            let tokens = BLOCK.min(vocab_size - start);
            let rows = weight.clone().narrow(0, start, tokens);
            let (rows, bias) = filled(rows, bias.clone().narrow(0, start, tokens));
            Block { weight: rows.transpose(), bias, start, tokens }
        };
        let blocks = || (0..vocab_size).step_by(BLOCK).map(block).collect();
        (!is_cpu(&weight.device())).then(|| Self { blocks: blocks(), vocab_size })
    }

    /// What the blocks reduce to for each row of `hidden` `[n, hidden_size]` and its target, `[n, blocks · SUMS]`.
    pub(crate) fn sums(&self, hidden: &Tensor<2>, targets: &Tensor<1, Int>) -> Tensor<2> {
        let sums = self.blocks.iter().map(|block| {
            let logits = Products::AsTensors.linear(hidden.clone(), block.weight.clone(), None);
            softmax_sums(logits, block.bias.clone(), targets.clone(), block.start)
        });
        Tensor::cat(sums.collect(), 1)
    }

    /// The measures of positions, from what [`Blocks::sums`] has computed.
    pub(crate) fn measures(&self, sums: &[f32], targets: &[u32]) -> Vec<(Measures, Details)> {
        let rows = sums.chunks_exact(SUMS * self.blocks.len()).zip(targets);
        rows.map(|(row, &target)| self.output(row, target as usize)).collect()
    }

    fn output(&self, row: &[f32], target: usize) -> (Measures, Details) {
        let mut peaks = Peaks::EMPTY;
        for (block, sums) in self.blocks.iter().zip(row.as_chunks::<SUMS>().0) {
            let [max, sum, weighted, second, squares, logit] = *sums;
            let inside = (block.start..block.start + block.tokens).contains(&target);
            peaks.add_reduced([max, sum, weighted, second, squares], inside.then_some(logit));
        }
        peaks.output(self.vocab_size)
    }
}

/// `weight` `[tokens, hidden_size]` and `bias` `[tokens]` with tokens that never come.
fn filled(weight: Tensor<2>, bias: Tensor<1>) -> (Tensor<2>, Tensor<1>) {
    let ([tokens, width], device) = (weight.dims(), weight.device());
    let missing = tokens.next_multiple_of(MULTIPLE) - tokens;
    if missing == 0 {
        return (weight, bias);
    }
    let rows = Tensor::<2>::zeros([missing, width], &device).cast(weight.dtype());
    let low = Tensor::<1>::full([missing], NO_LOGIT, &device).cast(bias.dtype());
    (Tensor::cat(vec![weight, rows], 0), Tensor::cat(vec![bias, low], 0))
}
