//! A layer and its backward pass.

use entromask_kernels::{
    Activation, AttentionTape, LinearGradient, Matrix, NormGradient, NormTape, TrainedLinear, TrainedNorm,
};

use super::places::Places;

#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Whether blocks are normalised before rather than after them.
    pub(super) norm_first: bool,
    pub(super) heads: usize,
    pub(super) query: TrainedLinear,
    pub(super) key_value: TrainedLinear,
    pub(super) attention_output: TrainedLinear,
    pub(super) attention_norm: TrainedNorm,
    pub(super) intermediate: TrainedLinear,
    pub(super) activation: Activation,
    pub(super) output: TrainedLinear,
    pub(super) output_norm: TrainedNorm,
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
    activated: Matrix,
    output_norm: NormTape,
}

#[derive(Clone, Debug)]
pub(super) struct LayerGradient {
    pub(super) query: LinearGradient,
    pub(super) key_value: LinearGradient,
    pub(super) attention_output: LinearGradient,
    pub(super) attention_norm: NormGradient,
    pub(super) intermediate: LinearGradient,
    pub(super) output: LinearGradient,
    pub(super) output_norm: NormGradient,
}

/// Memory that all layers of a lane compute in.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    sum: Matrix,
    inner: Matrix,
    between: Matrix,
    context: Matrix,
    query: Matrix,
    key_value: Matrix,
    seen: Matrix,
}

impl Layer {
    pub(super) fn parameters(&self) -> usize {
        let width = self.query.inputs();
        4 * width * width + 2 * width * self.output.inputs()
    }

    pub(super) fn zero_gradient(&self) -> LayerGradient {
        LayerGradient {
            query: self.query.zero_gradient(),
            key_value: self.key_value.zero_gradient(),
            attention_output: self.attention_output.zero_gradient(),
            attention_norm: self.attention_norm.zero_gradient(),
            intermediate: self.intermediate.zero_gradient(),
            output: self.output.zero_gradient(),
            output_norm: self.output_norm.zero_gradient(),
        }
    }

    /// `output` becomes the layer's output at the places.
    pub(super) fn forward(
        &self,
        input: &Matrix,
        places: &Places,
        tape: &mut LayerTape,
        scratch: &mut Scratch,
        output: &mut Matrix,
    ) {
        let LayerTape { seen, at, query, key_value, attention, context, .. } = tape;
        if self.norm_first {
            self.attention_norm.forward(input, &mut tape.attention_norm, seen);
        }
        let seen = if self.norm_first { &*seen } else { input };
        let at = places.of(seen, at);
        self.query.forward(at, query);
        self.key_value.forward(seen, key_value);
        attention.forward(query, key_value, &places.spans, self.heads, context);
        let sum = &mut scratch.sum;
        self.attention_output.forward(context, sum);
        if self.norm_first {
            sum.add(places.of(input, &mut scratch.between));
            self.output_norm.forward(sum, &mut tape.output_norm, &mut tape.between);
            self.feed_forward(tape, output);
            output.add(sum);
        } else {
            self.attention_norm.forward_sum(sum, at, &mut tape.attention_norm, &mut tape.between);
            self.feed_forward(tape, sum);
            self.output_norm.forward_sum(sum, &tape.between, &mut tape.output_norm, output);
        }
    }

    /// `d_input` becomes the gradient of the input, from that of the output at the places.
    pub(super) fn backward(
        &self,
        (input, places): (&Matrix, &Places),
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
            let mut d_seen = std::mem::take(&mut scratch.seen);
            self.attention_backward((input, places), tape, scratch, gradient, &mut d_seen);
            self.attention_norm.backward(
                &tape.attention_norm,
                &d_seen,
                d_input,
                &mut gradient.attention_norm,
            );
            scratch.seen = d_seen;
        } else {
            let mut d_sum = std::mem::take(&mut scratch.sum);
            self.output_norm.backward(&tape.output_norm, d_output, &mut d_sum, &mut gradient.output_norm);
            self.feed_forward_backward(tape, scratch, gradient, &d_sum);
            let between = &mut scratch.between;
            between.add(&d_sum);
            let norm = &mut gradient.attention_norm;
            self.attention_norm.backward(&tape.attention_norm, between, &mut d_sum, norm);
            scratch.sum = d_sum;
            self.attention_backward((input, places), tape, scratch, gradient, d_input);
        }
        places.add(&scratch.sum, d_input);
    }

    /// `output` becomes the block of what lies between.
    fn feed_forward(&self, tape: &mut LayerTape, output: &mut Matrix) {
        let LayerTape { between, inner, activated, .. } = tape;
        self.intermediate.forward(between, inner);
        self.activation.forward(inner, activated);
        self.output.forward(activated, output);
    }

    /// `scratch.between` becomes the gradient of what lies between.
    fn feed_forward_backward(
        &self,
        tape: &LayerTape,
        scratch: &mut Scratch,
        gradient: &mut LayerGradient,
        d_output: &Matrix,
    ) {
        let Scratch { inner, between, .. } = scratch;
        gradient.output.add(&tape.activated, d_output);
        self.output.backward(d_output, inner);
        self.activation.backward(&tape.inner, inner);
        gradient.intermediate.add(&tape.between, inner);
        self.intermediate.backward(inner, between);
    }

    /// `d_seen` becomes the gradient of what attention sees, from that of its output, which is `scratch.sum`.
    fn attention_backward(
        &self,
        (input, places): (&Matrix, &Places),
        tape: &mut LayerTape,
        scratch: &mut Scratch,
        gradient: &mut LayerGradient,
        d_seen: &mut Matrix,
    ) {
        let Scratch { sum, context, query, key_value, .. } = scratch;
        gradient.attention_output.add(&tape.context, sum);
        self.attention_output.backward(sum, context);
        let asked = (&tape.query, &tape.key_value);
        tape.attention.backward(asked, &places.spans, self.heads, context, (query, key_value));
        let seen = if self.norm_first { &tape.seen } else { input };
        gradient.query.add(places.of(seen, &mut tape.at), query);
        gradient.key_value.add(seen, key_value);
        self.key_value.backward(key_value, d_seen);
        self.query.backward(query, context);
        places.add(context, d_seen);
    }
}

impl LayerGradient {
    pub(super) fn add_part(&mut self, part: &Self) {
        self.query.add_part(&part.query);
        self.key_value.add_part(&part.key_value);
        self.attention_output.add_part(&part.attention_output);
        self.attention_norm.add_part(&part.attention_norm);
        self.intermediate.add_part(&part.intermediate);
        self.output.add_part(&part.output);
        self.output_norm.add_part(&part.output_norm);
    }

    pub(super) fn clear(&mut self) {
        self.query.clear();
        self.key_value.clear();
        self.attention_output.clear();
        self.attention_norm.clear();
        self.intermediate.clear();
        self.output.clear();
        self.output_norm.clear();
    }
}
