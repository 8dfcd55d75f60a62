//! The masked-LM head and the model that carries it.

use std::path::Path;

use anyhow::Result;
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use entromask_kernels::Products;
use serde_json::json;

use crate::activation::Activation;
use crate::checkpoint::{self, Drawn, Layers, Stored};
use crate::dense::dense;
use crate::families::names::Slot;
use crate::families::{Family, json as config_json};
use crate::{Batch, Encoder, EncoderConfig};

/// A masked language model: an encoder and a head, whose decoder is the word embeddings unless the checkpoint has one of
/// its own.
#[derive(Module, Debug)]
pub struct MaskedLm {
    /// The body.
    pub encoder: Encoder,
    /// What turns hidden states into logits.
    pub head: MlmHead,
}

/// Dense layer, activation and layer normalisation before the decoder, and the decoder's bias.
#[derive(Module, Debug)]
pub struct MlmHead {
    pub(crate) dense: Linear,
    pub(crate) norm: LayerNorm,
    bias: Option<Param<Tensor<1>>>,
    decoder: Option<Decoder>,
    #[module(skip)]
    pub(crate) activation: Activation,
    #[module(skip)]
    products: Products,
}

/// What a new model takes over from another one's checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inheritance {
    /// For each layer of the new model the layer of the checkpoint whose weights it takes (Sanh et al., 2019,
    /// `DistilBERT`); without, the models have the same number of layers.
    pub layers: Option<Vec<usize>>,
    /// Whether the masked-LM head is drawn anew, as it must be where the checkpoint has none.
    pub fresh_head: bool,
}

/// A decoder that is not tied: `[vocab_size, embedding_size]`.
#[derive(Module, Debug)]
struct Decoder {
    weight: Param<Tensor<2>>,
}

impl MaskedLm {
    /// A model with random weights: N(0, `initializer_range`), biases 0, layer normalisations 1 and 0.
    ///
    /// ModernBERT may begin in its own way
    /// ([`initializer_cutoff_factor`](crate::ModernBertConfig::initializer_cutoff_factor)).
    ///
    /// Each tensor is drawn from `seed` and its own name, so the weights are the same on every backend, and tensors that
    /// two shapes have in common are equal.
    pub fn init(config: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let drawn = Drawn::new(config, seed);
        checkpoint::fill(Self::blank(config, device), config, drawn).expect("drawing weights cannot fail")
    }

    /// A model of the shape `config` with the weights of the checkpoint in `dir`, which may have more layers, more
    /// positions, more tokens, of which the first are taken, another dropout, and, if so asked, no masked-LM head.
    ///
    /// BERT can hand its weights on to `DistilBERT`, whose positions then take up the embedding of the first segment.
    ///
    /// # Errors
    ///
    /// As [`from_pretrained`](Self::from_pretrained); a usage fault that names the field when the widths differ.
    pub fn init_from(
        dir: &Path,
        config: &EncoderConfig,
        inherit: &Inheritance,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let (stored, origin) = open_to_inherit(dir, config, inherit)?;
        let head = inherit.fresh_head.then(|| Drawn::new(config, seed));
        let source = Layers { stored, origin: &origin, config, chosen: inherit.layers.as_deref(), head };
        source.check()?;
        checkpoint::fill(Self::blank(config, device), config, source)
    }

    /// Whether [`init_from`](Self::init_from) would find weights in `dir`, as far as shapes and names of its tensors tell.
    ///
    /// # Errors
    ///
    /// Those of [`init_from`](Self::init_from).
    pub fn check_init(dir: &Path, config: &EncoderConfig, inherit: &Inheritance) -> Result<()> {
        let (stored, origin) = open_to_inherit(dir, config, inherit)?;
        Layers { stored, origin: &origin, config, chosen: inherit.layers.as_deref(), head: None }.check()
    }

