//! From token ids to the input of the first layer.

use entromask_kernels::{LayerNorm, Linear, Matrix};

use super::{Buffers, Wanted};

#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    /// `[vocab_size, width]`.
    pub(super) words: Vec<f32>,
    /// Position and first segment, `[positions, width]`; empty where positions are rotary.
    pub(super) places: Vec<f32>,
    /// What is not counted, and has the first of `places`.
    pub(super) padding: Option<u32>,
    /// What each segment but the first one adds, `[segments - 1, width]`; empty where all tokens are in one.
    pub(super) segments: Vec<f32>,
    pub(super) width: usize,
    pub(super) norm: Option<LayerNorm>,
    pub(super) projection: Option<Linear>,
}

impl Embeddings {
    /// `hidden` becomes the rows, one after the other: `[tokens, hidden_size]`.
    pub(super) fn forward(&self, rows: &[Wanted<'_>], buffers: &mut Buffers) {
        let Buffers { hidden, inner, .. } = buffers;
        hidden.reshape(rows.iter().map(|row| row.input_ids.len()).sum(), self.width);
        let mut first = 0;
        for row in rows {
            self.write_row(row, first, hidden);
            first += row.input_ids.len();
        }
        if let Some(norm) = &self.norm {
            norm.apply(hidden);
        }
        if let Some(projection) = &self.projection {
            projection.forward(hidden, inner);
            std::mem::swap(hidden, inner);
        }
    }

    fn write_row(&self, row: &Wanted<'_>, first: usize, to: &mut Matrix) {
        for (token, (&id, place)) in row.input_ids.iter().zip(row.places(self.padding)).enumerate() {
            self.write(id, place, to.row_mut(first + token));
        }
        if self.segments.is_empty() {
            return;
        }
        for (token, segment) in row.later_segments() {
            let more = &self.segments[(segment - 1) * self.width..][..self.width];
            to.row_mut(first + token).iter_mut().zip(more).for_each(|(to, more)| *to += more);
        }
    }

    fn write(&self, id: u32, place: usize, to: &mut [f32]) {
        to.copy_from_slice(&self.words[id as usize * self.width..][..self.width]);
        if !self.places.is_empty() {
            let place = &self.places[place * self.width..][..self.width];
            to.iter_mut().zip(place).for_each(|(to, place)| *to += place);
        }
    }
}
