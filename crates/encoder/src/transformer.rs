//! Encoders with learned absolute positions: BERT (Devlin et al., NAACL 2019, <https://arxiv.org/abs/1810.04805>) and
//! what descends from it.
//!
//! Embeddings of word, position and segment are summed and normalised; each layer is self-attention and a feed-forward
//! block. The descendants differ in little:
//!
//! | | embeddings | layers |
//! |---|---|---|
//! | BERT | | normalised after each block |
//! | RoBERTa, XLM-R, CamemBERT | positions start behind the number of the padding token | as BERT |
//! | DistilBERT | no segments | as BERT; when it is trained, nothing is dropped between attention and its norm |
//! | ELECTRA | narrower than the layers, then projected | as BERT |
//! | ALBERT | narrower than the layers, then projected | as BERT, with weights shared in groups; when it is trained, dropout stands behind its blocks as there, not only behind attention |
//! | Megatron-BERT | not normalised | normalised before each block, and once at the end |

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::{Bool, Device, Tensor};
use entromask_kernels::Products;

use crate::activation::Activation;
use crate::attention::{Places, attend, hide_keys, merge_heads, padding, pick, split_heads};
use crate::dense::{dense, flat, normed};
use crate::{Batch, EncoderConfig, Family};

/// The body of BERT and its descendants, without a head.
#[derive(Module, Debug)]
pub struct Transformer {
    pub(crate) embeddings: Embeddings,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Option<LayerNorm>,
    /// Which of `layers` is applied at each depth.
    #[module(skip)]
    order: Vec<usize>,
    #[module(skip)]
    pub(crate) products: Products,
    #[module(skip)]
    epsilon: f64,
}

impl Transformer {
    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let order = config.layer_order();
        let count = order.iter().max().map_or(0, |last| last + 1);
        Self {
            embeddings: Embeddings::blank(config, device),
            layers: (0..count).map(|_| Layer::blank(config, device)).collect(),
            norm: config.norm_first().then(|| norm(config, config.hidden_size, device)),
            order,
            products: Products::default(),
            epsilon: config.layer_norm_eps,
        }
    }

    /// Hidden states `[batch_size · seq_length, hidden_size]`, or of the last layer at `places` only.
    pub(crate) fn forward(&self, batch: &Batch, places: Option<&Places>) -> Tensor<2> {
        let padding = padding(batch);
        let pass = self.pass(batch, padding.as_ref());
        let embedded = self.embeddings.forward(batch, self.products);
        let Some((last, before)) = self.order.split_last() else { return pick(embedded, places) };
        let layer = |hidden, &index: &usize| self.layers[index].forward(hidden, None, pass);
        let hidden = before.iter().fold(embedded, layer);
        let hidden = self.layers[*last].forward(hidden, places, pass);
        self.norm.as_ref().map_or(hidden.clone(), |norm| norm.forward(hidden))
    }

    /// Hidden states of all depths, `[batch_size · seq_length, hidden_size]` each.
    pub(crate) fn forward_layers(&self, batch: &Batch) -> Vec<Tensor<2>> {
        let padding = padding(batch);
        let pass = self.pass(batch, padding.as_ref());
        let mut states = vec![self.embeddings.forward(batch, self.products)];
        for &index in &self.order {
            let below = states[states.len() - 1].clone();
            states.push(self.layers[index].forward(below, None, pass));
        }
        if let (Some(norm), Some(last)) = (&self.norm, states.last_mut()) {
            *last = norm.forward(last.clone());
        }
        states
    }

    fn pass<'a>(&self, batch: &Batch, padding: Option<&'a Tensor<2, Bool>>) -> Pass<'a> {
        let [batch_size, _] = batch.dims();
        Pass { batch_size, padding, products: self.products, epsilon: self.epsilon }
    }

    pub(crate) fn word_embeddings(&self) -> Tensor<2> {
        self.embeddings.word_embeddings.weight.val()
    }
}

/// What is the same for all layers of a forward pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    batch_size: usize,
    /// True at padding, `[batch_size, seq_length]`.
    padding: Option<&'a Tensor<2, Bool>>,
    products: Products,
    /// Of layer normalisation.
    epsilon: f64,
}

