//! From gradients back to modules of tensors.

use burn::module::Param;
use burn::nn;
use burn::tensor::{Gradients, Tensor, TensorData};
use entromask_kernels::{LinearGradient, Matrix, NormGradient};
use rayon::prelude::*;

use super::BodyGradient;
use super::embeddings::EmbeddingsGradient;
use super::layer::LayerGradient;
use crate::encoder::Encoder;
use crate::modernbert::{self, ModernBert};
use crate::transformer::{self, Embeddings, Transformer};

impl BodyGradient<'_> {
    /// Adds the gradients of those parameters of `encoder` that need one to what a backward pass through the head has left.
    ///
    /// # Panics
    ///
    /// If `encoder` is not the one that they are of.
    pub fn register(&self, encoder: &Encoder, gradients: &mut Gradients) {
        match encoder {
            Encoder::Absolute(body) => self.absolute(body, gradients),
            Encoder::Rotary(body) => self.rotary(body, gradients),
        }
    }

    fn absolute(&self, body: &Transformer, gradients: &mut Gradients) {
        let sum = self.sum;
        if body.embeddings.word_embeddings.weight.is_require_grad() {
            places(&body.embeddings, self.embeddings(), gradients);
        }
        self.words(&body.embeddings.word_embeddings, body.embeddings.norm.as_ref(), gradients);
        if let (Some(to), Some(projection)) = (&body.embeddings.projection, &sum.projection) {
            linear(&[to], projection, gradients);
        }
        let layers = body.layers.iter().zip(&sum.layers);
        for (to, gradient) in layers.filter(|(to, _)| to.output.weight.is_require_grad()) {
            absolute_layer(to, gradient, gradients);
        }
        norm(body.norm.as_ref(), sum.norm.as_ref(), gradients);
    }

    fn rotary(&self, body: &ModernBert, gradients: &mut Gradients) {
        let sum = self.sum;
        self.words(&body.embeddings.word_embeddings, Some(&body.embeddings.norm), gradients);
        let layers = body.layers.iter().zip(&sum.layers);
        for (to, gradient) in layers.filter(|(to, _)| to.mlp.output.weight.is_require_grad()) {
            rotary_layer(to, gradient, gradients);
        }
        norm(Some(&body.norm), sum.norm.as_ref(), gradients);
    }

    fn embeddings(&self) -> &EmbeddingsGradient {
        self.sum.embeddings.as_ref().expect("computed")
    }

    /// A token's row is the sum over its occurrences, in order.
    fn words(&self, to: &nn::Embedding, normed: Option<&nn::LayerNorm>, gradients: &mut Gradients) {
        norm(normed, self.embeddings().norm.as_ref(), gradients);
        if !to.weight.is_require_grad() {
            return;
        }
        let weight = to.weight.val();
        let [vocab_size, width] = weight.dims();
        let earlier = weight.grad_remove(gradients).map(|tied| tied.into_data());
        let mut table = earlier.unwrap_or_else(|| TensorData::zeros::<f32, _>([vocab_size, width]));
        let values = table.as_mut_slice::<f32>().expect("gradients are f32 on the CPU");
        for (ids, d_sums) in &self.words {
            for (index, &id) in ids.iter().enumerate() {
                let row = &mut values[id as usize * width..][..width];
                row.iter_mut().zip(d_sums.row(index)).for_each(|(to, d)| *to += d);
            }
        }
        weight.grad_replace(gradients, Tensor::from_data(table, &weight.device().inner()));
    }
}

fn places(to: &Embeddings, gradient: &EmbeddingsGradient, gradients: &mut Gradients) {
    let [positions, width] = to.position_embeddings.weight.dims();
    let mut places = vec![0.0; positions * width];
    places[to.first_place() * width..][..gradient.places.len()].copy_from_slice(&gradient.places);
    if let Some(to) = &to.token_type_embeddings {
        register(&to.weight, segments(gradient, width), gradients);
    }
    register(&to.position_embeddings.weight, places, gradients);
}

