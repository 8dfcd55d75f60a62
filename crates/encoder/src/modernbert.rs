//! ModernBERT: Warner et al., *Smarter, Better, Faster, Longer*, 2024, <https://arxiv.org/abs/2412.13663>.
//!
//! Rotary positions (Su et al., 2021) instead of learned ones; layers normalised before each block; gated linear units
//! (Shazeer, 2020); attention to all tokens in every n-th layer, to a window around the token in the others.

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::{Bool, Device, Int, Tensor};
use entromask_kernels::Products;
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::attention::{Places, attend, hide_keys, merge_heads, padding, pick, split_heads};
use crate::dense::{dense, flat, normed};
use crate::rotation::Rotations;
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
    #[module(skip)]
    epsilon: f64,
}

/// What is the same for all layers of a forward pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    /// `[batch_size, seq_length]`.
    dims: [usize; 2],
    /// True at padding, `[batch_size, seq_length]`.
    padding: Option<&'a Tensor<2, Bool>>,
    rotations: &'a Rotations,
    products: Products,
    /// Of layer normalisation.
    epsilon: f64,
}

impl ModernBert {
    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        Self {
            embeddings: Embeddings::blank(config, device),
            layers: (0..config.num_hidden_layers).map(|depth| Layer::blank(config, depth, device)).collect(),
            norm: norm(config, device),
            products: Products::default(),
            epsilon: config.layer_norm_eps,
        }
    }

    /// Hidden states `[batch_size · seq_length, hidden_size]`, or of the last layer at `places` only.
    pub(crate) fn forward(&self, batch: &Batch, places: Option<&Places>) -> Tensor<2> {
        let (padding, rotations) = (padding(batch), Rotations::default());
        let pass = self.pass(batch, padding.as_ref(), &rotations);
        let embedded = self.embeddings.forward(batch);
        let Some((last, before)) = self.layers.split_last() else { return pick(embedded, places) };
        let hidden = before.iter().fold(embedded, |hidden, layer| layer.forward(hidden, None, pass));
        self.norm.forward(last.forward(hidden, places, pass))
    }

    /// Hidden states of all depths, `[batch_size · seq_length, hidden_size]` each.
    pub(crate) fn forward_layers(&self, batch: &Batch) -> Vec<Tensor<2>> {
        let (padding, rotations) = (padding(batch), Rotations::default());
        let pass = self.pass(batch, padding.as_ref(), &rotations);
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

    fn pass<'a>(
        &self,
        batch: &Batch,
        padding: Option<&'a Tensor<2, Bool>>,
        rotations: &'a Rotations,
    ) -> Pass<'a> {
        Pass { dims: batch.dims(), padding, rotations, products: self.products, epsilon: self.epsilon }
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

    /// `[batch_size, seq_length]` to `[batch_size · seq_length, hidden_size]`.
    fn forward(&self, batch: &Batch) -> Tensor<2> {
        let words = flat(self.word_embeddings.forward(batch.input_ids.clone()));
        self.dropout.forward(self.norm.forward(words))
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

    /// `hidden` is `[batch_size · seq_length, hidden_size]`; only `places` are computed if given.
    fn forward(&self, hidden: Tensor<2>, places: Option<&Places>, pass: Pass) -> Tensor<2> {
        let normed = |norm, hidden| normed(norm, hidden, None, pass.epsilon);
        let seen = self.attention_norm.as_ref().map_or(hidden.clone(), |norm| normed(norm, hidden.clone()));
        let attended = self.attention.forward(seen, places, pass) + pick(hidden, places);
        self.mlp.forward(normed(&self.mlp_norm, attended.clone()), pass.products) + attended
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

    fn forward(&self, seen: Tensor<2>, places: Option<&Places>, pass: Pass) -> Tensor<2> {
        let ([_, width], [batch_size, seq_length]) = (seen.dims(), pass.dims);
        let qkv = dense(&self.qkv, seen, pass.products);
        let part = |index: usize| qkv.clone().narrow(1, index * width, width);
        let heads = |part| split_heads(part, batch_size, self.heads);
        let rotation = pass.rotations.of(self.theta, seq_length, width / self.heads, &qkv.device());
        let query = heads(pick(part(0), places));
        let [_, _, n, _] = query.dims();
        let positions = places.map(|places| &places.positions);
        let query = rotation.turn(query, positions);
        let (key, value) = (rotation.turn(heads(part(1)), None), heads(part(2)));
        let hidden = self.hidden(positions, pass.padding, [n, seq_length], &qkv.device());
        let hidden = hidden.map(|hidden| hidden.expand([batch_size, self.heads, n, seq_length]));
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

    fn forward(&self, hidden: Tensor<2>, products: Products) -> Tensor<2> {
        let both = dense(&self.input, hidden, products);
        let [_, width] = both.dims();
        let [input, gate] = [0, width / 2].map(|start| both.clone().narrow(1, start, width / 2));
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
