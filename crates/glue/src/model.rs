//! The model folder that is fine-tuned: ours, or any Hugging Face folder of a supported family.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use entromask_artifact::{Input, Kind, MANIFEST, Manifest};
use entromask_encoder::{EncoderConfig, SequenceClassifier, pretrained_files};
use entromask_fault::Fault;

const TOKENIZER: &str = "tokenizer.json";

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

    /// The model with another dropout.
    #[must_use]
    pub fn with_dropout(&self, dropout: f64) -> Self {
        Self { dir: self.dir.clone(), config: self.config.clone().with_dropout(dropout) }
    }

    /// A trainable classifier on the folder's encoder; the head is drawn from `seed`.
    pub fn classifier(
        &self,
        outputs: usize,
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<SequenceClassifier> {
        SequenceClassifier::init_from_encoder(
            &self.dir,
            &self.config,
            outputs,
            seed,
            &device.clone().autodiff(),
        )
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
    let remedy = "--model takes a Hugging Face folder with config.json, weights and tokenizer.json";
    let files = pretrained_files(dir, remedy)?;
    if let Some(missing) = files.iter().chain([&dir.join(TOKENIZER)]).find(|file| !file.is_file()) {
        return Err(Fault::input(format!("{}: no such file", missing.display())).remedy(remedy).into());
    }
    Input::files("model", dir, &files, remedy)
}
