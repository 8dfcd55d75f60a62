//! Scoring the rows of one part.

use std::collections::BTreeMap;

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Batch, EncoderConfig, MaskedLm};
use entromask_kernels::{Head, Measures, head_entropy_reference};
use entromask_tables::{Entropies, Ragged, Tokens};
use rayon::prelude::*;

use crate::config::{Conditioning, Config};
use crate::folds::passes;

/// Tokens of a batch on the CPU: its activations stay in the caches, and there are batches for all cores.
const CPU_BATCH_TOKENS: usize = 1024;

/// Tokens of a batch on a GPU, which wants large ones.
const GPU_BATCH_TOKENS: usize = 32_768;

/// Positions whose hidden states are kept until their softmax is computed, 50 MB for a 768-wide model.
const CHUNK_POSITIONS: usize = 16_384;

/// Positions whose logits are in memory at once where the head is not fused.
const PLAIN_POSITIONS: usize = 2_048;

/// A model ready to score.
pub(crate) struct Scorer<'a> {
    config: &'a Config,
    shape: &'a EncoderConfig,
    model: &'a MaskedLm,
    /// The fused head, on the CPU.
    head: Option<Head>,
    device: &'a Device,
    mask_id: u32,
}

/// One row seen once by the model.
struct Pass {
    /// Row within the part.
    row: usize,
    /// Tokens of the row.
    length: usize,
    /// What to score, ascending.
    positions: Vec<u16>,
}

/// What scoring a part takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) tokens: u64,
    pub(crate) flops: f64,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(
        config: &'a Config,
        (model, shape): (&'a MaskedLm, &'a EncoderConfig),
        device: &'a Device,
        mask_id: u32,
    ) -> Self {
        let head = entromask_device::is_cpu(device).then(|| fused(model));
        Self { config, shape, model, head, device, mask_id }
    }

    /// Tokens and floating-point operations of all passes over a part.
    pub(crate) fn work(&self, part: &Tokens) -> Work {
        let head = self.shape.head_flops_per_position();
        let works = self.passes(part).into_iter().map(|pass| Work {
            tokens: pass.length as u64,
            flops: self.shape.forward_at_flops(pass.length, pass.positions.len())
                + head * pass.positions.len() as f64,
        });
        works.fold(Work::default(), |sum, work| Work {
            tokens: sum.tokens + work.tokens,
            flops: sum.flops + work.flops,
        })
    }

    /// Entropy and surprisal of a part; `progress` is told the tokens of finished passes, and may end the work.
    pub(crate) fn score(&self, part: &Tokens, progress: impl Fn(u64) -> Result<()>) -> Result<Entropies> {
        let passes = self.passes(part);
        let widths = widths(&passes);
        let mut scores = Scores::unscored(part);
        for chunk in chunks(&passes) {
            let batches = self.batches(chunk);
            let measures = match &self.head {
                Some(head) => self.measure_fused(head, part, &batches, &widths),
                None => self.measure_plain(part, &batches, &widths)?,
            };
            scores.fill(chunk, &measures);
            progress(chunk.iter().map(|pass| pass.length as u64).sum())?;
        }
        Ok(scores.entropies)
    }

    /// All passes, rows of equal length together: a batch then needs no padding.
    fn passes(&self, part: &Tokens) -> Vec<Pass> {
        let of_row = |row: usize| {
            let length = part.input_ids.len_of(row);
            let sets = passes(self.config, part.row[row], part.word.row(row));
            sets.into_iter().map(move |positions| Pass { row, length, positions })
        };
        let mut all: Vec<Pass> = (0..part.rows()).into_par_iter().flat_map_iter(of_row).collect();
        all.sort_by_key(|pass| pass.length);
        all
    }

    fn batches<'p>(&self, chunk: &'p [Pass]) -> Vec<&'p [Pass]> {
        let usual = if self.head.is_some() { CPU_BATCH_TOKENS } else { GPU_BATCH_TOKENS };
        let tokens = self.config.run.batch_tokens.unwrap_or(usual);
        let equal = chunk.chunk_by(|a, b| a.length == b.length);
        equal.flat_map(|passes| passes.chunks((tokens / passes[0].length).max(1))).collect()
    }

    /// Batches side by side on all cores, since most operations of the backend use one.
    fn measure_fused(
        &self,
        head: &Head,
        part: &Tokens,
        batches: &[&[Pass]],
        widths: &Widths,
    ) -> Vec<Measures> {
        let states = batches.par_iter().map(|batch| read(self.states(part, batch, widths)));
        let states: Vec<f32> = states.collect::<Vec<_>>().concat();
        let targets: Vec<u32> = batches.iter().flat_map(|batch| targets(part, batch)).collect();
        head.measure(&states, &targets)
    }

    fn measure_plain(&self, part: &Tokens, batches: &[&[Pass]], widths: &Widths) -> Result<Vec<Measures>> {
        let (weight, bias) = self.model.decoder();
        let mut measures = Vec::new();
        for batch in batches {
            let states = self.states(part, batch, widths);
            let targets: Vec<u32> = targets(part, batch).collect();
            for (index, targets) in targets.chunks(PLAIN_POSITIONS).enumerate() {
                let states = states.clone().narrow(0, index * PLAIN_POSITIONS, targets.len());
                let targets = self.ints(targets.iter().map(|&id| id as i32), [targets.len()]);
                let (entropy, surprisal) =
                    head_entropy_reference(states, weight.clone(), bias.clone(), targets);
                let pairs =
                    entropy.try_into_vec_as::<f32>()?.into_iter().zip(surprisal.try_into_vec_as::<f32>()?);
                measures.extend(pairs.map(|(entropy, surprisal)| Measures { entropy, surprisal }));
            }
        }
        Ok(measures)
    }

    /// What the decoder sees at the positions of a batch, one after the other: `[positions, hidden_size]`.
    fn states(&self, part: &Tokens, batch: &[Pass], widths: &Widths) -> Tensor<2> {
        let rows: Vec<Vec<u32>> = batch.iter().map(|pass| self.input(part, pass)).collect();
        let input = Batch::from_rows(&rows, 0, self.device);
        let width = widths[&batch[0].length];
        let padded = batch.iter().flat_map(|pass| padded(&pass.positions, width));
        let positions = self.ints(padded, [batch.len(), width]);
        let hidden = self.model.encoder.forward_at(&input, &positions);
        let wanted: Vec<i32> = wanted(batch, width).collect();
        let count = wanted.len();
        self.model.transform(self.model.hidden_at(hidden, self.ints(wanted.into_iter(), [count])))
    }

    /// The row as the model sees it.
    fn input(&self, part: &Tokens, pass: &Pass) -> Vec<u32> {
        let mut ids = part.input_ids.row(pass.row).to_vec();
        if self.config.conditioning != Conditioning::Unmasked {
            pass.positions.iter().for_each(|&position| ids[position as usize] = self.mask_id);
        }
        ids
    }

    fn ints<const D: usize>(&self, values: impl Iterator<Item = i32>, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), self.device)
    }
}

