//! A layer and its backward pass.

use entromask_kernels::{
    Activation, AttentionTape, DropFactors, Heads, LinearGradient, Matrix, NormGradient, NormTape, Tile,
    TrainedLinear, TrainedNorm,
};

use super::dropout::{Draws, Mask};
use super::places::Places;
use crate::cpu::rotation::{Direction, Rotation};

#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Whether blocks are normalised before rather than after them.
    pub(super) norm_first: bool,
    pub(super) heads: Heads,
    /// Which of the pass's rotations turns its queries and keys.
    pub(super) rotation: Option<usize>,
    pub(super) query: TrainedLinear,
    pub(super) key_value: TrainedLinear,
    pub(super) attention_output: TrainedLinear,
    /// ModernBERT's first layer has none.
    pub(super) attention_norm: Option<TrainedNorm>,
    pub(super) intermediate: TrainedLinear,
    pub(super) activation: Activation,
    /// Whether the activated half of what `intermediate` gives is multiplied by its other half.
    pub(super) gated: bool,
    pub(super) output: TrainedLinear,
    pub(super) output_norm: TrainedNorm,
    /// Whether it needs a gradient; all of it does, or nothing.
    pub(super) trained: bool,
}

/// What a layer sees.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) input: &'a Matrix,
    /// Where the layer is computed.
    pub(super) places: &'a Places,
    pub(super) rotations: &'a [Rotation],
}

/// What a layer's backward pass needs besides its input.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerTape {
    /// The normalised input, where it is normalised first.
    seen: Matrix,
    /// The rows of what is seen that ask.
    at: Matrix,
    query: Matrix,
    key_value: Matrix,
    attention: AttentionTape,
    context: Matrix,
    attention_norm: NormTape,
    between: Matrix,
    inner: Matrix,
    /// The activated half of a gated unit.
    half: Matrix,
    activated: Matrix,
    output_norm: NormTape,
    dropped: Dropped,
}

/// What is dropped of a layer's values besides the probabilities of attention.
#[derive(Clone, Debug, Default)]
struct Dropped {
    attention_output: Mask,
    activated: Mask,
    output: Mask,
}

#[derive(Clone, Debug)]
pub(super) struct LayerGradient {
    pub(super) query: LinearGradient,
    pub(super) key_value: LinearGradient,
    pub(super) attention_output: LinearGradient,
    pub(super) attention_norm: Option<NormGradient>,
    pub(super) intermediate: LinearGradient,
    pub(super) output: LinearGradient,
    pub(super) output_norm: NormGradient,
}

/// Memory that all layers of a lane compute in.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    sum: Matrix,
    inner: Matrix,
    activated: Matrix,
    between: Matrix,
    context: Matrix,
    query: Matrix,
    key_value: Matrix,
    seen: Matrix,
    dropped: Matrix,
}

impl Layer {
    pub(super) fn parameters(&self) -> usize {
        let width = self.query.inputs();
        4 * width * width + (if self.gated { 3 } else { 2 }) * width * self.output.inputs()
    }

    pub(super) fn zero_gradient(&self) -> LayerGradient {
        LayerGradient {
            query: self.query.zero_gradient(),
            key_value: self.key_value.zero_gradient(),
            attention_output: self.attention_output.zero_gradient(),
            attention_norm: self.attention_norm.as_ref().map(TrainedNorm::zero_gradient),
            intermediate: self.intermediate.zero_gradient(),
            output: self.output.zero_gradient(),
            output_norm: self.output_norm.zero_gradient(),
        }
    }

    /// `output` becomes the layer's output at the places. Without `draws` nothing is dropped.
    pub(super) fn forward(
        &self,
        of: Seen<'_>,
        draws: Option<Draws>,
        tape: &mut LayerTape,
        scratch: &mut Scratch,
        output: &mut Matrix,
    ) {
        if let (true, Some(norm)) = (self.norm_first, &self.attention_norm) {
            norm.forward(of.input, &mut tape.attention_norm, &mut tape.seen);
        }
        let sum = &mut scratch.sum;
        self.attend(of, draws, tape, sum);
        if self.norm_first {
            sum.add(of.places.of(of.input, &mut scratch.between));
            self.output_norm.forward(sum, &mut tape.output_norm, &mut tape.between);
            self.feed_forward(of.places, draws, tape, output);
            output.add(sum);
        } else {
            let at = of.places.of(of.input, &mut tape.at);
            self.norm_after().forward_sum(sum, at, &mut tape.attention_norm, &mut tape.between);
            self.feed_forward(of.places, draws, tape, sum);
            self.output_norm.forward_sum(sum, &tape.between, &mut tape.output_norm, output);
        }
    }

    /// `d_input` becomes the gradient of the input, from that of the output at the places.
    pub(super) fn backward(
        &self,
        of: Seen<'_>,
        tape: &mut LayerTape,
        scratch: &mut Scratch,
        gradient: &mut LayerGradient,
        d_output: &Matrix,
        d_input: &mut Matrix,
    ) {
        if self.norm_first {
            self.feed_forward_backward(tape, scratch, gradient, d_output);
            let Scratch { sum, between, .. } = scratch;
            self.output_norm.backward(&tape.output_norm, between, sum, &mut gradient.output_norm);
            sum.add(d_output);
            self.attention_backward(of, tape, scratch, gradient, d_input);
            if let (Some(norm), Some(gradient)) = (&self.attention_norm, &mut gradient.attention_norm) {
                std::mem::swap(d_input, &mut scratch.seen);
                norm.backward(&tape.attention_norm, &scratch.seen, d_input, gradient);
            }
        } else {
            let mut d_sum = std::mem::take(&mut scratch.sum);
            self.output_norm.backward(&tape.output_norm, d_output, &mut d_sum, &mut gradient.output_norm);
            self.feed_forward_backward(tape, scratch, gradient, &d_sum);
            let between = &mut scratch.between;
            between.add(&d_sum);
            let norm = gradient.attention_norm.as_mut().expect("that of the norm");
            self.norm_after().backward(&tape.attention_norm, between, &mut d_sum, norm);
            scratch.sum = d_sum;
            self.attention_backward(of, tape, scratch, gradient, d_input);
        }
        of.places.add(&scratch.sum, d_input);
    }

