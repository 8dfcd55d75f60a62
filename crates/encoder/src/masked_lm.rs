//! The masked-LM head and the model that carries it.

use std::path::Path;

use anyhow::Result;
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear, LinearConfig};
use burn::tensor::module::linear;
use burn::tensor::{Device, Int, Tensor};
use serde_json::json;

use crate::bert::{activate, norm};
use crate::config::{Activation, EncoderConfig};
use crate::weights::{self, Drawn, Stored};
use crate::{Batch, Encoder};

/// A masked language model: an encoder and a head whose decoder is tied to the word embeddings.
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
    dense: Linear,
    norm: LayerNorm,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    activation: Activation,
}

impl MaskedLm {
    /// A model with random weights: N(0, `initializer_range`), biases 0, layer normalisations 1 and 0.
    ///
    /// Each tensor is drawn from `seed` and its own name, so the weights are the same on every backend, and tensors that
    /// two shapes have in common are equal.
    pub fn init(config: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let drawn = Drawn { seed, std: config.initializer_range };
        weights::fill(Self::blank(config, device), drawn).expect("drawing weights cannot fail")
    }

    /// Reads a Hugging Face folder. Weights of other precision are converted to f32.
    ///
    /// # Errors
    ///
    /// An input fault that names the file and the tensor when something is missing, misshapen or not finite, or
    /// when the checkpoint has no masked-LM head.
    pub fn from_pretrained(dir: &Path, device: &Device) -> Result<(Self, EncoderConfig)> {
        let config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir)?;
        stored.require_mlm_head()?;
        let model = weights::fill(Self::blank(&config, device), stored)?;
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
        weights::save(self, dir, metadata)?;
        weights::save_config(&config.to_json("BertForMaskedLM", json!({}))?, dir)
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

    /// Dense layer, activation and layer normalisation of the head, `[n, hidden_size]` to `[n, hidden_size]`.
    pub fn transform(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = &self.head;
        head.norm.forward(activate(head.activation, head.dense.forward(hidden)))
    }

    /// Logits over the vocabulary, `[n, hidden_size]` to `[n, vocab_size]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = self.decoder();
        linear(self.transform(hidden), weight.transpose(), Some(bias))
    }

    /// Weight `[vocab_size, hidden_size]`, which is the word embeddings, and bias `[vocab_size]` of the decoder.
    pub fn decoder(&self) -> (Tensor<2>, Tensor<1>) {
        (self.encoder.word_embeddings(), self.head.bias.val())
    }

    fn blank(config: &EncoderConfig, device: &Device) -> Self {
        let head = MlmHead {
            dense: LinearConfig::new(config.hidden_size, config.hidden_size).init(device),
            norm: norm(config, device),
            bias: Param::from_tensor(Tensor::zeros([config.vocab_size], device)),
            activation: config.hidden_act,
        };
        Self { encoder: Encoder::blank(config, device), head }
    }
}
