//! The encoder of BERT: Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers for Language
//! Understanding*, NAACL 2019, <https://arxiv.org/abs/1810.04805>.
//!
//! Embeddings of word, position and segment are summed and normalised; each layer is self-attention and a
//! feed-forward block, each followed by dropout, the residual sum and layer normalisation.

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::activation::{gelu, gelu_approximate, relu, softmax};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::Batch;
use crate::config::{Activation, EncoderConfig};

/// The body of BERT without a head.
#[derive(Module, Debug)]
pub struct Encoder {
    embeddings: Embeddings,
    layers: Vec<Layer>,
}

impl Encoder {
    /// An encoder whose weights are not set yet.
    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let layers = (0..config.num_hidden_layers).map(|_| Layer::blank(config, device)).collect();
        Self { embeddings: Embeddings::blank(config, device), layers }
    }

    /// Hidden states of the last layer, `[batch_size, seq_length, hidden_size]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let mask = padding(batch);
        let embedded = self.embeddings.forward(batch);
        self.layers.iter().fold(embedded, |hidden, layer| layer.forward(hidden, mask.as_ref()))
    }

    /// Hidden states of the last layer at some positions only: `positions` is `[batch_size, n]`, the result
    /// `[batch_size, n, hidden_size]`.
    ///
    /// Equals picking them from [`forward`](Self::forward), but the last layer computes nothing else, which saves most
    /// of its cost when the masked positions are all that is wanted. Rows that want fewer than `n` repeat any position.
    pub fn forward_at(&self, batch: &Batch, positions: &Tensor<2, Int>) -> Tensor<3> {
        let mask = padding(batch);
        let embedded = self.embeddings.forward(batch);
        let Some((last, before)) = self.layers.split_last() else { return pick(embedded, positions) };
        let hidden = before.iter().fold(embedded, |hidden, layer| layer.forward(hidden, mask.as_ref()));
        last.forward_from(pick(hidden.clone(), positions), hidden, mask.as_ref())
    }

    /// Word embeddings, `[vocab_size, hidden_size]`.
    pub fn word_embeddings(&self) -> Tensor<2> {
        self.embeddings.word_embeddings.weight.val()
    }
}

#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoints")]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
}

impl Embeddings {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let table = |rows| EmbeddingConfig::new(rows, config.hidden_size).init(device);
        Self {
            word_embeddings: table(config.vocab_size),
            position_embeddings: table(config.max_position_embeddings),
            token_type_embeddings: table(config.type_vocab_size),
            norm: norm(config, device),
            dropout: DropoutConfig::new(config.hidden_dropout_prob).init(),
        }
    }

    /// `[batch_size, seq_length]` to `[batch_size, seq_length, hidden_size]`.
    fn forward(&self, batch: &Batch) -> Tensor<3> {
        let [_, seq_length] = batch.input_ids.dims();
        let words = self.word_embeddings.forward(batch.input_ids.clone());
        let positions = self.position_embeddings.weight.val().narrow(0, 0, seq_length);
        let summed = match &batch.token_type_ids {
            Some(types) => words + self.token_type_embeddings.forward(types.clone()) + positions.unsqueeze(),
            // One segment: its embedding joins the small table of positions instead of each token.
            None => words + (positions + self.token_type_embeddings.weight.val().narrow(0, 0, 1)).unsqueeze(),
        };
        self.dropout.forward(self.norm.forward(summed))
    }
}

#[derive(Module, Debug)]
struct Layer {
    attention: SelfAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl Layer {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            attention: SelfAttention::blank(config, device),
            attention_output: LinearConfig::new(width, width).init(device),
            attention_norm: norm(config, device),
            intermediate: LinearConfig::new(width, inner).init(device),
            output: LinearConfig::new(inner, width).init(device),
            output_norm: norm(config, device),
            dropout: DropoutConfig::new(config.hidden_dropout_prob).init(),
            activation: config.hidden_act,
        }
    }

    fn forward(&self, hidden: Tensor<3>, padding: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        self.forward_from(hidden.clone(), hidden, padding)
    }

    /// `at` `[batch_size, n, hidden_size]` are the positions to compute, `all` `[batch_size, seq_length, hidden_size]`
    /// those that they attend to.
    fn forward_from(&self, at: Tensor<3>, all: Tensor<3>, padding: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        let context = self.attention_output.forward(self.attention.forward(at.clone(), all, padding));
        let attended = self.attention_norm.forward(self.dropout.forward(context) + at);
        let inner = activate(self.activation, self.intermediate.forward(attended.clone()));
        self.output_norm.forward(self.dropout.forward(self.output.forward(inner)) + attended)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dropout: Dropout,
    heads: usize,
}

