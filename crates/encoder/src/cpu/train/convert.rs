//! From modules of tensors.

use burn::nn;
use burn::tensor::Tensor;
use entromask_kernels::{TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::TrainedBody;
use super::embeddings::Embeddings;
use super::layer::Layer;
use crate::cpu::convert::{activation, bias, read};
use crate::encoder::Encoder;
use crate::transformer;
use crate::{EncoderConfig, MaskedLm};

pub(super) fn body(model: &MaskedLm, config: &EncoderConfig) -> TrainedBody {
    let Encoder::Absolute(body) = &model.encoder else { unreachable!("of a family with learned positions") };
    let epsilon = config.layer_norm_eps as f32;
    let embeddings = &body.embeddings;
    TrainedBody {
        embeddings: Embeddings {
            words: read(embeddings.word_embeddings.weight.val()),
            places: read(embeddings.first_places(config.max_seq_length())),
            width: config.embedding_size(),
            norm: embeddings.norm.as_ref().map(|of| norm(of, epsilon)),
        },
        projection: embeddings.projection.as_ref().map(|of| linear(&[of])),
        layers: body.layers.par_iter().map(|of| layer(of, epsilon)).collect(),
        order: config.layer_order(),
        norm: body.norm.as_ref().map(|of| norm(of, epsilon)),
    }
}

fn layer(layer: &transformer::Layer, epsilon: f32) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: layer.norm_first,
        heads: attention.heads,
        query: linear(&[&attention.query]),
        key_value: linear(&[&attention.key, &attention.value]),
        attention_output: linear(&[&layer.attention_output]),
        attention_norm: norm(&layer.attention_norm, epsilon),
        intermediate: linear(&[&layer.intermediate]),
        activation: activation(layer.activation),
        output: linear(&[&layer.output]),
        output_norm: norm(&layer.output_norm, epsilon),
    }
}

/// Dense layers of the same input as one, their outputs side by side.
fn linear(layers: &[&nn::Linear]) -> TrainedLinear {
    let weights = Tensor::cat(layers.iter().map(|layer| layer.weight.val()).collect(), 1);
    let biases = Tensor::cat(layers.iter().map(|layer| bias(layer)).collect(), 0);
    TrainedLinear::new(&read(weights), &read(biases))
}

fn norm(norm: &nn::LayerNorm, epsilon: f32) -> TrainedNorm {
    let gamma = read(norm.gamma.val());
    let beta = norm.beta.as_ref().map_or_else(|| vec![0.0; gamma.len()], |beta| read(beta.val()));
    TrainedNorm::new(gamma, beta, epsilon)
}
