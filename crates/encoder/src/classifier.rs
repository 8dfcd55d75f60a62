//! The classification head and the model that carries it.

use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use crate::config::EncoderConfig;
use crate::weights::{self, Drawn, Stored, StoredOrDrawn};
use crate::{Batch, Encoder};

/// An encoder, the pooler of BERT (dense layer and tanh on the first token), dropout and a linear classifier.
///
/// One label means regression.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    /// The body.
    pub encoder: Encoder,
    pooler: Linear,
    classifier: Linear,
    dropout: Dropout,
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
        let drawn = Drawn { seed, std: config.initializer_range };
        let source = StoredOrDrawn {
            stored: Stored::open(dir)?,
            drawn,
            new: &["classifier."],
            may_lack: &["bert.pooler."],
        };
        weights::fill(Self::blank(config, num_labels, device), source)
    }

    /// Reads a folder that [`save_pretrained`](Self::save_pretrained) or `transformers` wrote.
    pub fn from_pretrained(dir: &Path, device: &Device) -> Result<(Self, EncoderConfig)> {
        let config = EncoderConfig::from_pretrained(dir)?;
        let stored = Stored::open(dir)?;
        let [num_labels, _] = stored.shape("classifier.weight")?;
        let model = weights::fill(Self::blank(&config, num_labels, device), stored)?;
        Ok((model, config))
    }

    /// Writes a folder that `transformers.AutoModelForSequenceClassification` loads; see
    /// [`MaskedLm::save_pretrained`](crate::MaskedLm::save_pretrained).
    pub fn save_pretrained(
        &self,
        config: &EncoderConfig,
        dir: &Path,
        metadata: &[(String, String)],
    ) -> Result<()> {
        let [_, num_labels] = self.classifier.weight.dims();
        weights::save(self, dir, metadata)?;
        weights::save_config(&config.to_json("BertForSequenceClassification", label_keys(num_labels))?, dir)
    }

    /// Logits, `[batch_size, num_labels]`.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        self.classify(self.encoder.forward(batch))
    }

    /// Logits from hidden states `[batch_size, seq_length, hidden_size]`, for encoders that are frozen.
    pub fn classify(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch_size, _, width] = hidden.dims();
        let first = hidden.narrow(1, 0, 1).reshape([batch_size, width]);
        self.classifier.forward(self.dropout.forward(self.pooler.forward(first).tanh()))
    }

    fn blank(config: &EncoderConfig, num_labels: usize, device: &Device) -> Self {
        let dropout = config.classifier_dropout.unwrap_or(config.hidden_dropout_prob);
        Self {
            encoder: Encoder::blank(config, device),
            pooler: LinearConfig::new(config.hidden_size, config.hidden_size).init(device),
            classifier: LinearConfig::new(config.hidden_size, num_labels).init(device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }
}

fn label_keys(num_labels: usize) -> Value {
    let name = |label| format!("LABEL_{label}");
    let id2label: serde_json::Map<_, _> =
        (0..num_labels).map(|id| (id.to_string(), json!(name(id)))).collect();
    let label2id: serde_json::Map<_, _> = (0..num_labels).map(|id| (name(id), json!(id))).collect();
    let problem = if num_labels == 1 { "regression" } else { "single_label_classification" };
    json!({"id2label": id2label, "label2id": label2id, "problem_type": problem})
}