#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoints")]
pub(crate) struct Embeddings {
    pub(crate) word_embeddings: Embedding,
    pub(crate) position_embeddings: Embedding,
    pub(crate) token_type_embeddings: Option<Embedding>,
    pub(crate) norm: Option<LayerNorm>,
    pub(crate) projection: Option<Linear>,
    dropout: Dropout,
    /// Row of `position_embeddings` for the first token.
    pub(crate) first_position: usize,
}

impl Embeddings {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let width = config.embedding_size();
        let table = |rows| EmbeddingConfig::new(rows, width).init(device);
        let projection = LinearConfig::new(width, config.hidden_size);
        Self {
            word_embeddings: table(config.vocab_size),
            position_embeddings: table(config.max_position_embeddings),
            token_type_embeddings: (config.type_vocab_size > 0).then(|| table(config.type_vocab_size)),
            norm: (!config.norm_first()).then(|| norm(config, width, device)),
            projection: config.projects_embeddings().then(|| projection.init(device)),
            dropout: DropoutConfig::new(config.hidden_dropout_prob).init(),
            first_position: config.first_position(),
        }
    }

    /// `[batch_size, seq_length]` to `[batch_size · seq_length, hidden_size]`.
    fn forward(&self, batch: &Batch, products: Products) -> Tensor<2> {
        let words = self.word_embeddings.forward(batch.input_ids.clone());
        let summed = flat(words + self.places(batch));
        let normed = self.norm.as_ref().map_or(summed.clone(), |norm| norm.forward(summed));
        let dropped = self.dropout.forward(normed);
        self.projection.as_ref().map_or(dropped.clone(), |projection| dense(projection, dropped, products))
    }

    pub(crate) fn longest_row(&self) -> usize {
        let [rows, _] = self.position_embeddings.weight.dims();
        rows - self.first_position
    }

    /// The token that is not counted where a text spells it: RoBERTa's padding, whose number is the position before the first.
    pub(crate) fn padding(&self) -> Option<u32> {
        self.first_position.checked_sub(1).map(|id| id as u32)
    }

    /// Row of `position_embeddings` that the places of tokens are counted from.
    pub(crate) fn first_place(&self) -> usize {
        self.first_position.saturating_sub(1)
    }

    /// Position and first segment of the places in rows of `longest` tokens, `[longest, embedding_size]`, behind those of
    /// [`padding`](Self::padding) where there is one.
    pub(crate) fn all_places(&self, longest: usize) -> Tensor<2> {
        let rows = longest + self.first_position - self.first_place();
        let positions = self.position_embeddings.weight.val().narrow(0, self.first_place(), rows);
        match &self.token_type_embeddings {
            Some(segments) => positions + segments.weight.val().narrow(0, 0, 1),
            None => positions,
        }
    }

    /// What each segment but the first one adds to [`all_places`](Self::all_places), `[segments - 1, embedding_size]`.
    pub(crate) fn later_segments(&self) -> Option<Tensor<2>> {
        let table = self.token_type_embeddings.as_ref()?.weight.val();
        let [segments, _] = table.dims();
        let first = table.clone().narrow(0, 0, 1);
        (segments > 1).then(|| table.narrow(0, 1, segments - 1) - first)
    }

    /// Position and segment of each token, `[batch_size or 1, seq_length, embedding_size]`.
    fn places(&self, batch: &Batch) -> Tensor<3> {
        let positions = self.positions(batch);
        let Some(segments) = &self.token_type_embeddings else { return positions };
        match batch.token_type_ids.as_ref().filter(|_| segments.weight.dims()[0] > 1) {
            Some(ids) => segments.forward(ids.clone()) + positions,
            // One segment: its embedding joins the small table of positions instead of each token.
            None => positions + segments.weight.val().narrow(0, 0, 1).unsqueeze(),
        }
    }

    /// `[batch_size or 1, seq_length, embedding_size]`.
    fn positions(&self, batch: &Batch) -> Tensor<3> {
        let [_, seq_length] = batch.dims();
        let table = self.position_embeddings.weight.val();
        match self.padding().and_then(|padding| batch.counted(padding)) {
            Some(places) => self.position_embeddings.forward(places + self.first_place() as i32),
            None => table.narrow(0, self.first_position, seq_length).unsqueeze(),
        }
    }
}

