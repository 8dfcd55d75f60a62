//! The classification head and the model that carries it.

use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use entromask_kernels::Products;

use crate::checkpoint::{self, Drawn, Stored, StoredOrDrawn};
use crate::families::json as config_json;
use crate::families::names::Slot;
use crate::families::{Family, PoolerActivation};
use crate::labels;
use crate::modernbert::{self, Pooling};
use crate::{Batch, Encoder, EncoderConfig};

/// An encoder, a dense layer with an activation on the first token (BERT's pooler and what is like it), dropout and a
/// linear classifier. ModernBERT normalises after the dense layer, and may take the mean over all tokens. A linear probe
/// ([`init_probe`](Self::init_probe)) has neither dense layer nor normalisation.
///
/// While it is trained, dropout stands before the classifier, as in BERT; RoBERTa and ELECTRA in `transformers` have one
/// before the dense layer too.
///
/// One label means regression.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    /// The body.
    pub encoder: Encoder,
    pooler: Option<Linear>,
    pooler_norm: Option<LayerNorm>,
    classifier: Linear,
    dropout: Dropout,
    #[module(skip)]
    activation: PoolerActivation,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    labels: Vec<String>,
}

impl SequenceClassifier {
    /// The body of the checkpoint in `dir` with a new classifier; the pooler too is new where the checkpoint has none, as
    /// masked-LM checkpoints do not. `config` is that of the folder, with another dropout if so wished
    /// ([`EncoderConfig::with_dropout`]).
    ///
    /// # Errors
    ///
    /// As [`MaskedLm::from_pretrained`](crate::MaskedLm::from_pretrained), a missing head excepted.
    pub fn init_from_encoder(
        dir: &Path,
        config: &EncoderConfig,
        num_labels: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let stored = Stored::open(dir, config)?;
        Self::blank(config, num_labels, device).init_from(stored, config, seed)
    }

    /// As [`init_from_encoder`](Self::init_from_encoder), but the new classifier reads the last hidden states of the first
    /// token, or their mean over the row, as they are. `transformers` has no such model.
    pub fn init_probe(
        dir: &Path,
        config: &EncoderConfig,
        num_labels: usize,
        pooling: Pooling,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let stored = Stored::open(dir, config)?;
        let blank = Self::blank(config, num_labels, device);
        Self { pooler: None, pooler_norm: None, pooling, ..blank }.init_from(stored, config, seed)
    }

    fn init_from(self, stored: Stored, config: &EncoderConfig, seed: u64) -> Result<Self> {
        let source = StoredOrDrawn {
            stored,
            drawn: Drawn::new(config, seed),
            new: &["classifier/"],
            may_lack: &["pooler/", "pooler_norm/"],
        };
        checkpoint::fill(self, config, source)
    }

