//! How well any model predicts the held-out rows: by the mask that all runs validate with.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Kind, Manifest};
use entromask_encoder::MaskedLm;
use entromask_fault::Fault;
use serde::Serialize;

use crate::Compute;
use crate::job::{Facts, check_reader};
use crate::validation::{Score, Validation};

/// What a model scores on the held-out rows of a corpus.
#[derive(Clone, Debug, Serialize)]
pub struct Validated {
    /// The model's folder.
    pub model: PathBuf,
    /// Rows.
    pub rows: usize,
    /// Masked tokens in them.
    pub positions: usize,
    /// Mean surprisal of the masked tokens, nats.
    pub loss: f64,
    /// Share of them that are the most probable token.
    pub accuracy: f64,
    /// exp of the loss.
    pub perplexity: f64,
}

/// Scores the model in `folder` on the first `rows` held-out rows of `tokens`, `batch_size` at a time.
///
/// # Errors
/// Faults of class input (an artifact, a model that does not read these tokens, nothing held out) and device.
pub fn validate(
    folder: &Path,
    tokens: &Path,
    [rows, batch_size]: [usize; 2],
    compute: Compute,
) -> Result<Validated> {
    let manifest = Manifest::load(tokens, Kind::Tokens)?;
    let facts = Facts::read(&manifest, tokens)?;
    check_reader(folder, (tokens, &manifest), &facts)?;
    let (device, products) = entromask_device::open_to_train(compute.device, compute.dtype)?;
    let device = device.autodiff();
    let (model, config) = MaskedLm::from_pretrained_first(folder, facts.vocab_size, &device)?;
    let model = model.with_products(products);
    let validation = Validation::read(tokens, &manifest, facts.special.mask, rows)?;
    let score = validation.score(&model, &config, batch_size, &device)?;
    let Score { loss, accuracy, perplexity } = score.ok_or_else(|| nothing_held_out(tokens))?;
    if !loss.is_finite() {
        return Err(no_number(folder).into());
    }
    let (rows, positions) = validation.size();
    Ok(Validated { model: folder.into(), rows, positions, loss, accuracy, perplexity })
}

fn nothing_held_out(tokens: &Path) -> Fault {
    Fault::input(format!("{}: no row is held out", tokens.display()))
        .remedy("set valid_fraction in the corpus config, and tokenize again")
}

fn no_number(folder: &Path) -> Fault {
    Fault::input(format!("{}: its loss is no number", folder.display()))
        .remedy("take another model, or look whether its file is damaged")
}

impl fmt::Display for Validated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, rows, positions, loss, accuracy, perplexity } = self;
        let (model, percent) = (model.display(), 100.0 * accuracy);
        write!(
            f,
            "{model}: {loss:.3} nats a masked token, perplexity {perplexity:.1}, {percent:.1} % guessed "
        )?;
        write!(f, "({positions} tokens of {rows} held-out rows)")
    }
}
