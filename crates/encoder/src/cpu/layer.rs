//! A layer: attention and a feed-forward block, normalised before or after each.

use std::sync::Arc;

use entromask_kernels::{Activation, LayerNorm, Linear, Matrix, Queries};

use super::rotation::{Direction, Rotation};
use super::{Buffers, Places};

#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Whether blocks are normalised before rather than after them.
    pub(super) norm_first: bool,
    /// ModernBERT's first layer has none.
    pub(super) attention_norm: Option<LayerNorm>,
    pub(super) attention: SelfAttention,
    pub(super) mlp_norm: LayerNorm,
    pub(super) mlp: Mlp,
}

#[derive(Clone, Debug)]
pub(super) struct SelfAttention {
    pub(super) query: Linear,
    pub(super) key_value: Linear,
    pub(super) output: Linear,
    pub(super) heads: usize,
    pub(super) rotation: Option<Arc<Rotation>>,
    /// How far a token sees to each side.
    pub(super) reach: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Mlp {
    pub(super) input: Linear,
    pub(super) activation: Activation,
    /// Whether the activated half of what `input` gives is multiplied by its other half.
    pub(super) gated: bool,
    pub(super) output: Linear,
}

/// A dense layer and its activation.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) linear: Linear,
    pub(super) activation: Activation,
}

impl Layer {
    /// `query` becomes that of `hidden` at the places, and `key_value` that of all of it, before they are turned.
    pub(super) fn project(&self, places: &Places, buffers: &mut Buffers) {
        let norm_before = self.attention_norm.as_ref().filter(|_| self.norm_first);
        let Buffers { hidden, seen, at, query, key_value, .. } = buffers;
        let seen: &Matrix = match norm_before {
            Some(norm) => {
                seen.gather(hidden, 0..hidden.rows());
                norm.apply(seen);
                seen
            }
            None => hidden,
        };
        self.attention.key_value.forward(seen, key_value);
        if places.everywhere {
            self.attention.query.forward(seen, query);
        } else {
            at.gather(seen, places.flat().into_iter());
            self.attention.query.forward(at, query);
        }
    }

    /// Values of a token's query, key and value.
    pub(super) fn projections(&self) -> usize {
        self.attention.query.outputs() + self.attention.key_value.outputs()
    }

    /// `hidden` becomes the layer's output at the places, from it and what [`Layer::project`] gives of it.
    pub(super) fn forward(&self, places: &Places, buffers: &mut Buffers) {
        self.attention.forward(places, buffers);
        buffers.pick(places);
        if self.norm_first {
            add(&mut buffers.attended, &buffers.hidden);
            buffers.seen.gather(&buffers.attended, 0..buffers.attended.rows());
            self.mlp_norm.apply(&mut buffers.seen);
            self.mlp.forward(buffers);
            add(&mut buffers.hidden, &buffers.attended);
        } else {
            if let Some(norm) = &self.attention_norm {
                norm.add_and_apply(&mut buffers.attended, &buffers.hidden);
            }
            std::mem::swap(&mut buffers.seen, &mut buffers.attended);
            self.mlp.forward(buffers);
            self.mlp_norm.add_and_apply(&mut buffers.hidden, &buffers.seen);
        }
    }
}

impl SelfAttention {
    /// `attended` becomes what the places attend to.
    fn forward(&self, places: &Places, buffers: &mut Buffers) {
        let Buffers { query, key_value, context, attended, attention, .. } = buffers;
        if let Some(rotation) = &self.rotation {
            for (row, positions, first) in places.iter() {
                let size = query.width() / self.heads;
                let positions = positions.iter().map(|&p| usize::from(p));
                rotation.turn(Direction::Forward, query, first, positions, self.heads * size);
                rotation.turn(Direction::Forward, key_value, row.start, 0..row.len(), self.heads * size);
            }
        }
        context.reshape(query.rows(), query.width());
        for (row, positions, first) in places.iter() {
            let queries = Queries { query, first, positions };
            attention.attend(queries, key_value, row, self.heads, self.reach, context);
        }
        self.output.forward(context, attended);
    }
}

impl Mlp {
    /// `hidden` becomes the block of `seen`.
    fn forward(&self, buffers: &mut Buffers) {
        let Buffers { hidden, seen, inner, gated, .. } = buffers;
        self.input.forward(seen, inner);
        if self.gated {
            self.activation.gate(inner, gated);
            self.output.forward(gated, hidden);
        } else {
            self.activation.apply(inner);
            self.output.forward(inner, hidden);
        }
    }
}

impl Dense {
    pub(super) fn forward(&self, input: &Matrix, output: &mut Matrix) {
        self.linear.forward(input, output);
        self.activation.apply(output);
    }
}

fn add(to: &mut Matrix, more: &Matrix) {
    for row in 0..to.rows() {
        to.row_mut(row).iter_mut().zip(more.row(row)).for_each(|(to, more)| *to += more);
    }
}
