//! The model folder that is fine-tuned: ours, or any Hugging Face folder of a supported family.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use entromask_artifact::{Input, Kind, MANIFEST, Manifest};
use entromask_encoder::{EncoderConfig, Pooling, SequenceClassifier, pretrained_files};
use entromask_fault::Fault;
use entromask_kernels::Products;

use crate::config::Head;
use crate::rows::RowTokenizer;

const TOKENIZER: &str = "tokenizer.json";

/// A model folder with its configuration.
#[derive(Clone, Debug)]
pub struct Source {
    dir: PathBuf,
    tokenizer_dir: PathBuf,
    /// Shape of the model.
    pub config: EncoderConfig,
    products: Products,
}

impl Source {
    /// Reads the configuration in `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let config = EncoderConfig::from_pretrained(dir)?;
        Ok(Self { dir: dir.into(), tokenizer_dir: dir.into(), config, products: Products::default() })
    }

    /// With the matrix products of what is trained in another type.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }

    /// The tokenizer of the folder, for rows of at most `max_length` tokens and what the model can read.
    pub fn tokenizer(&self, max_length: usize) -> anyhow::Result<RowTokenizer> {
        let longest = max_length.min(self.config.max_seq_length());
        RowTokenizer::load(&self.tokenizer_dir, self.config.vocab_size, longest)
    }

    /// The model with another dropout.
    #[must_use]
    pub fn with_dropout(&self, dropout: f64) -> Self {
        Self { config: self.config.clone().with_dropout(dropout), ..self.clone() }
    }

    /// Copies the tokenizer into `dir`, so that a classifier there can be used alone.
    pub fn copy_tokenizer(&self, dir: &Path) -> anyhow::Result<()> {
        for name in [TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"] {
            let file = self.tokenizer_dir.join(name);
            if file.is_file() {
                fs_err::copy(file, dir.join(name))?;
            }
        }
        Ok(())
    }

    /// The weights in another folder of the same shape.
    #[must_use]
    pub fn at(&self, dir: &Path) -> Self {
        Self { dir: dir.into(), ..self.clone() }
    }

    /// A trainable classifier on the folder's encoder; what is new is drawn from `seed`.
    pub fn classifier(
        &self,
        head: Head,
        outputs: usize,
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<SequenceClassifier> {
        let (dir, config, device) = (&self.dir, &self.config, device.clone().autodiff());
        let pooling = match head {
            Head::Pooler => {
                let model = SequenceClassifier::init_from_encoder(dir, config, outputs, seed, &device)?;
                return Ok(model.with_products(self.products));
            }
            Head::Cls => Pooling::Cls,
            Head::Mean => Pooling::Mean,
        };
        let model = SequenceClassifier::init_probe(dir, config, outputs, pooling, seed, &device)?;
        Ok(model.with_products(self.products))
    }
}

/// The key in the folder's manifest, if it is ours.
pub fn key(dir: &Path) -> anyhow::Result<Option<String>> {
    if !dir.join(MANIFEST).is_file() {
        return Ok(None);
    }
    Ok(Some(Manifest::load(dir, Kind::Model)?.key))
}

/// The folder as an input: by its manifest, or by its files where it is not ours.
///
/// # Errors
/// A [`Fault`] of class input if it is no model folder, or its files are not those of its manifest.
pub fn input(dir: &Path) -> anyhow::Result<Input> {
    let remedy = "--model takes a Hugging Face folder with config.json, weights and tokenizer.json";
    Input::model("model", dir, remedy, || {
        let files = pretrained_files(dir, remedy)?;
        let tokenizer = dir.join(TOKENIZER);
        if let Some(missing) = files.iter().chain([&tokenizer]).find(|file| !file.is_file()) {
            return Err(Fault::input(format!("{}: no such file", missing.display())).remedy(remedy).into());
        }
        Ok(files)
    })
}
