//! The model folder that is fine-tuned: ours, or any Hugging Face folder of a supported family.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use entromask_artifact::{Input, Kind, MANIFEST, Manifest};
use entromask_encoder::{EncoderConfig, SequenceClassifier};
use entromask_fault::Fault;
use fs_err as fs;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// A model folder with its configuration.
#[derive(Clone, Debug)]
pub struct Source {
    dir: PathBuf,
    /// Shape of the model.
    pub config: EncoderConfig,
}

impl Source {
    /// Reads the configuration in `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self { dir: dir.into(), config: EncoderConfig::from_pretrained(dir)? })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder with another dropout, below `scratch`: a loader takes the dropout from `config.json`.
    pub fn with_dropout(&self, dropout: f64, scratch: &Path) -> anyhow::Result<Self> {
        let config = EncoderConfig {
            hidden_dropout_prob: dropout,
            attention_probs_dropout_prob: dropout,
            classifier_dropout: None,
            ..self.config.clone()
        };
        if config == self.config {
            return Ok(self.clone());
        }
        let dir = scratch.join(format!("dropout-{dropout}"));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(CONFIG), serde_json::to_vec(&config)?)?;
        link(&self.dir.join(WEIGHTS), &dir.join(WEIGHTS))?;
        Ok(Self { dir, config })
    }

    /// A trainable classifier on the folder's encoder; the head is drawn from `seed`.
    pub fn classifier(
        &self,
        outputs: usize,
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<SequenceClassifier> {
        let (model, _) =
            SequenceClassifier::init_from_encoder(&self.dir, outputs, seed, &device.clone().autodiff())?;
        Ok(model)
    }
}

/// The folder as an input: by its manifest, or by its files where it is not ours.
///
/// # Errors
/// A [`Fault`] of class input if it is no model folder.
pub fn input(dir: &Path) -> anyhow::Result<Input> {
    if dir.join(MANIFEST).is_file() {
        return Ok(Input::artifact("model", &Manifest::load(dir, Kind::Model)?, dir));
    }
    let files = [CONFIG, WEIGHTS, "tokenizer.json"].map(|file| dir.join(file));
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        return Err(Fault::input(format!("{}: no such file", missing.display()))
            .remedy(
                "--model takes a Hugging Face folder with config.json, model.safetensors and tokenizer.json",
            )
            .into());
    }
    Input::files("model", dir, &files)
}

/// A hard link where the file system can, else a copy.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use entromask_encoder::MaskedLm;

    use super::*;

    #[test]
    fn the_dropout_of_a_checkpoint_can_be_replaced() -> anyhow::Result<()> {
        let (model, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let config = EncoderConfig {
            vocab_size: 9,
            hidden_size: 4,
            num_attention_heads: 1,
            ..EncoderConfig::default()
        };
        let config = EncoderConfig { intermediate_size: 4, num_hidden_layers: 1, ..config };
        MaskedLm::init(&config, 1, &Device::flex()).save_pretrained(&config, model.path(), &[])?;
        let source = Source::open(model.path())?;
        assert_eq!(source.with_dropout(0.1, scratch.path())?.dir(), model.path(), "nothing to replace");
        let other = source.with_dropout(0.3, scratch.path())?;
        let read = Source::open(other.dir())?.config;
        assert_eq!((read.hidden_dropout_prob, read.attention_probs_dropout_prob), (0.3, 0.3));
        assert_eq!(
            EncoderConfig { hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1, ..read },
            source.config
        );
        other.classifier(2, 1, &Device::flex()).map(drop)
    }
}