/// The first segment's is that of all places but for what other segments have.
fn segments(gradient: &EmbeddingsGradient, width: usize) -> Vec<f32> {
    let mut segments = [vec![0.0; width], gradient.segments.clone()].concat();
    let (first, later) = segments.split_at_mut(width);
    let mut add = |sign: f32, row: &[f32]| first.iter_mut().zip(row).for_each(|(to, d)| *to += sign * d);
    gradient.places.chunks_exact(width).for_each(|place| add(1.0, place));
    later.chunks_exact(width).for_each(|segment| add(-1.0, segment));
    segments
}

fn absolute_layer(to: &transformer::Layer, gradient: &LayerGradient, gradients: &mut Gradients) {
    linear(&[&to.attention.query], &gradient.query, gradients);
    linear(&[&to.attention.key, &to.attention.value], &gradient.key_value, gradients);
    linear(&[&to.attention_output], &gradient.attention_output, gradients);
    norm(Some(&to.attention_norm), gradient.attention_norm.as_ref(), gradients);
    linear(&[&to.intermediate], &gradient.intermediate, gradients);
    linear(&[&to.output], &gradient.output, gradients);
    norm(Some(&to.output_norm), Some(&gradient.output_norm), gradients);
}

fn rotary_layer(to: &modernbert::Layer, gradient: &LayerGradient, gradients: &mut Gradients) {
    let (query, key_value) = (&gradient.query, &gradient.key_value);
    let rows = (0..query.weight.rows()).flat_map(|row| [query.weight.row(row), key_value.weight.row(row)]);
    register(&to.attention.qkv.weight, rows.flatten().copied().collect(), gradients);
    if let Some(bias) = &to.attention.qkv.bias {
        register(bias, [query.bias.as_slice(), &key_value.bias].concat(), gradients);
    }
    linear(&[&to.attention.output], &gradient.attention_output, gradients);
    norm(to.attention_norm.as_ref(), gradient.attention_norm.as_ref(), gradients);
    linear(&[&to.mlp.input], &gradient.intermediate, gradients);
    linear(&[&to.mlp.output], &gradient.output, gradients);
    norm(Some(&to.mlp_norm), Some(&gradient.output_norm), gradients);
}

/// Dense layers whose outputs lie side by side.
fn linear(layers: &[&nn::Linear], gradient: &LinearGradient, gradients: &mut Gradients) {
    let mut first = 0;
    for layer in layers {
        let [_, outputs] = layer.weight.dims();
        register(&layer.weight, columns(&gradient.weight, first..first + outputs), gradients);
        if let Some(bias) = &layer.bias {
            register(bias, gradient.bias[first..first + outputs].to_vec(), gradients);
        }
        first += outputs;
    }
}

fn norm(to: Option<&nn::LayerNorm>, gradient: Option<&NormGradient>, gradients: &mut Gradients) {
    let (Some(to), Some(gradient)) = (to, gradient) else { return };
    register(&to.gamma, gradient.gamma.clone(), gradients);
    if let Some(beta) = &to.beta {
        register(beta, gradient.beta.clone(), gradients);
    }
}

fn columns(of: &Matrix, columns: std::ops::Range<usize>) -> Vec<f32> {
    let mut values = vec![0.0; of.rows() * columns.len()];
    let rows = values.par_chunks_mut(columns.len().max(1)).enumerate();
    rows.with_min_len(64).for_each(|(row, to)| to.copy_from_slice(&of.row(row)[columns.clone()]));
    values
}

fn register<const D: usize>(parameter: &Param<Tensor<D>>, values: Vec<f32>, gradients: &mut Gradients) {
    if !parameter.is_require_grad() {
        return;
    }
    let tensor = parameter.val();
    let gradient = Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device().inner());
    tensor.grad_replace(gradients, gradient);
}