impl SelfAttention {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let linear = || LinearConfig::new(config.hidden_size, config.hidden_size).init(device);
        Self {
            query: linear(),
            key: linear(),
            value: linear(),
            dropout: DropoutConfig::new(config.attention_probs_dropout_prob).init(),
            heads: config.num_attention_heads,
        }
    }

    /// `at` `[batch_size, n, hidden_size]` attends to `all` `[batch_size, seq_length, hidden_size]`.
    fn forward(&self, at: Tensor<3>, all: Tensor<3>, padding: Option<&Tensor<2, Bool>>) -> Tensor<3> {
        let [batch_size, n, width] = at.dims();
        let query = self.split(self.query.forward(at));
        let key = self.split(self.key.forward(all.clone()));
        let value = self.split(self.value.forward(all));
        let mask = padding.map(|padding| self.mask(padding, n));
        let context = self.attend(query, key, value, mask);
        context.swap_dims(1, 2).reshape([batch_size, n, width])
    }

    /// All tensors are `[batch_size, heads, length, head_size]`; `mask` is true where a key must not be seen.
    fn attend(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        mask: Option<Tensor<4, Bool>>,
    ) -> Tensor<4> {
        if !query.is_autodiff() {
            return attention(query, key, value, mask, None, AttentionModuleOptions::default());
        }
        let [_, _, _, head_size] = query.dims();
        // Scaling the queries costs seq_length / head_size times less than scaling the scores.
        let scores = (query * (head_size as f64).powf(-0.5)).matmul(key.swap_dims(2, 3));
        let scores = match mask {
            Some(mask) => scores.mask_fill(mask, MASKED_SCORE),
            None => scores,
        };
        self.dropout.forward(softmax(scores, 3)).matmul(value)
    }

    fn split(&self, hidden: Tensor<3>) -> Tensor<4> {
        let [batch_size, length, width] = hidden.dims();
        hidden.reshape([batch_size, length, self.heads, width / self.heads]).swap_dims(1, 2)
    }

    /// `[batch_size, seq_length]` to `[batch_size, heads, n, seq_length]`.
    fn mask(&self, padding: &Tensor<2, Bool>, n: usize) -> Tensor<4, Bool> {
        let [batch_size, seq_length] = padding.dims();
        padding
            .clone()
            .reshape([batch_size, 1, 1, seq_length])
            .expand([batch_size, self.heads, n, seq_length])
    }
}

/// Far below any score, yet finite: a row that is all padding stays finite too.
const MASKED_SCORE: f32 = -1e9;

/// Applies an activation element by element.
pub(crate) fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluNew | Activation::GeluPytorchTanh => gelu_approximate(x),
        Activation::Relu => relu(x),
    }
}

/// A layer normalisation over `hidden_size`, at its initial scale 1 and shift 0.
pub(crate) fn norm(config: &EncoderConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}

/// True at padding; `None` when there is none.
fn padding(batch: &Batch) -> Option<Tensor<2, Bool>> {
    batch.attention_mask.clone().map(Tensor::bool_not)
}

/// Rows of `hidden` `[batch_size, seq_length, hidden_size]` at `positions` `[batch_size, n]`.
fn pick(hidden: Tensor<3>, positions: &Tensor<2, Int>) -> Tensor<3> {
    let [batch_size, seq_length, width] = hidden.dims();
    let [_, n] = positions.dims();
    let starts = Tensor::<1, Int>::arange(0..batch_size as i64, &positions.device()) * seq_length as i64;
    let flat = (positions.clone() + starts.unsqueeze_dim(1)).reshape([batch_size * n]);
    hidden.reshape([batch_size * seq_length, width]).select(0, flat).reshape([batch_size, n, width])
}