fn fused(model: &MaskedLm) -> Head {
    let (weight, bias) = model.decoder();
    Head::new(&read(weight), &read(bias))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("a float tensor of the CPU reads as f32")
}

/// Positions per pass that are computed for rows of each length: the most that any such row of the part needs, so that
/// the shapes, and with them the last bits of the result, do not depend on which rows share a batch.
type Widths = BTreeMap<usize, usize>;

fn widths(passes: &[Pass]) -> Widths {
    let mut widths = Widths::new();
    for pass in passes {
        let width = widths.entry(pass.length).or_default();
        *width = pass.positions.len().max(*width);
    }
    widths
}

/// Consecutive passes with about `CHUNK_POSITIONS` positions in all.
fn chunks(passes: &[Pass]) -> impl Iterator<Item = &[Pass]> {
    let mut positions = 0;
    passes.chunk_by(move |pass, _| {
        positions += pass.positions.len();
        let full = positions >= CHUNK_POSITIONS;
        if full {
            positions = 0;
        }
        !full
    })
}

fn targets<'p>(part: &'p Tokens, batch: &'p [Pass]) -> impl Iterator<Item = u32> + 'p {
    batch.iter().flat_map(|pass| {
        pass.positions.iter().map(|&position| part.input_ids.row(pass.row)[position as usize])
    })
}

/// The positions, filled up with position 0.
fn padded(positions: &[u16], width: usize) -> impl Iterator<Item = i32> {
    (0..width).map(|index| positions.get(index).map_or(0, |&position| i32::from(position)))
}

/// Where the positions lie among the padded ones.
fn wanted(batch: &[Pass], width: usize) -> impl Iterator<Item = i32> {
    let of_pass = move |(index, pass): (usize, &Pass)| {
        (0..pass.positions.len()).map(move |n| (index * width + n) as i32)
    };
    batch.iter().enumerate().flat_map(of_pass)
}

/// A part's scores while they are filled in.
struct Scores {
    entropies: Entropies,
}

impl Scores {
    fn unscored(part: &Tokens) -> Self {
        let column = || Ragged {
            offsets: part.input_ids.offsets.clone(),
            values: vec![None; part.input_ids.values.len()],
        };
        Self { entropies: Entropies { row: part.row.clone(), entropy: column(), surprisal: column() } }
    }

    fn fill(&mut self, passes: &[Pass], measures: &[Measures]) {
        let Entropies { entropy, surprisal, .. } = &mut self.entropies;
        let places = passes
            .iter()
            .flat_map(|pass| pass.positions.iter().map(|&position| (pass.row, position as usize)));
        let starts = entropy.offsets.clone();
        for ((row, position), measures) in places.zip(measures) {
            let place = starts[row] as usize + position;
            entropy.values[place] = Some(measures.entropy);
            surprisal.values[place] = Some(measures.surprisal);
        }
    }
}