    fn norm_after(&self) -> &TrainedNorm {
        self.attention_norm.as_ref().expect("layers that normalise afterwards have both")
    }

    /// What attention sees: the input, normalised where it is normalised first.
    fn attention_input<'a>(&self, input: &'a Matrix, normed: &'a Matrix) -> &'a Matrix {
        if self.norm_first && self.attention_norm.is_some() { normed } else { input }
    }

    /// `output` becomes the block of attention.
    fn attend(&self, of: Seen<'_>, draws: Option<Draws>, tape: &mut LayerTape, output: &mut Matrix) {
        let LayerTape { seen, at, query, key_value, attention, context, dropped, .. } = tape;
        let seen = self.attention_input(of.input, seen);
        self.query.forward(of.places.of(seen, at), query);
        self.key_value.forward(seen, key_value);
        if let Some(rotation) = self.rotation {
            of.places.turn(&of.rotations[rotation], Direction::Forward, query, key_value);
        }
        let site = draws.and_then(Draws::attention);
        let factors = site.map(|site| {
            move |row: usize, head: usize, tile: &Tile, to: &mut Matrix| site.of_tile(row, head, tile, to)
        });
        let factors = factors.as_ref().map(|factors| factors as DropFactors<'_>);
        attention.forward((query, key_value), &of.places.spans, self.heads, factors, context);
        self.attention_output.forward(context, output);
        let site = draws.and_then(Draws::attention_output);
        dropped.attention_output.drop(site, of.places.rows(), output);
    }

    /// `output` becomes the block of what lies between.
    fn feed_forward(&self, places: &Places, draws: Option<Draws>, tape: &mut LayerTape, output: &mut Matrix) {
        let LayerTape { between, inner, half, activated, dropped, .. } = tape;
        self.intermediate.forward(between, inner);
        if self.gated {
            self.activation.gate_forward(inner, half, activated);
        } else {
            self.activation.forward(inner, activated);
        }
        dropped.activated.drop(draws.and_then(Draws::activated), places.rows(), activated);
        self.output.forward(activated, output);
        dropped.output.drop(draws.and_then(Draws::output), places.rows(), output);
    }

    /// `scratch.between` becomes the gradient of what lies between.
    fn feed_forward_backward(
        &self,
        tape: &LayerTape,
        scratch: &mut Scratch,
        gradient: &mut LayerGradient,
        d_output: &Matrix,
    ) {
        let Scratch { inner, activated, between, dropped, .. } = scratch;
        let d_output = tape.dropped.output.applied(d_output, dropped);
        gradient.output.add(&tape.activated, d_output);
        if self.gated {
            self.output.backward(d_output, activated);
            tape.dropped.activated.apply(activated);
            self.activation.gate_backward(&tape.inner, &tape.half, activated, inner);
        } else {
            self.output.backward(d_output, inner);
            tape.dropped.activated.apply(inner);
            self.activation.backward(&tape.inner, inner);
        }
        gradient.intermediate.add(&tape.between, inner);
        self.intermediate.backward(inner, between);
    }

    /// `d_seen` becomes the gradient of what attention sees, from that of its output, which is `scratch.sum`.
    fn attention_backward(
        &self,
        of: Seen<'_>,
        tape: &mut LayerTape,
        scratch: &mut Scratch,
        gradient: &mut LayerGradient,
        d_seen: &mut Matrix,
    ) {
        let Scratch { sum, context, query, key_value, dropped, .. } = scratch;
        let d_output = tape.dropped.attention_output.applied(sum, dropped);
        gradient.attention_output.add(&tape.context, d_output);
        self.attention_output.backward(d_output, context);
        let asked = (&tape.query, &tape.key_value);
        tape.attention.backward(asked, &of.places.spans, self.heads, context, (query, key_value));
        if let Some(rotation) = self.rotation {
            of.places.turn(&of.rotations[rotation], Direction::Inverse, query, key_value);
        }
        let seen = self.attention_input(of.input, &tape.seen);
        gradient.query.add(of.places.of(seen, &mut tape.at), query);
        gradient.key_value.add(seen, key_value);
        self.key_value.backward(key_value, d_seen);
        self.query.backward(query, context);
        of.places.add(context, d_seen);
    }
}

impl LayerGradient {
    pub(super) fn add_part(&mut self, part: &Self) {
        self.query.add_part(&part.query);
        self.key_value.add_part(&part.key_value);
        self.attention_output.add_part(&part.attention_output);
        if let (Some(norm), Some(part)) = (&mut self.attention_norm, &part.attention_norm) {
            norm.add_part(part);
        }
        self.intermediate.add_part(&part.intermediate);
        self.output.add_part(&part.output);
        self.output_norm.add_part(&part.output_norm);
    }

    pub(super) fn clear(&mut self) {
        self.query.clear();
        self.key_value.clear();
        self.attention_output.clear();
        self.attention_norm.iter_mut().for_each(NormGradient::clear);
        self.intermediate.clear();
        self.output.clear();
        self.output_norm.clear();
    }
}
