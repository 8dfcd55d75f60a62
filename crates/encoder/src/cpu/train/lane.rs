//! Some rows of a batch on their way through all layers and back.

use entromask_kernels::{LinearGradient, Matrix, NormGradient, NormTape, TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::dropout::{Draws, Dropout, Mask};
use super::embeddings::{EmbeddingsGradient, EmbeddingsTape};
use super::layer::{LayerGradient, LayerTape, Scratch, Seen};
use super::places::Places;
use super::{States, TrainedBody, Wanted};
use crate::cpu::rotation::Rotation;

/// What a lane remembers, and its gradient.
#[derive(Debug, Default)]
pub(super) struct Lane {
    everywhere: Places,
    wanted: Places,
    embeddings: EmbeddingsTape,
    dropped: Mask,
    embedded: Matrix,
    /// The input of each layer, and the output of the last.
    states: Vec<Matrix>,
    tapes: Vec<LayerTape>,
    norm: NormTape,
    last: Matrix,
    scratch: Scratch,
    d_states: [Matrix; 2],
    pub(super) gradient: LaneGradient,
}

/// The gradient of a body but for the embeddings of words.
#[derive(Debug, Default)]
pub(super) struct LaneGradient {
    pub(super) embeddings: Option<EmbeddingsGradient>,
    pub(super) projection: Option<LinearGradient>,
    pub(super) layers: Vec<LayerGradient>,
    pub(super) norm: Option<NormGradient>,
}

impl Lane {
    /// Positions that are wanted.
    pub(super) fn wanted(&self) -> usize {
        self.last.rows()
    }

    /// Tokens, and the gradients of their embeddings.
    pub(super) fn words(&self) -> (&[u32], &Matrix) {
        (&self.embeddings.ids, &self.embeddings.d_sums)
    }

    pub(super) fn forward(
        &mut self,
        body: &TrainedBody,
        rotations: &[Rotation],
        rows: &[Wanted<'_>],
        depths: &[usize],
        dropout: Option<Dropout>,
    ) -> States {
        (self.everywhere, self.wanted) = (Places::everywhere(rows), Places::wanted(rows));
        self.states.resize_with(body.order.len() + 1, Matrix::default);
        self.tapes.resize_with(body.order.len(), LayerTape::default);
        let draws = |depth| dropout.map(|dropout| Draws { dropout, rates: body.rates, depth });
        self.embed(body, rows, draws(0));
        for (depth, &layer) in body.order.iter().enumerate() {
            let places = if depth + 1 == body.order.len() { &self.wanted } else { &self.everywhere };
            let (input, output) = self.states.split_at_mut(depth + 1);
            let tape = &mut self.tapes[depth];
            let seen = Seen { input: &input[depth], places, rotations };
            body.layers[layer].forward(seen, draws(depth), tape, &mut self.scratch, &mut output[0]);
        }
        self.finish(body);
        let last = self.last.to_vec();
        let depths = depths.iter().map(|&depth| self.at_depth(body, depth)).collect();
        States { last, depths }
    }

    /// Computes the gradient, from rows of `d_states` from the one numbered `first` on.
    pub(super) fn backward(
        &mut self,
        body: &TrainedBody,
        rotations: &[Rotation],
        (d_states, first): (&States, usize),
        depths: &[usize],
    ) {
        self.gradient.reset(body);
        let wanted = self.wanted();
        let (width, layers) = (self.last.width(), body.order.len());
        let part = |values: &[f32]| {
            let rows = if wanted == 0 { 0..0 } else { first * width..(first + wanted) * width };
            Matrix::from_rows(&values[rows], width)
        };
        let mut d_last = part(&d_states.last);
        let d_depths: Vec<Matrix> = d_states.depths.iter().map(|values| part(values)).collect();
        let at =
            |depth: usize| depths.iter().zip(&d_depths).filter(move |(of, _)| **of == depth).map(|(_, d)| d);
        at(layers).for_each(|d| d_last.add(d));
        let [mut above, mut below] = std::mem::take(&mut self.d_states);
        self.finish_backward(body, &d_last, &mut above);
        let lowest = body.lowest_trained().unwrap_or(layers);
        for (depth, &layer) in body.order.iter().enumerate().skip(lowest).rev() {
            let places = if depth + 1 == layers { &self.wanted } else { &self.everywhere };
            let (tape, gradient) = (&mut self.tapes[depth], &mut self.gradient.layers[layer]);
            let seen = Seen { input: &self.states[depth], places, rotations };
            body.layers[layer].backward(seen, tape, &mut self.scratch, gradient, &above, &mut below);
            at(depth).for_each(|d| self.wanted.add(d, &mut below));
            std::mem::swap(&mut above, &mut below);
        }
        if body.embeddings.trained {
            self.embed_backward(body, &mut above, &mut below);
        }
        self.d_states = [above, below];
    }

    fn embed(&mut self, body: &TrainedBody, rows: &[Wanted<'_>], draws: Option<Draws>) {
        let to = if body.projection.is_some() { &mut self.embedded } else { &mut self.states[0] };
        body.embeddings.forward(rows, &mut self.embeddings, to);
        self.dropped.drop(draws.and_then(Draws::embeddings), self.everywhere.rows(), to);
        if let Some(projection) = &body.projection {
            projection.forward(&self.embedded, &mut self.states[0]);
        }
    }

    /// `d_output` is not needed any more.
    fn embed_backward(&mut self, body: &TrainedBody, d_output: &mut Matrix, d_embedded: &mut Matrix) {
        let LaneGradient { embeddings, projection: sum, .. } = &mut self.gradient;
        let embeddings = embeddings.as_mut().expect("made before");
        let d_embedded = match (&body.projection, sum) {
            (Some(projection), Some(sum)) => {
                sum.add(&self.embedded, d_output);
                projection.backward(d_output, d_embedded);
                d_embedded
            }
            _ => d_output,
        };
        self.dropped.apply(d_embedded);
        body.embeddings.backward(d_embedded, &mut self.embeddings, embeddings);
    }

    /// `last` becomes the output at the wanted positions.
    fn finish(&mut self, body: &TrainedBody) {
        let output = self.states.last().expect("at least the embeddings");
        let mut picked = Matrix::default();
        let output = if body.order.is_empty() { self.wanted.of(output, &mut picked) } else { output };
        match &body.norm {
            Some(norm) => norm.forward(output, &mut self.norm, &mut self.last),
            None => self.last.gather(output, 0..output.rows()),
        }
    }

    /// `d_output` becomes the gradient of the last layer's output.
    fn finish_backward(&mut self, body: &TrainedBody, d_last: &Matrix, d_output: &mut Matrix) {
        match (&body.norm, &mut self.gradient.norm) {
            (Some(norm), Some(sum)) => norm.backward(&self.norm, d_last, d_output, sum),
            _ => d_output.gather(d_last, 0..d_last.rows()),
        }
        if body.order.is_empty() {
            let picked = std::mem::take(d_output);
            d_output.reshape(self.states[0].rows(), self.states[0].width());
            d_output.clear();
            self.wanted.add(&picked, d_output);
        }
    }

    fn at_depth(&self, body: &TrainedBody, depth: usize) -> Vec<f32> {
        if depth == body.order.len() {
            return self.last.to_vec();
        }
        self.wanted.of(&self.states[depth], &mut Matrix::default()).to_vec()
    }
}

impl LaneGradient {
    /// Adds those of the other lanes, in order.
    pub(super) fn add_parts(&mut self, parts: &[&Self], body: &TrainedBody) {
        let layers = self.layers.par_iter_mut().enumerate();
        layers
            .filter(|(index, _)| body.layers[*index].trained)
            .for_each(|(index, layer)| parts.iter().for_each(|part| layer.add_part(&part.layers[index])));
        for part in parts {
            if let (Some(to), Some(part)) = (&mut self.embeddings, &part.embeddings) {
                to.add_part(part);
            }
            if let (Some(to), Some(part)) = (&mut self.projection, &part.projection) {
                to.add_part(part);
            }
            if let (Some(to), Some(part)) = (&mut self.norm, &part.norm) {
                to.add_part(part);
            }
        }
    }

    fn reset(&mut self, body: &TrainedBody) {
        if self.embeddings.is_none() {
            self.embeddings = Some(body.embeddings.zero_gradient());
            self.projection = body.projection.as_ref().map(TrainedLinear::zero_gradient);
            self.layers = body.layers.iter().map(super::Layer::zero_gradient).collect();
            self.norm = body.norm.as_ref().map(TrainedNorm::zero_gradient);
            return;
        }
        self.embeddings.iter_mut().for_each(EmbeddingsGradient::clear);
        self.projection.iter_mut().for_each(LinearGradient::clear);
        let layers = self.layers.iter_mut().zip(&body.layers);
        layers.filter(|(_, layer)| layer.trained).for_each(|(gradient, _)| gradient.clear());
        self.norm.iter_mut().for_each(NormGradient::clear);
    }
}
