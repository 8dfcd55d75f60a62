//! From modules of tensors.

use std::sync::Arc;

use burn::module::Param;
use burn::nn;
use burn::tensor::Tensor;
use entromask_kernels::{Activation, LayerNorm, Linear, Products};
use rayon::prelude::*;

use super::CpuMaskedLm;
use super::body::Body;
use super::embeddings::Embeddings;
use super::layer::{Dense, Layer, Mlp, SelfAttention};
use super::rotation::Rotation;
use crate::encoder::Encoder;
use crate::modernbert::{self, ModernBert};
use crate::transformer::{self, Transformer};
use crate::{EncoderConfig, MaskedLm};

/// Places in a row are u16. No tensor says how many positions a model with rotary ones has, so its config may say any number.
const LONGEST_ROW: usize = 1 << 16;

/// The word embeddings, most of what many a model has, are taken over without a copy.
pub(super) fn masked_lm(mut model: MaskedLm, config: &EncoderConfig) -> CpuMaskedLm {
    let words = read(model.encoder.take_word_embeddings());
    let (epsilon, products) = (config.layer_norm_eps as f32, model.products());
    CpuMaskedLm {
        body: body_with(&model.encoder, config, words, products),
        transform: Dense {
            linear: linear(&[&model.head.dense], products),
            activation: activation(model.head.activation),
        },
        transform_norm: norm(&model.head.norm, epsilon),
    }
}

pub(super) fn body(encoder: &Encoder, config: &EncoderConfig) -> Body {
    body_with(encoder, config, read(encoder.word_embeddings()), encoder.products())
}

fn body_with(encoder: &Encoder, config: &EncoderConfig, words: Vec<f32>, products: Products) -> Body {
    match encoder {
        Encoder::Absolute(body) => absolute(body, config, words, products),
        Encoder::Rotary(body) => rotary(body, config, words, products),
    }
}

fn absolute(body: &Transformer, config: &EncoderConfig, words: Vec<f32>, products: Products) -> Body {
    let epsilon = config.layer_norm_eps as f32;
    let embeddings = &body.embeddings;
    let places = embeddings.all_places(config.max_seq_length());
    Body {
        embeddings: Embeddings {
            words,
            places: read(places),
            padding: embeddings.padding(),
            segments: embeddings.later_segments().map(read).unwrap_or_default(),
            width: config.embedding_size(),
            norm: embeddings.norm.as_ref().map(|of| norm(of, epsilon)),
            projection: embeddings.projection.as_ref().map(|projection| linear(&[projection], products)),
        },
        layers: body.layers.par_iter().map(|layer| absolute_layer(layer, epsilon, products)).collect(),
        order: config.layer_order(),
        norm: body.norm.as_ref().map(|of| norm(of, epsilon)),
    }
}

fn absolute_layer(layer: &transformer::Layer, epsilon: f32, products: Products) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: layer.norm_first,
        attention_norm: Some(norm(&layer.attention_norm, epsilon)),
        attention: SelfAttention {
            query: linear(&[&attention.query], products),
            key_value: linear(&[&attention.key, &attention.value], products),
            output: linear(&[&layer.attention_output], products),
            heads: attention.heads,
            rotation: None,
            reach: None,
        },
        mlp_norm: norm(&layer.output_norm, epsilon),
        mlp: Mlp {
            input: linear(&[&layer.intermediate], products),
            activation: activation(layer.activation),
            gated: false,
            output: linear(&[&layer.output], products),
        },
    }
}

fn rotary(body: &ModernBert, config: &EncoderConfig, words: Vec<f32>, products: Products) -> Body {
    let epsilon = config.layer_norm_eps as f32;
    let modern = config.modernbert();
    let head_size = config.hidden_size / config.num_attention_heads;
    let longest = config.max_seq_length().min(LONGEST_ROW);
    let rotation = |theta| Arc::new(Rotation::new(theta, longest, head_size));
    let (global, local) = (rotation(modern.global_rope_theta), rotation(modern.local_rope_theta));
    let layer = |layer: &modernbert::Layer| {
        let rotation = if layer.attention.reach.is_none() { &global } else { &local };
        rotary_layer(layer, rotation.clone(), epsilon, products)
    };
    Body {
        embeddings: Embeddings {
            words,
            places: Vec::new(),
            padding: None,
            segments: Vec::new(),
            width: config.hidden_size,
            norm: Some(norm(&body.embeddings.norm, epsilon)),
            projection: None,
        },
        layers: body.layers.par_iter().map(layer).collect(),
        order: config.layer_order(),
        norm: Some(norm(&body.norm, epsilon)),
    }
}

