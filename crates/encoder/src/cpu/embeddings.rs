//! From token ids to the input of the first layer.

use entromask_kernels::{LayerNorm, Linear};

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

/// All that the embedding of a token depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) id: u32,
    /// Row of `places`; 0 where there are none.
    pub(super) place: u32,
    /// 0 where all are in the first one.
    pub(super) segment: u32,
}

impl Embeddings {
    /// The tokens of a row.
    pub(super) fn tokens<'a>(&self, row: &Wanted<'a>) -> impl Iterator<Item = Token> + Clone + use<'a> {
        let (has_places, has_segments) = (!self.places.is_empty(), !self.segments.is_empty());
        let segments = if has_segments { row.token_type_ids } else { &[] };
        let tokens = row.input_ids.iter().zip(row.places(self.padding)).enumerate();
        tokens.map(move |(index, (&id, place))| Token {
            id,
            place: if has_places { place as u32 } else { 0 },
            segment: segments.get(index).copied().unwrap_or(0),
        })
    }

    /// `hidden` becomes `[tokens, hidden_size]`.
    pub(super) fn forward(&self, tokens: &[Token], buffers: &mut Buffers) {
        let Buffers { hidden, inner, .. } = buffers;
        hidden.reshape(tokens.len(), self.width);
        tokens.iter().enumerate().for_each(|(row, token)| self.write(*token, hidden.row_mut(row)));
        if let Some(norm) = &self.norm {
            norm.apply(hidden);
        }
        if let Some(projection) = &self.projection {
            projection.forward(hidden, inner);
            std::mem::swap(hidden, inner);
        }
    }

    fn write(&self, token: Token, to: &mut [f32]) {
        to.copy_from_slice(&self.words[token.id as usize * self.width..][..self.width]);
        let mut add = |table: &[f32], row: u32| {
            let more = &table[row as usize * self.width..][..self.width];
            to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
        };
        if !self.places.is_empty() {
            add(&self.places, token.place);
        }
        if token.segment > 0 {
            add(&self.segments, token.segment - 1);
        }
    }
}