#[derive(Module, Debug)]
pub(crate) struct Layer {
    pub(crate) attention: SelfAttention,
    pub(crate) attention_output: Linear,
    pub(crate) attention_norm: LayerNorm,
    pub(crate) intermediate: Linear,
    pub(crate) output: Linear,
    pub(crate) output_norm: LayerNorm,
    dropout: Dropout,
    attended_dropout: Dropout,
    #[module(skip)]
    pub(crate) activation: Activation,
    pub(crate) norm_first: bool,
}

impl Layer {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            attention: SelfAttention::blank(config, device),
            attention_output: LinearConfig::new(width, width).init(device),
            attention_norm: norm(config, width, device),
            intermediate: LinearConfig::new(width, inner).init(device),
            output: LinearConfig::new(inner, width).init(device),
            output_norm: norm(config, width, device),
            dropout: DropoutConfig::new(config.hidden_dropout_prob).init(),
            attended_dropout: DropoutConfig::new(config.attended_dropout()).init(),
            activation: config.hidden_act,
            norm_first: config.norm_first(),
        }
    }

    /// `hidden` is `[batch_size · seq_length, hidden_size]`; only `places` are computed if given.
    fn forward(&self, hidden: Tensor<2>, places: Option<&Places>, pass: Pass) -> Tensor<2> {
        if self.norm_first {
            let seen = normed(&self.attention_norm, hidden.clone(), None, pass.epsilon);
            let attended = self.attended(pick(seen.clone(), places), seen, pass) + pick(hidden, places);
            let seen = normed(&self.output_norm, attended.clone(), None, pass.epsilon);
            return self.feed_forward(seen, pass.products) + attended;
        }
        let at = pick(hidden.clone(), places);
        let attended = self.attended(at.clone(), hidden, pass);
        let attended = normed(&self.attention_norm, attended, Some(at), pass.epsilon);
        let inner = self.feed_forward(attended.clone(), pass.products);
        normed(&self.output_norm, inner, Some(attended), pass.epsilon)
    }

    /// `at` `[batch_size · n, hidden_size]` attends to `all` `[batch_size · seq_length, hidden_size]`.
    fn attended(&self, at: Tensor<2>, all: Tensor<2>, pass: Pass) -> Tensor<2> {
        let context = self.attention.forward(at, all, pass);
        self.attended_dropout.forward(dense(&self.attention_output, context, pass.products))
    }

    fn feed_forward(&self, hidden: Tensor<2>, products: Products) -> Tensor<2> {
        let inner = self.activation.forward(dense(&self.intermediate, hidden, products));
        self.dropout.forward(dense(&self.output, inner, products))
    }
}

#[derive(Module, Debug)]
pub(crate) struct SelfAttention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    dropout: Dropout,
    pub(crate) heads: usize,
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

    /// `at` `[batch_size · n, hidden_size]` attends to `all` `[batch_size · seq_length, hidden_size]`.
    fn forward(&self, at: Tensor<2>, all: Tensor<2>, pass: Pass) -> Tensor<2> {
        let heads =
            |layer, input| split_heads(dense(layer, input, pass.products), pass.batch_size, self.heads);
        let (query, key) = (heads(&self.query, at), heads(&self.key, all.clone()));
        let value = heads(&self.value, all);
        let [_, _, n, _] = query.dims();
        let hidden = pass.padding.map(|padding| hide_keys(padding, self.heads, n));
        merge_heads(attend(query, key, value, hidden, &self.dropout, pass.products))
    }
}

/// A layer normalisation over `width`, at its initial scale 1 and shift 0.
fn norm(config: &EncoderConfig, width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(config.layer_norm_eps).init(device)
}

impl EncoderConfig {
    fn norm_first(&self) -> bool {
        self.model_type == Family::MegatronBert
    }

    /// How much is dropped between attention and what follows it.
    fn attended_dropout(&self) -> f64 {
        if self.model_type == Family::DistilBert { 0.0 } else { self.hidden_dropout_prob }
    }

    fn projects_embeddings(&self) -> bool {
        // ALBERT projects even where the widths are equal.
        self.model_type == Family::Albert || self.embedding_size() != self.hidden_size
    }
}