    /// Reads a folder that [`save_pretrained`](Self::save_pretrained) or `transformers` wrote.
    pub fn from_pretrained(dir: &Path, device: &Device) -> Result<(Self, EncoderConfig)> {
        let config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir, &config)?;
        let classifier = Slot::new(&config, &["classifier".to_owned(), "weight".to_owned()]);
        let [num_labels, _] = stored.shape(&classifier.name)?;
        let model = checkpoint::fill(Self::blank(&config, num_labels, device), &config, stored)?;
        Ok((model.with_labels(labels::read(dir)?), config))
    }

    /// The same model with the weights in `dir`, where [`save_pretrained`](Self::save_pretrained) wrote those of one like it, a
    /// probe included.
    pub fn with_weights_in(self, dir: &Path, config: &EncoderConfig) -> Result<Self> {
        let stored = Stored::open(dir, config)?;
        checkpoint::fill(self, config, stored)
    }

    /// Writes a folder that `transformers.AutoModelForSequenceClassification` loads; see
    /// [`MaskedLm::save_pretrained`](crate::MaskedLm::save_pretrained).
    pub fn save_pretrained(
        &self,
        config: &EncoderConfig,
        dir: &Path,
        metadata: &[(String, String)],
    ) -> Result<()> {
        checkpoint::save(self, config, dir, metadata)?;
        let architecture = config.model_type.layout().classifier;
        let keys = labels::keys(&self.labels, self.num_labels());
        checkpoint::save_config(&config_json::write(config, architecture, keys)?, dir)
    }

    /// The same with names for its outputs; without any they are `LABEL_0`, `LABEL_1`, … where it is saved.
    #[must_use]
    pub fn with_labels(self, labels: Vec<String>) -> Self {
        Self { labels, ..self }
    }

    /// The names of its outputs in their order: what it was given, or `id2label` of the folder that it was read from.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The same weights, with the body's matrix products in another type. New models have [`Products::AsTensors`]; this is not
    /// stored. What follows the body is small, and stays in the type of its weights.
    #[must_use]
    pub fn with_products(mut self, products: Products) -> Self {
        self.encoder.set_products(products);
        self
    }

    /// Outputs of the classifier.
    pub fn num_labels(&self) -> usize {
        let [_, num_labels] = self.classifier.weight.dims();
        num_labels
    }

    /// Logits, `[batch_size, num_labels]`. Where the classifier reads the first token only, the last layer computes
    /// nothing else.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        self.logits_of(self.features(batch))
    }

    /// What the classifier reads of the encoder: `[batch_size, hidden_size]`.
    pub fn features(&self, batch: &Batch) -> Tensor<2> {
        let [batch_size, _] = batch.dims();
        let hidden = match self.pooling {
            Pooling::Cls => {
                let first = Tensor::<2, Int>::zeros([batch_size, 1], &batch.input_ids.device());
                self.encoder.forward_at(batch, &first)
            }
            Pooling::Mean => self.encoder.forward(batch),
        };
        self.pooled(hidden, batch)
    }

    /// Logits `[batch_size, classes]` from [`features`](Self::features), `[batch_size, width]`.
    pub fn logits_of(&self, features: Tensor<2>) -> Tensor<2> {
        let read = match &self.pooler {
            Some(pooler) => self.activated(pooler.forward(features)),
            None => features,
        };
        self.classifier.forward(self.dropout.forward(read))
    }

    /// What is made of a row's states before anything else.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    fn activated(&self, dense: Tensor<2>) -> Tensor<2> {
        let activated = match self.activation {
            PoolerActivation::Tanh => dense.tanh(),
            PoolerActivation::Other(activation) => activation.forward(dense),
        };
        self.pooler_norm.as_ref().map_or(activated.clone(), |norm| norm.forward(activated))
    }

    /// `[batch_size, hidden_size]`.
    fn pooled(&self, hidden: Tensor<3>, batch: &Batch) -> Tensor<2> {
        let [batch_size, _, width] = hidden.dims();
        match (self.pooling, &batch.attention_mask) {
            (Pooling::Cls, _) => hidden.reshape([batch_size, width]),
            (Pooling::Mean, None) => hidden.mean_dim(1).reshape([batch_size, width]),
            (Pooling::Mean, Some(real)) => {
                let real = real.clone().float().unsqueeze_dim::<3>(2);
                ((hidden * real.clone()).sum_dim(1) / real.sum_dim(1)).reshape([batch_size, width])
            }
        }
    }

    fn blank(config: &EncoderConfig, num_labels: usize, device: &Device) -> Self {
        let (modern, width) = (config.modernbert(), config.hidden_size);
        let rotary = config.model_type == Family::ModernBert;
        let pooler = LinearConfig::new(width, width).with_bias(!rotary || modern.classifier_bias);
        let dropout = config.classifier_dropout.unwrap_or(config.hidden_dropout_prob);
        Self {
            encoder: Encoder::blank(config, device),
            pooler: Some(pooler.init(device)),
            pooler_norm: rotary.then(|| modernbert::norm(config, device)),
            classifier: LinearConfig::new(width, num_labels).init(device),
            dropout: DropoutConfig::new(dropout).init(),
            activation: (config.model_type.layout().pooler_act)(config),
            pooling: if rotary { modern.classifier_pooling } else { Pooling::Cls },
            labels: Vec::new(),
        }
    }
}
