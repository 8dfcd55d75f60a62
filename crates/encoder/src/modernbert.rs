//! ModernBERT: Warner et al., *Smarter, Better, Faster, Longer*, 2024, <https://arxiv.org/abs/2412.13663>.
//!
//! Rotary positions (Su et al., 2021) instead of learned ones; layers normalised before each block; gated linear units
//! (Shazeer, 2020); attention to all tokens in every n-th layer, to a window around the token in the others.

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use entromask_kernels::Products;
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::attention::{attend, hide_keys, merge_heads, padding, pick, split_heads};
use crate::dense::dense;
use crate::{Batch, EncoderConfig};

/// What ModernBERT has beyond the fields of [`EncoderConfig`]. Defaults are those of `transformers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the names of config.json")]
pub struct ModernBertConfig {
    /// Layers 0, n, 2n, … attend to the whole row.
    pub global_attn_every_n_layers: usize,
    /// Width of the window of the other layers, tokens: half of it to each side.
    pub local_attention: usize,
    /// Base of the rotary frequencies in layers that attend to the whole row.
    pub global_rope_theta: f64,
    /// Base of the rotary frequencies in the other layers.
    pub local_rope_theta: f64,
    /// Whether layer normalisations have a shift.
    pub norm_bias: bool,
    /// Whether the dense layers of attention have a bias.
    pub attention_bias: bool,
    /// Whether the dense layers of the feed-forward blocks have a bias.
    pub mlp_bias: bool,
    /// Whether the decoder has a bias.
    pub decoder_bias: bool,
    /// Whether the dense layer of the heads has a bias.
    pub classifier_bias: bool,
    /// Activation of the heads.
    pub classifier_activation: Activation,
    /// What a classifier sees.
    pub classifier_pooling: Pooling,
    /// Dropout inside the feed-forward blocks.
    pub mlp_dropout: f64,
    /// Deviations at which initial weights are cut off. With it a new model begins as in `transformers`, whose value is
    /// 2: outputs of blocks are smaller by √(2 · layers). Without it, as every other family does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer_cutoff_factor: Option<f64>,
}

/// One vector for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The first token.
    Cls,
    /// The mean over all tokens that are not padding.
    Mean,
}

impl Default for ModernBertConfig {
    fn default() -> Self {
        Self {
            global_attn_every_n_layers: 3,
            local_attention: 128,
            global_rope_theta: 160_000.0,
            local_rope_theta: 10_000.0,
            norm_bias: false,
            attention_bias: false,
            mlp_bias: false,
            decoder_bias: true,
            classifier_bias: false,
            classifier_activation: Activation::Gelu,
            classifier_pooling: Pooling::Cls,
            mlp_dropout: 0.0,
            initializer_cutoff_factor: None,
        }
    }
}

/// The body of ModernBERT, without a head.
#[derive(Module, Debug)]
pub struct ModernBert {
    pub(crate) embeddings: Embeddings,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: LayerNorm,
    #[module(skip)]
    pub(crate) products: Products,
}

/// What is the same for all layers of a forward pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    /// True at padding, `[batch_size, seq_length]`.
    padding: Option<&'a Tensor<2, Bool>>,
    products: Products,
}

impl ModernBert {
    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        Self {
            embeddings: Embeddings::blank(config, device),
            layers: (0..config.num_hidden_layers).map(|depth| Layer::blank(config, depth, device)).collect(),
            norm: norm(config, device),
            products: Products::default(),
        }
    }

    /// Hidden states `[batch_size, seq_length, hidden_size]`, or of the last layer at `positions` `[batch_size, n]` only:
    /// `[batch_size, n, hidden_size]`.
    pub(crate) fn forward(&self, batch: &Batch, positions: Option<&Tensor<2, Int>>) -> Tensor<3> {
        let padding = padding(batch);
        let embedded = self.embeddings.forward(batch);
        let Some((last, before)) = self.layers.split_last() else { return pick(embedded, positions) };
        let pass = Pass { padding: padding.as_ref(), products: self.products };
        let hidden = before.iter().fold(embedded, |hidden, layer| layer.forward(hidden, None, pass));
        self.norm.forward(last.forward(hidden, positions, pass))
    }

    /// As [`Encoder::forward_layers`](crate::Encoder::forward_layers).
    pub(crate) fn forward_layers(&self, batch: &Batch) -> Vec<Tensor<3>> {
        let padding = padding(batch);
        let pass = Pass { padding: padding.as_ref(), products: self.products };
        let mut states = vec![self.embeddings.forward(batch)];
        for layer in &self.layers {
            let below = states[states.len() - 1].clone();
            states.push(layer.forward(below, None, pass));
        }
        if let Some(last) = states.last_mut() {
            *last = self.norm.forward(last.clone());
        }
        states
    }

    pub(crate) fn word_embeddings(&self) -> Tensor<2> {
        self.embeddings.word_embeddings.weight.val()
    }
}