    /// Whether [`from_pretrained`](Self::from_pretrained) would find a model in `dir`, as far as names and shapes of its tensors tell.
    ///
    /// # Errors
    ///
    /// Those of `from_pretrained`, but for what only values tell.
    pub fn check(dir: &Path) -> Result<()> {
        let config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir, &config)?;
        require_head(&stored, &config)?;
        checkpoint::check(&Self::blank(&config, &Device::flex()), &config, &stored)
    }

    /// The shape of the model in `dir` as [`from_pretrained`](Self::from_pretrained) reads it: a decoder that is stored beside other word
    /// embeddings is not tied, whatever `config.json` says. A folder without weights has the shape of its `config.json`.
    ///
    /// # Errors
    ///
    /// An input fault about `config.json`.
    pub fn shape_in(dir: &Path) -> Result<EncoderConfig> {
        let mut config = EncoderConfig::from_pretrained(dir)?;
        let owns = Stored::open(dir, &config).and_then(|stored| owns_decoder(&stored, &config));
        config.tie_word_embeddings &= !owns.unwrap_or(false);
        Ok(config)
    }

    /// Reads a Hugging Face folder. Weights of other precision are converted to f32.
    ///
    /// # Errors
    ///
    /// An input fault that names the file and the tensor when something is missing, misshapen or not finite, or
    /// when the checkpoint has no masked-LM head.
    pub fn from_pretrained(dir: &Path, device: &Device) -> Result<(Self, EncoderConfig)> {
        let mut config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir, &config)?;
        require_head(&stored, &config)?;
        config.tie_word_embeddings &= !owns_decoder(&stored, &config)?;
        let model = checkpoint::fill(Self::blank(&config, device), &config, stored)?;
        Ok((model, config))
    }

    /// [`from_pretrained`](Self::from_pretrained) with the first `vocab_size` tokens of the model's vocabulary only. Some models
    /// have more than their tokenizer, so that products are faster; no token has these ids.
    ///
    /// # Errors
    ///
    /// As [`from_pretrained`](Self::from_pretrained); a usage fault if the model knows fewer tokens.
    pub fn from_pretrained_first(
        dir: &Path,
        vocab_size: usize,
        device: &Device,
    ) -> Result<(Self, EncoderConfig)> {
        let mut origin = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir, &origin)?;
        require_head(&stored, &origin)?;
        origin.tie_word_embeddings &= !owns_decoder(&stored, &origin)?;
        let config = EncoderConfig { vocab_size, ..origin.clone() };
        let source = Layers { stored, origin: &origin, config: &config, chosen: None, head: None };
        source.check()?;
        let model = checkpoint::fill(Self::blank(&config, device), &config, source)?;
        Ok((model, config))
    }

    /// Writes `config.json` and `model.safetensors` into the existing folder `dir`, each beside its final name first.
    ///
    /// `metadata` joins `{"format": "pt"}` in the header of the weights. Equal weights give equal bytes.
    pub fn save_pretrained(
        &self,
        config: &EncoderConfig,
        dir: &Path,
        metadata: &[(String, String)],
    ) -> Result<()> {
        checkpoint::save(self, config, dir, metadata)?;
        let architecture = config.model_type.layout().masked_lm;
        checkpoint::save_config(&config_json::write(config, architecture, json!({}))?, dir)
    }

    /// Hidden states of all positions, `[batch_size, seq_length, hidden_size]`.
    pub fn hidden(&self, batch: &Batch) -> Tensor<3> {
        self.encoder.forward(batch)
    }

    /// Rows of `hidden` `[batch_size, seq_length, hidden_size]` at flat positions b · `seq_length` + s, as
    /// `[n, hidden_size]`.
    pub fn hidden_at(&self, hidden: Tensor<3>, flat_positions: Tensor<1, Int>) -> Tensor<2> {
        let [batch_size, seq_length, width] = hidden.dims();
        hidden.reshape([batch_size * seq_length, width]).select(0, flat_positions)
    }

    /// Dense layer, activation and layer normalisation of the head, `[n, hidden_size]` to `[n, embedding_size]`.
    pub fn transform(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = &self.head;
        head.norm.forward(head.activation.forward(dense(&head.dense, hidden, head.products)))
    }

    /// Logits over the vocabulary, `[n, hidden_size]` to `[n, vocab_size]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.decoder();
        self.products().linear(self.transform(hidden), weight.transpose(), Some(bias))
    }

    /// Weight `[vocab_size, embedding_size]`, which is the word embeddings where it is tied, and bias `[vocab_size]` of
    /// the decoder.
    pub fn decoder(&self) -> (Tensor<2>, Tensor<1>) {
        let weight = self.head.decoder.as_ref().map(|decoder| decoder.weight.val());
        let weight = weight.unwrap_or_else(|| self.encoder.word_embeddings());
        let [vocab_size, _] = weight.dims();
        let bias = self.head.bias.as_ref().map(Param::val);
        let bias = bias.unwrap_or_else(|| Tensor::zeros([vocab_size], &weight.device()));
        (weight, bias)
    }

    /// Whether the decoder's weight is other than the word embeddings.
    pub fn has_own_decoder(&self) -> bool {
        self.head.decoder.is_some()
    }

    /// The same weights, with matrix products in another type. New models have [`Products::AsTensors`]; this is no part of
    /// a checkpoint.
    #[must_use]
    pub fn with_products(mut self, products: Products) -> Self {
        self.encoder.set_products(products);
        self.head.products = products;
        self
    }

    /// In what type matrix products are computed, which holds for the decoder too.
    pub fn products(&self) -> Products {
        self.head.products
    }

    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        Self { encoder: Encoder::blank(config, device), head: MlmHead::blank(config, device) }
    }
}

