//! Embeddings and their backward pass.

use burn::tensor::{Int, Tensor, TensorData};
use entromask_kernels::{Matrix, NormGradient, NormTape, TrainedNorm};

use super::Wanted;

/// Sums of the embeddings of word and place, normalised or not.
#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    /// `[vocab_size, width]`, of which a batch needs few.
    pub(super) words: Tensor<2>,
    /// Position and first segment, `[positions, width]`; nothing where positions are rotary.
    pub(super) places: Vec<f32>,
    /// What is not counted, and has the first of `places`.
    pub(super) padding: Option<u32>,
    /// What each segment but the first one adds, `[segments - 1, width]`; nothing where all tokens are in one.
    pub(super) segments: Vec<f32>,
    pub(super) width: usize,
    pub(super) norm: Option<TrainedNorm>,
    /// Whether it needs a gradient; all of it does, or nothing.
    pub(super) trained: bool,
}

/// Tokens of a lane, and what their embeddings' backward pass needs.
#[derive(Clone, Debug, Default)]
pub(super) struct EmbeddingsTape {
    pub(super) ids: Vec<u32>,
    places: Vec<usize>,
    /// Token and segment, where it is not the first one.
    segments: Vec<(usize, usize)>,
    norm: NormTape,
    /// The gradient of each token's sum, `[tokens, width]`.
    pub(super) d_sums: Matrix,
}

#[derive(Clone, Debug)]
pub(super) struct EmbeddingsGradient {
    /// `[positions, width]`.
    pub(super) places: Vec<f32>,
    /// Of all segments but the first one, `[segments - 1, width]`.
    pub(super) segments: Vec<f32>,
    pub(super) norm: Option<NormGradient>,
}

impl Embeddings {
    pub(super) fn zero_gradient(&self) -> EmbeddingsGradient {
        let norm = self.norm.as_ref().map(TrainedNorm::zero_gradient);
        let [places, segments] = [&self.places, &self.segments].map(|table| vec![0.0; table.len()]);
        EmbeddingsGradient { places, segments, norm }
    }

    /// `output` becomes `[tokens, width]`.
    pub(super) fn forward(&self, rows: &[Wanted<'_>], tape: &mut EmbeddingsTape, output: &mut Matrix) {
        tape.read(rows, self);
        let sums = &mut tape.d_sums;
        let to = if self.norm.is_some() { &mut *sums } else { &mut *output };
        to.read_rows(&self.words_of(&tape.ids), self.width);
        for (token, &place) in tape.places.iter().enumerate().filter(|_| !self.places.is_empty()) {
            add(to.row_mut(token), &self.places[place * self.width..][..self.width]);
        }
        for &(token, segment) in &tape.segments {
            add(to.row_mut(token), &self.segments[(segment - 1) * self.width..][..self.width]);
        }
        if let Some(norm) = &self.norm {
            norm.forward(sums, &mut tape.norm, output);
        }
    }

    /// `tape.d_sums` becomes the gradient of the sums.
    pub(super) fn backward(
        &self,
        d_output: &Matrix,
        tape: &mut EmbeddingsTape,
        gradient: &mut EmbeddingsGradient,
    ) {
        match (&self.norm, &mut gradient.norm) {
            (Some(norm), Some(gradient)) => norm.backward(&tape.norm, d_output, &mut tape.d_sums, gradient),
            _ => tape.d_sums.gather(d_output, 0..d_output.rows()),
        }
        for (token, &place) in tape.places.iter().enumerate().filter(|_| !self.places.is_empty()) {
            add(&mut gradient.places[place * self.width..][..self.width], tape.d_sums.row(token));
        }
        for &(token, segment) in &tape.segments {
            add(&mut gradient.segments[(segment - 1) * self.width..][..self.width], tape.d_sums.row(token));
        }
    }

    /// The embeddings of `ids`, one after the other.
    fn words_of(&self, ids: &[u32]) -> Vec<f32> {
        let index: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let index = TensorData::new(index, [ids.len()]);
        let chosen = self.words.clone().select(0, Tensor::<1, Int>::from_data(index, &self.words.device()));
        chosen.try_into_vec_as().expect("a float tensor of the CPU reads as f32")
    }
}

impl EmbeddingsTape {
    fn read(&mut self, rows: &[Wanted<'_>], by: &Embeddings) {
        self.ids.clear();
        self.places.clear();
        self.segments.clear();
        for row in rows {
            let first = self.ids.len();
            if !by.segments.is_empty() {
                self.segments.extend(row.later_segments().map(|(token, segment)| (first + token, segment)));
            }
            self.ids.extend(row.input_ids);
            self.places.extend(row.places(by.padding));
        }
    }
}

impl EmbeddingsGradient {
    pub(super) fn add_part(&mut self, part: &Self) {
        add(&mut self.places, &part.places);
        add(&mut self.segments, &part.segments);
        if let (Some(norm), Some(part)) = (&mut self.norm, &part.norm) {
            norm.add_part(part);
        }
    }

    pub(super) fn clear(&mut self) {
        self.places.fill(0.0);
        self.segments.fill(0.0);
        self.norm.iter_mut().for_each(NormGradient::clear);
    }
}

/// Adds one row, or table, to another.
fn add(to: &mut [f32], row: &[f32]) {
    to.iter_mut().zip(row).for_each(|(to, value)| *to += value);
}
