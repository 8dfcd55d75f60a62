//! Passes on the CPU without tensors: here forward ones, in `train` those of training.
//!
//! The same models as the tensor code computes, laid out for `entromask_kernels`: rows of any lengths lie one after the
//! other without padding, buffers are used again, and what is not asked for is not computed. One thread computes a
//! batch; batches run side by side. A row's result does not depend on the rows beside it.

mod body;
mod convert;
mod embeddings;
mod encoder;
mod layer;
mod pooled;
mod projected;
mod rotation;
pub(crate) mod train;

use std::ops::Range;

use entromask_kernels::{Attention, LayerNorm, Matrix};

use crate::{EncoderConfig, MaskedLm, counting};
use body::Body;
pub use encoder::{CpuEncoder, Sentence};
use layer::Dense;
pub use projected::Projected;

/// A masked language model, up to its decoder, for forward passes on the CPU.
#[derive(Clone, Debug)]
pub struct CpuMaskedLm {
    body: Body,
    transform: Dense,
    transform_norm: LayerNorm,
}

/// A row of tokens, and where its states are wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Token ids, fewer than the model has positions.
    pub input_ids: &'a [u32],
    /// Segment of each of them; empty if all are in the first one.
    pub token_type_ids: &'a [u32],
    /// Places in `input_ids`.
    pub positions: &'a [u16],
}

/// Memory that a thread computes in.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    hidden: Matrix,
    seen: Matrix,
    at: Matrix,
    query: Matrix,
    key_value: Matrix,
    context: Matrix,
    attended: Matrix,
    inner: Matrix,
    gated: Matrix,
    attention: Attention,
}

impl CpuMaskedLm {
    /// Lays out `model`, whose tensors must be on the CPU, for matrix products in the type that it has, and leaves nothing of it
    /// in memory. Attention is f32.
    pub fn new(model: MaskedLm, config: &EncoderConfig) -> Self {
        convert::masked_lm(model, config)
    }

    /// The word embeddings, `[vocab_size, embedding_size]`, row-major.
    pub fn word_embeddings(&self) -> &[f32] {
        &self.body.embeddings.words
    }

    /// What the decoder sees at the wanted positions, row after row: `[positions, embedding_size]`, row-major.
    ///
    /// # Panics
    ///
    /// If a token is not in the vocabulary, or a row or position is too long.
    pub fn states(&self, rows: &[Wanted<'_>], buffers: &mut Buffers) -> Vec<f32> {
        self.states_from(None, rows, buffers)
    }

    /// What the first layer computes of the tokens of `rows` alone, on all threads, for [`CpuMaskedLm::states_from`]; none
    /// where rows have little in common, so that nothing would be saved.
    ///
    /// # Panics
    ///
    /// As [`CpuMaskedLm::states`].
    pub fn project(&self, rows: &[Wanted<'_>]) -> Option<Projected> {
        self.body.project(rows)
    }

    /// The same as [`CpuMaskedLm::states`] to the last bit, for some of the rows that `projected` was made of.
    ///
    /// # Panics
    ///
    /// As [`CpuMaskedLm::states`], and if `projected` was made of other rows.
    pub fn states_from(
        &self,
        projected: Option<&Projected>,
        rows: &[Wanted<'_>],
        buffers: &mut Buffers,
    ) -> Vec<f32> {
        self.body.forward(rows, projected, buffers);
        self.transform.forward(&buffers.hidden, &mut buffers.inner);
        self.transform_norm.apply(&mut buffers.inner);
        buffers.inner.to_vec()
    }
}

impl<'a> Wanted<'a> {
    /// Each row with its positions.
    fn of(rows: &[Sentence<'a>], positions: &'a [Vec<u16>]) -> Vec<Self> {
        let pairs = rows.iter().zip(positions);
        let wanted = |(row, positions): (&Sentence<'a>, &'a Vec<u16>)| Self {
            input_ids: row.input_ids,
            token_type_ids: row.token_type_ids,
            positions,
        };
        pairs.map(wanted).collect()
    }

    /// Row of the table of places for each token; see [`counting::places`].
    fn places(&self, padding: Option<u32>) -> impl Iterator<Item = usize> + Clone + use<'a> {
        counting::places(self.input_ids, padding)
    }

    /// Place and segment of each token that is not in the first segment.
    fn later_segments(&self) -> impl Iterator<Item = (usize, usize)> + 'a {
        let segments = self.token_type_ids.iter().map(|&segment| segment as usize).enumerate();
        segments.filter(|(_, segment)| *segment > 0)
    }
}

/// Where rows lie in a batch, and which of their positions are computed.
struct Places {
    rows: Vec<Range<usize>>,
    /// Of each row.
    positions: Vec<Vec<u16>>,
    /// Whether these are all positions, in order.
    everywhere: bool,
}

impl Places {
    fn of(rows: &[Wanted<'_>]) -> Self {
        let mut end = 0;
        let range = |row: &Wanted<'_>| {
            let start = end;
            end += row.input_ids.len();
            start..end
        };
        let ranges = rows.iter().map(range).collect();
        let positions = rows.iter().map(|row| row.positions.to_vec()).collect();
        Self { rows: ranges, positions, everywhere: false }
    }

    /// All positions of one row.
    fn all(length: usize) -> Self {
        let row =
            Self { rows: std::iter::once(0..length).collect(), positions: Vec::new(), everywhere: false };
        row.everywhere()
    }

    fn everywhere(&self) -> Self {
        let positions = self.rows.iter().map(|row| (0..row.len() as u16).collect());
        Self { rows: self.rows.clone(), positions: positions.collect(), everywhere: true }
    }

    /// Index in the batch of each position that is computed.
    fn flat(&self) -> Vec<usize> {
        let rows = self.rows.iter().zip(&self.positions);
        rows.flat_map(|(row, positions)| positions.iter().map(|&p| row.start + usize::from(p))).collect()
    }

    /// Each row, its positions, and the index of its first one among all that are computed.
    fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[u16], usize)> {
        let mut next = 0;
        self.rows.iter().zip(&self.positions).map(move |(row, positions)| {
            let first = next;
            next += positions.len();
            (row.clone(), positions.as_slice(), first)
        })
    }
}

impl Buffers {
    /// Keeps the hidden states that are wanted.
    fn pick(&mut self, places: &Places) {
        if places.everywhere {
            return;
        }
        self.at.gather(&self.hidden, places.flat().into_iter());
        std::mem::swap(&mut self.at, &mut self.hidden);
    }
}