#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the name of the checkpoints")]
pub(crate) struct Embeddings {
    pub(crate) word_embeddings: Embedding,
    pub(crate) norm: LayerNorm,
    dropout: Dropout,
}

impl Embeddings {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        Self {
            word_embeddings: EmbeddingConfig::new(config.vocab_size, config.hidden_size).init(device),
            norm: norm(config, device),
            dropout: DropoutConfig::new(config.hidden_dropout_prob).init(),
        }
    }

    fn forward(&self, batch: &Batch) -> Tensor<3> {
        self.dropout.forward(self.norm.forward(self.word_embeddings.forward(batch.input_ids.clone())))
    }
}

#[derive(Module, Debug)]
pub(crate) struct Layer {
    /// The first layer has none: the embeddings are normalised already.
    pub(crate) attention_norm: Option<LayerNorm>,
    pub(crate) attention: SelfAttention,
    pub(crate) mlp_norm: LayerNorm,
    pub(crate) mlp: Mlp,
}

impl Layer {
    fn blank(config: &EncoderConfig, depth: usize, device: &Device) -> Self {
        Self {
            attention_norm: (depth > 0).then(|| norm(config, device)),
            attention: SelfAttention::blank(config, depth, device),
            mlp_norm: norm(config, device),
            mlp: Mlp::blank(config, device),
        }
    }

    /// `hidden` is `[batch_size, seq_length, hidden_size]`; only `positions` `[batch_size, n]` are computed if given.
    fn forward(&self, hidden: Tensor<3>, positions: Option<&Tensor<2, Int>>, pass: Pass) -> Tensor<3> {
        let seen = self.attention_norm.as_ref().map_or(hidden.clone(), |norm| norm.forward(hidden.clone()));
        let attended = self.attention.forward(seen, positions, pass) + pick(hidden, positions);
        self.mlp.forward(self.mlp_norm.forward(attended.clone()), pass.products) + attended
    }
}

#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    /// Queries, keys and values in one product.
    pub(crate) qkv: Linear,
    pub(crate) output: Linear,
    dropout: Dropout,
    pub(crate) heads: usize,
    theta: f64,
    /// How far a token sees to each side.
    pub(crate) reach: Option<usize>,
}

impl SelfAttention {
    fn blank(config: &EncoderConfig, depth: usize, device: &Device) -> Self {
        let (width, modern) = (config.hidden_size, config.modernbert());
        let linear =
            |outputs| LinearConfig::new(width, outputs).with_bias(modern.attention_bias).init(device);
        let global = depth.is_multiple_of(modern.global_attn_every_n_layers);
        Self {
            qkv: linear(3 * width),
            output: linear(width),
            dropout: DropoutConfig::new(config.attention_probs_dropout_prob).init(),
            heads: config.num_attention_heads,
            theta: if global { modern.global_rope_theta } else { modern.local_rope_theta },
            reach: (!global).then_some(modern.local_attention / 2),
        }
    }

    fn forward(&self, seen: Tensor<3>, positions: Option<&Tensor<2, Int>>, pass: Pass) -> Tensor<3> {
        let [_, seq_length, width] = seen.dims();
        let qkv = dense(&self.qkv, seen, pass.products);
        let part = |index: usize| qkv.clone().narrow(2, index * width, width);
        let rotation = Rotation::new(self.theta, seq_length, width / self.heads, &qkv.device());
        let query = split_heads(pick(part(0), positions), self.heads);
        let [_, _, n, _] = query.dims();
        let query = rotation.turn(query, positions);
        let key = rotation.turn(split_heads(part(1), self.heads), None);
        let value = split_heads(part(2), self.heads);
        let hidden = self.hidden(positions, pass.padding, [n, seq_length], &qkv.device());
        let hidden = hidden.map(|hidden| {
            let [batch_size, _, _, _] = value.dims();
            hidden.expand([batch_size, self.heads, n, seq_length])
        });
        let context = merge_heads(attend(query, key, value, hidden, &self.dropout, pass.products));
        self.dropout.forward(dense(&self.output, context, pass.products))
    }

