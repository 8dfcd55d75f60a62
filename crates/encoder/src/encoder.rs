//! The body of a model, whatever its family.

use std::path::Path;

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use entromask_kernels::Products;

use crate::attention::Places;
use crate::checkpoint::{self, Stored};
use crate::modernbert::ModernBert;
use crate::transformer::Transformer;
use crate::{Batch, EncoderConfig, Family};

/// An encoder without a head.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a program has one or two of them")]
pub enum Encoder {
    /// Learned absolute positions: BERT and its descendants.
    Absolute(Transformer),
    /// Rotary positions: ModernBERT.
    Rotary(ModernBert),
}

/// An encoder at the place that the names of tensors are derived from.
#[derive(Module, Debug)]
struct Body {
    encoder: Encoder,
}

impl Encoder {
    /// Reads the body of any checkpoint, whatever its head, from a Hugging Face folder.
    ///
    /// # Errors
    ///
    /// As [`MaskedLm::from_pretrained`](crate::MaskedLm::from_pretrained), a missing head excepted.
    pub fn from_pretrained(dir: &Path, device: &Device) -> Result<(Self, EncoderConfig)> {
        let config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir, &config)?;
        let body = checkpoint::fill(Body { encoder: Self::blank(&config, device) }, &config, stored)?;
        Ok((body.encoder, config))
    }

    /// An encoder whose weights are not set yet.
    pub(crate) fn blank(config: &EncoderConfig, device: &Device) -> Self {
        match config.model_type {
            Family::ModernBert => Self::Rotary(ModernBert::blank(config, device)),
            _ => Self::Absolute(Transformer::blank(config, device)),
        }
    }

    /// Hidden states of the last layer, `[batch_size, seq_length, hidden_size]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        in_rows(self.hidden(batch, None), batch.dims())
    }

    /// Hidden states of the last layer at some positions only: `positions` is `[batch_size, n]`, the result
    /// `[batch_size, n, hidden_size]`.
    ///
    /// Equals picking them from [`forward`](Self::forward), but the last layer computes nothing else, which saves most
    /// of its cost when the masked positions are all that is wanted. Rows that want fewer than `n` repeat any position.
    pub fn forward_at(&self, batch: &Batch, positions: &Tensor<2, Int>) -> Tensor<3> {
        let [_, seq_length] = batch.dims();
        in_rows(self.hidden(batch, Some(&Places::new(positions, seq_length))), positions.dims())
    }

    /// Hidden states of all depths, `[batch_size, seq_length, hidden_size]` each: the embeddings, then the output of each
    /// layer, the last one as [`forward`](Self::forward) gives it.
    pub fn forward_layers(&self, batch: &Batch) -> Vec<Tensor<3>> {
        let layers = match self {
            Self::Absolute(encoder) => encoder.forward_layers(batch),
            Self::Rotary(encoder) => encoder.forward_layers(batch),
        };
        layers.into_iter().map(|hidden| in_rows(hidden, batch.dims())).collect()
    }

    /// Word embeddings, `[vocab_size, embedding_size]`.
    pub fn word_embeddings(&self) -> Tensor<2> {
        match self {
            Self::Absolute(encoder) => encoder.word_embeddings(),
            Self::Rotary(encoder) => encoder.word_embeddings(),
        }
    }

    /// Tokens of the longest row for which there are positions.
    pub(crate) fn longest_row(&self) -> usize {
        match self {
            Self::Absolute(encoder) => encoder.embeddings.longest_row(),
            Self::Rotary(_) => usize::MAX,
        }
    }

    /// Takes the word embeddings out, so that nothing else holds them; the encoder is of no use without.
    pub(crate) fn take_word_embeddings(&mut self) -> Tensor<2> {
        let embedding = match self {
            Self::Absolute(encoder) => &mut encoder.embeddings.word_embeddings,
            Self::Rotary(encoder) => &mut encoder.embeddings.word_embeddings,
        };
        let taken = embedding.weight.val();
        embedding.weight = Param::from_tensor(Tensor::empty([0, 0], &taken.device()));
        taken
    }

    /// In what type matrix products are computed.
    pub(crate) fn products(&self) -> Products {
        match self {
            Self::Absolute(encoder) => encoder.products,
            Self::Rotary(encoder) => encoder.products,
        }
    }

    pub(crate) fn set_products(&mut self, products: Products) {
        match self {
            Self::Absolute(encoder) => encoder.products = products,
            Self::Rotary(encoder) => encoder.products = products,
        }
    }

    /// `[batch_size · seq_length, hidden_size]`, or as many as there are places.
    fn hidden(&self, batch: &Batch, places: Option<&Places>) -> Tensor<2> {
        match self {
            Self::Absolute(encoder) => encoder.forward(batch, places),
            Self::Rotary(encoder) => encoder.forward(batch, places),
        }
    }
}

/// `[batch_size · n, hidden_size]` to `[batch_size, n, hidden_size]`.
fn in_rows(hidden: Tensor<2>, [batch_size, n]: [usize; 2]) -> Tensor<3> {
    let [_, width] = hidden.dims();
    hidden.reshape([batch_size, n, width])
}
