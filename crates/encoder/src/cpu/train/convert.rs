//! From modules of tensors.

use burn::nn;
use burn::tensor::Tensor;
use entromask_kernels::{Heads, Products, TrainedLinear, TrainedNorm};
use rayon::prelude::*;

use super::TrainedBody;
use super::dropout::Rates;
use super::embeddings::Embeddings;
use super::layer::Layer;
use crate::EncoderConfig;
use crate::cpu::convert::{Weights, activation, read, scale_and_shift};
use crate::encoder::Encoder;
use crate::modernbert::{self, ModernBert};
use crate::transformer::{self, Transformer};

pub(super) fn body(encoder: &Encoder, config: &EncoderConfig) -> TrainedBody {
    match encoder {
        Encoder::Absolute(body) => absolute(body, config),
        Encoder::Rotary(body) => rotary(body, config),
    }
}

fn absolute(body: &Transformer, config: &EncoderConfig) -> TrainedBody {
    let epsilon = config.layer_norm_eps as f32;
    let embeddings = &body.embeddings;
    TrainedBody {
        embeddings: Embeddings {
            words: plain(embeddings.word_embeddings.weight.val()),
            places: read(embeddings.all_places(config.max_seq_length())),
            padding: embeddings.padding(),
            segments: embeddings.later_segments().map(read).unwrap_or_default(),
            width: config.embedding_size(),
            norm: embeddings.norm.as_ref().map(|of| norm(of, epsilon)),
            trained: embeddings.word_embeddings.weight.is_require_grad(),
        },
        projection: embeddings.projection.as_ref().map(|of| linear(&[of], body.products)),
        layers: body.layers.par_iter().map(|of| absolute_layer(of, epsilon, body.products)).collect(),
        order: config.layer_order(),
        norm: body.norm.as_ref().map(|of| norm(of, epsilon)),
        rates: Rates::of(config),
        thetas: Vec::new(),
        head_size: config.hidden_size / config.num_attention_heads,
        width: config.hidden_size,
    }
}

fn absolute_layer(layer: &transformer::Layer, epsilon: f32, products: Products) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: layer.norm_first,
        heads: Heads { count: attention.heads, reach: None },
        rotation: None,
        query: linear(&[&attention.query], products),
        key_value: linear(&[&attention.key, &attention.value], products),
        attention_output: linear(&[&layer.attention_output], products),
        attention_norm: Some(norm(&layer.attention_norm, epsilon)),
        intermediate: linear(&[&layer.intermediate], products),
        activation: activation(layer.activation),
        gated: false,
        output: linear(&[&layer.output], products),
        output_norm: norm(&layer.output_norm, epsilon),
        trained: layer.output.weight.is_require_grad(),
    }
}

fn rotary(body: &ModernBert, config: &EncoderConfig) -> TrainedBody {
    let epsilon = config.layer_norm_eps as f32;
    let modern = config.modernbert();
    TrainedBody {
        embeddings: Embeddings {
            words: plain(body.word_embeddings()),
            places: Vec::new(),
            padding: None,
            segments: Vec::new(),
            width: config.hidden_size,
            norm: Some(norm(&body.embeddings.norm, epsilon)),
            trained: body.embeddings.word_embeddings.weight.is_require_grad(),
        },
        projection: None,
        layers: body.layers.par_iter().map(|of| rotary_layer(of, epsilon, body.products)).collect(),
        order: config.layer_order(),
        norm: Some(norm(&body.norm, epsilon)),
        rates: Rates::of(config),
        thetas: vec![modern.global_rope_theta, modern.local_rope_theta],
        head_size: config.hidden_size / config.num_attention_heads,
        width: config.hidden_size,
    }
}

fn rotary_layer(layer: &modernbert::Layer, epsilon: f32, products: Products) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: true,
        heads: Heads { count: attention.heads, reach: attention.reach },
        rotation: Some(usize::from(attention.reach.is_some())),
        query: thirds(&attention.qkv, 0, 1, products),
        key_value: thirds(&attention.qkv, 1, 2, products),
        attention_output: linear(&[&attention.output], products),
        attention_norm: layer.attention_norm.as_ref().map(|of| norm(of, epsilon)),
        intermediate: linear(&[&layer.mlp.input], products),
        activation: activation(layer.mlp.activation),
        gated: true,
        output: linear(&[&layer.mlp.output], products),
        output_norm: norm(&layer.mlp_norm, epsilon),
        trained: layer.mlp.output.weight.is_require_grad(),
    }
}

/// Without automatic differentiation.
fn plain(tensor: Tensor<2>) -> Tensor<2> {
    if tensor.is_autodiff() { tensor.inner() } else { tensor }
}

fn linear(layers: &[&nn::Linear], products: Products) -> TrainedLinear {
    let Weights(weight, bias) = Weights::of(layers);
    TrainedLinear::new(&weight, &bias, products)
}

fn thirds(layer: &nn::Linear, first: usize, count: usize, products: Products) -> TrainedLinear {
    let Weights(weight, bias) = Weights::of_thirds(layer, first, count);
    TrainedLinear::new(&weight, &bias, products)
}

fn norm(norm: &nn::LayerNorm, epsilon: f32) -> TrainedNorm {
    let [gamma, beta] = scale_and_shift(norm);
    TrainedNorm::new(gamma, beta, epsilon)
}