    /// What a query must not see: padding, and what is outside of its window. `[batch_size or 1, heads or 1, n,
    /// seq_length]`.
    fn hidden(
        &self,
        positions: Option<&Tensor<2, Int>>,
        padding: Option<&Tensor<2, Bool>>,
        [n, seq_length]: [usize; 2],
        device: &Device,
    ) -> Option<Tensor<4, Bool>> {
        let padding = padding.map(|padding| hide_keys(padding, 1, n));
        let Some(reach) = self.reach.filter(|&reach| seq_length > reach + 1) else { return padding };
        let places = Tensor::<1, Int>::arange(0..seq_length as i64, device);
        let from = positions.map_or(places.clone().unsqueeze(), Clone::clone);
        let [rows, _] = from.dims();
        let distance = from.reshape([rows, 1, n, 1]) - places.reshape([1, 1, 1, seq_length]);
        let far = distance.abs().greater_elem(reach as i64);
        Some(match padding {
            Some(padding) => {
                let [batch_size, _, _, _] = padding.dims();
                far.expand([batch_size, 1, n, seq_length]).bool_or(padding)
            }
            None => far,
        })
    }
}

/// Rotary position embeddings of one row: cosines and sines, `[seq_length, head_size]`.
struct Rotation {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rotation {
    fn new(theta: f64, seq_length: usize, head_size: usize, device: &Device) -> Self {
        let half = head_size / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / head_size as f32);
        let angles: Vec<f32> = (0..seq_length)
            .flat_map(|position| (0..head_size).map(move |i| position as f32 * frequency(i % half)))
            .collect();
        let table = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::<2>::from_data(TensorData::new(values, [seq_length, head_size]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Turns `x` `[batch_size, heads, n, head_size]`, which lies at `positions` `[batch_size, n]` or at 0, 1, ….
    fn turn(&self, x: Tensor<4>, positions: Option<&Tensor<2, Int>>) -> Tensor<4> {
        let [_, _, n, head_size] = x.dims();
        let at = |table: &Tensor<2>| match positions {
            Some(positions) => {
                let [rows, _] = positions.dims();
                table
                    .clone()
                    .select(0, positions.clone().reshape([rows * n]))
                    .reshape([rows, 1, n, head_size])
            }
            None => table.clone().reshape([1, 1, n, head_size]),
        };
        let half = head_size / 2;
        let [left, right] = [0, half].map(|start| x.clone().narrow(3, start, half));
        let turned = Tensor::cat(vec![right.neg(), left], 3);
        x * at(&self.cos) + turned * at(&self.sin)
    }
}

/// A gated linear unit: the activated half of the first product times its other half.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    pub(crate) input: Linear,
    pub(crate) output: Linear,
    dropout: Dropout,
    #[module(skip)]
    pub(crate) activation: Activation,
}

impl Mlp {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let (width, inner, modern) = (config.hidden_size, config.intermediate_size, config.modernbert());
        let linear = |from, to| LinearConfig::new(from, to).with_bias(modern.mlp_bias).init(device);
        Self {
            input: linear(width, 2 * inner),
            output: linear(inner, width),
            dropout: DropoutConfig::new(modern.mlp_dropout).init(),
            activation: config.hidden_act,
        }
    }

    fn forward(&self, hidden: Tensor<3>, products: Products) -> Tensor<3> {
        let both = dense(&self.input, hidden, products);
        let [_, _, width] = both.dims();
        let [input, gate] = [0, width / 2].map(|start| both.clone().narrow(2, start, width / 2));
        dense(&self.output, self.dropout.forward(self.activation.forward(input) * gate), products)
    }
}

/// A layer normalisation over `hidden_size`, at its initial scale 1 and shift 0.
pub(crate) fn norm(config: &EncoderConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size)
        .with_epsilon(config.layer_norm_eps)
        .with_bias(config.modernbert().norm_bias)
        .init(device)
}