impl MlmHead {
    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let (modern, width) = (config.modernbert(), config.embedding_size());
        let plain = config.model_type != Family::ModernBert;
        let norm = LayerNormConfig::new(width).with_epsilon(config.layer_norm_eps);
        let dense = LinearConfig::new(config.hidden_size, width).with_bias(plain || modern.classifier_bias);
        let own =
            || Decoder { weight: Param::from_tensor(Tensor::zeros([config.vocab_size, width], device)) };
        let bias = || Param::from_tensor(Tensor::zeros([config.vocab_size], device));
        Self {
            dense: dense.init(device),
            norm: norm.with_bias(plain || modern.norm_bias).init(device),
            bias: (plain || modern.decoder_bias).then(bias),
            decoder: (!config.tie_word_embeddings).then(own),
            activation: (config.model_type.layout().head_act)(config),
            products: Products::default(),
        }
    }
}

/// The tensors in `dir` and the shape of the model that they are of, for one of the shape `config`.
fn open_to_inherit(
    dir: &Path,
    config: &EncoderConfig,
    inherit: &Inheritance,
) -> Result<(Stored, EncoderConfig)> {
    let mut origin = EncoderConfig::from_pretrained(dir)?;
    let stored = Stored::open(dir, &origin)?;
    if inherit.fresh_head {
        // A decoder of its own would be lost with the head.
        origin.tie_word_embeddings = config.tie_word_embeddings;
    } else {
        require_head(&stored, &origin)?;
        origin.tie_word_embeddings &= !owns_decoder(&stored, &origin)?;
    }
    Ok((stored, origin))
}

/// Fails unless the checkpoint can predict tokens. ModernBERT's classifiers have the head's dense layer and its norm, and predict classes;
/// where `config.json` has turned the decoder's bias off, nothing tells them apart.
fn require_head(stored: &Stored, config: &EncoderConfig) -> Result<()> {
    let has = |path: &str| stored.has(&name(config, path));
    let modern = config.model_type == Family::ModernBert && config.modernbert().decoder_bias;
    let classifies = modern && has("classifier/weight") && !has("head/bias");
    stored.require_mlm_head(&name(config, if classifies { "head/bias" } else { "head/dense/weight" }))
}

/// Whether the decoder differs from the word embeddings.
fn owns_decoder(stored: &Stored, config: &EncoderConfig) -> Result<bool> {
    stored.has_own_decoder(
        &name(config, "head/decoder/weight"),
        &name(config, "encoder/embeddings/word_embeddings/weight"),
    )
}

/// Name in a checkpoint of the parameter at `path`.
fn name(config: &EncoderConfig, path: &str) -> String {
    Slot::new(config, &path.split('/').map(str::to_owned).collect::<Vec<_>>()).name
}
