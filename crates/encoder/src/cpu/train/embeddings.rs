//! Embeddings and their backward pass.

use entromask_kernels::{Matrix, NormGradient, NormTape, TrainedNorm};

/// Sums of the embeddings of word and place, normalised or not.
#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    /// `[vocab_size, width]`.
    pub(super) words: Vec<f32>,
    /// Position and first segment, `[positions, width]`; nothing where positions are rotary.
    pub(super) places: Vec<f32>,
    pub(super) width: usize,
    pub(super) norm: Option<TrainedNorm>,
}

/// Tokens of a lane, and what their embeddings' backward pass needs.
#[derive(Clone, Debug, Default)]
pub(super) struct EmbeddingsTape {
    pub(super) ids: Vec<u32>,
    positions: Vec<usize>,
    norm: NormTape,
    /// The gradient of each token's sum, `[tokens, width]`.
    pub(super) d_sums: Matrix,
}

#[derive(Clone, Debug)]
pub(super) struct EmbeddingsGradient {
    /// `[positions, width]`.
    pub(super) places: Vec<f32>,
    pub(super) norm: Option<NormGradient>,
}

impl Embeddings {
    pub(super) fn zero_gradient(&self) -> EmbeddingsGradient {
        let norm = self.norm.as_ref().map(TrainedNorm::zero_gradient);
        EmbeddingsGradient { places: vec![0.0; self.places.len()], norm }
    }

    /// `output` becomes `[tokens, width]`.
    pub(super) fn forward<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u32]>,
        tape: &mut EmbeddingsTape,
        output: &mut Matrix,
    ) {
        tape.ids.clear();
        tape.positions.clear();
        for row in rows {
            tape.ids.extend(row);
            tape.positions.extend(0..row.len());
        }
        let sums = &mut tape.d_sums;
        let to = if self.norm.is_some() { &mut *sums } else { &mut *output };
        to.reshape(tape.ids.len(), self.width);
        for (index, (&id, &position)) in tape.ids.iter().zip(&tape.positions).enumerate() {
            let row = |index: usize| index * self.width..(index + 1) * self.width;
            let sum = to.row_mut(index);
            sum.copy_from_slice(&self.words[row(id as usize)]);
            if !self.places.is_empty() {
                sum.iter_mut().zip(&self.places[row(position)]).for_each(|(to, place)| *to += place);
            }
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
        if self.places.is_empty() {
            return;
        }
        for (index, &position) in tape.positions.iter().enumerate() {
            let to = &mut gradient.places[position * self.width..][..self.width];
            to.iter_mut().zip(tape.d_sums.row(index)).for_each(|(to, d)| *to += d);
        }
    }
}

impl EmbeddingsGradient {
    pub(super) fn add_part(&mut self, part: &Self) {
        self.places.iter_mut().zip(&part.places).for_each(|(to, part)| *to += part);
        if let (Some(norm), Some(part)) = (&mut self.norm, &part.norm) {
            norm.add_part(part);
        }
    }

    pub(super) fn clear(&mut self) {
        self.places.fill(0.0);
        self.norm.iter_mut().for_each(NormGradient::clear);
    }
}