fn rotary_layer(
    layer: &modernbert::Layer,
    rotation: Arc<Rotation>,
    epsilon: f32,
    products: Products,
) -> Layer {
    let attention = &layer.attention;
    Layer {
        norm_first: true,
        attention_norm: layer.attention_norm.as_ref().map(|of| norm(of, epsilon)),
        attention: SelfAttention {
            query: thirds(&attention.qkv, 0, 1, products),
            key_value: thirds(&attention.qkv, 1, 2, products),
            output: linear(&[&attention.output], products),
            heads: attention.heads,
            rotation: Some(rotation),
            reach: attention.reach,
        },
        mlp_norm: norm(&layer.mlp_norm, epsilon),
        mlp: Mlp {
            input: linear(&[&layer.mlp.input], products),
            activation: activation(layer.mlp.activation),
            gated: true,
            output: linear(&[&layer.mlp.output], products),
        },
    }
}

/// Weights, `[inputs, outputs]`, and biases, `[outputs]`, of dense layers.
pub(super) struct Weights(pub(super) Vec<f32>, pub(super) Vec<f32>);

impl Weights {
    /// Layers of the same input as one, their outputs side by side.
    pub(super) fn of(layers: &[&nn::Linear]) -> Self {
        let weights = Tensor::cat(layers.iter().map(|layer| layer.weight.val()).collect(), 1);
        let biases = Tensor::cat(layers.iter().map(|layer| bias(layer)).collect(), 0);
        Self(read(weights), read(biases))
    }

    /// `count` thirds of the outputs of a layer, from the one numbered `first` on.
    pub(super) fn of_thirds(layer: &nn::Linear, first: usize, count: usize) -> Self {
        let [_, outputs] = layer.weight.dims();
        let (start, length) = (first * outputs / 3, count * outputs / 3);
        let weight = layer.weight.val().narrow(1, start, length);
        Self(read(weight), read(bias(layer).narrow(0, start, length)))
    }
}

fn linear(layers: &[&nn::Linear], products: Products) -> Linear {
    let Weights(weight, bias) = Weights::of(layers);
    Linear::new(&weight, &bias, products)
}

fn thirds(layer: &nn::Linear, first: usize, count: usize, products: Products) -> Linear {
    let Weights(weight, bias) = Weights::of_thirds(layer, first, count);
    Linear::new(&weight, &bias, products)
}

fn bias(layer: &nn::Linear) -> Tensor<1> {
    let [_, outputs] = layer.weight.dims();
    let zeros = || Tensor::zeros([outputs], &layer.weight.device());
    layer.bias.as_ref().map_or_else(zeros, Param::val)
}

fn norm(norm: &nn::LayerNorm, epsilon: f32) -> LayerNorm {
    let [gamma, beta] = scale_and_shift(norm);
    LayerNorm::new(gamma, beta, epsilon)
}

/// Of a normalisation, `[width]` each; a shift of 0 where it has none.
pub(super) fn scale_and_shift(norm: &nn::LayerNorm) -> [Vec<f32>; 2] {
    let gamma = read(norm.gamma.val());
    let beta = norm.beta.as_ref().map_or_else(|| vec![0.0; gamma.len()], |beta| read(beta.val()));
    [gamma, beta]
}

pub(super) fn activation(activation: crate::Activation) -> Activation {
    use crate::Activation as Named;
    match activation {
        Named::Gelu => Activation::Gelu,
        Named::GeluNew | Named::GeluFast | Named::GeluPytorchTanh => Activation::GeluTanh,
        Named::QuickGelu => Activation::QuickGelu,
        Named::Relu => Activation::Relu,
        Named::Silu | Named::Swish => Activation::Silu,
    }
}

pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("a float tensor of the CPU reads as f32")
}
