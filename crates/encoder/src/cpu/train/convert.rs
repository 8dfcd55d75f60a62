//! From modules of tensors.

use burn::nn;
use entromask_kernels::{Heads, TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::TrainedBody;
use super::embeddings::Embeddings;
use super::layer::Layer;
use crate::cpu::convert::{Weights, activation, read, scale_and_shift};
use crate::encoder::Encoder;
use crate::modernbert::{self, ModernBert};
use crate::transformer::{self, Transformer};
use crate::{EncoderConfig, MaskedLm};

pub(super) fn body(model: &MaskedLm, config: &EncoderConfig) -> TrainedBody {
    match &model.encoder {
        Encoder::Absolute(body) => absolute(body, config),
        Encoder::Rotary(body) => rotary(body, config),
    }
}

fn absolute(body: &Transformer, config: &EncoderConfig) -> TrainedBody {
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
        layers: body.layers.par_iter().map(|of| absolute_layer(of, epsilon)).collect(),
        order: config.layer_order(),
        norm: body.norm.as_ref().map(|of| norm(of, epsilon)),
        thetas: Vec::new(),
        head_size: config.hidden_size / config.num_attention_heads,
    }
}

fn absolute_layer(layer: &transformer::Layer, epsilon: f32) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: layer.norm_first,
        heads: Heads { count: attention.heads, reach: None },
        rotation: None,
        query: linear(&[&attention.query]),
        key_value: linear(&[&attention.key, &attention.value]),
        attention_output: linear(&[&layer.attention_output]),
        attention_norm: Some(norm(&layer.attention_norm, epsilon)),
        intermediate: linear(&[&layer.intermediate]),
        activation: activation(layer.activation),
        gated: false,
        output: linear(&[&layer.output]),
        output_norm: norm(&layer.output_norm, epsilon),
    }
}

fn rotary(body: &ModernBert, config: &EncoderConfig) -> TrainedBody {
    let epsilon = config.layer_norm_eps as f32;
    let modern = config.modernbert();
    TrainedBody {
        embeddings: Embeddings {
            words: read(body.word_embeddings()),
            places: Vec::new(),
            width: config.hidden_size,
            norm: Some(norm(&body.embeddings.norm, epsilon)),
        },
        projection: None,
        layers: body.layers.par_iter().map(|of| rotary_layer(of, epsilon)).collect(),
        order: config.layer_order(),
        norm: Some(norm(&body.norm, epsilon)),
        thetas: vec![modern.global_rope_theta, modern.local_rope_theta],
        head_size: config.hidden_size / config.num_attention_heads,
    }
}

fn rotary_layer(layer: &modernbert::Layer, epsilon: f32) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: true,
        heads: Heads { count: attention.heads, reach: attention.reach },
        rotation: Some(usize::from(attention.reach.is_some())),
        query: thirds(&attention.qkv, 0, 1),
        key_value: thirds(&attention.qkv, 1, 2),
        attention_output: linear(&[&attention.output]),
        attention_norm: layer.attention_norm.as_ref().map(|of| norm(of, epsilon)),
        intermediate: linear(&[&layer.mlp.input]),
        activation: activation(layer.mlp.activation),
        gated: true,
        output: linear(&[&layer.mlp.output]),
        output_norm: norm(&layer.mlp_norm, epsilon),
    }
}

fn linear(layers: &[&nn::Linear]) -> TrainedLinear {
    let Weights(weight, bias) = Weights::of(layers);
    TrainedLinear::new(&weight, &bias)
}

fn thirds(layer: &nn::Linear, first: usize, count: usize) -> TrainedLinear {
    let Weights(weight, bias) = Weights::of_thirds(layer, first, count);
    TrainedLinear::new(&weight, &bias)
}

fn norm(norm: &nn::LayerNorm, epsilon: f32) -> TrainedNorm {
    let [gamma, beta] = scale_and_shift(norm);
    TrainedNorm::new(gamma, beta, epsilon)
}
