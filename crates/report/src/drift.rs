//! How much a model's view of its corpus changes from round to round of self-masking.

use std::path::{Path, PathBuf};

use entromask_artifact::{Input, Manifest};
use entromask_tables::Entropies;
use serde::Serialize;

use crate::pairs::Pairs;
use crate::sample;
use crate::trace::{locate, scorer};

/// The entropies of a round against those of the round before, by rank, since ranks decide what is masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// The entropies of the round before.
    pub before: PathBuf,
    /// Tokens compared.
    pub tokens: u64,
    /// Spearman's correlation over all of them; `None` where one side has no differences.
    pub spearman: Option<f64>,
    /// Its mean over the rows, in which budgets are spent.
    pub spearman_in_rows: Option<f64>,
    /// Tokens that the model trained on between the two.
    pub staleness: u64,
}

impl Drift {
    /// Compares the entropies in `dir`, of some parts if they have more than `budget` rows. `None` unless a model scored
    /// them that was trained on masks by its own, earlier entropies, and these are still there.
    ///
    /// # Errors
    /// A `Fault` of class input if a part of either is damaged.
    pub fn of(dir: &Path, entropy: &Manifest, budget: Option<u64>) -> anyhow::Result<Option<Self>> {
        let Some((before, earlier, staleness)) = before(dir, entropy) else { return Ok(None) };
        let parts: Vec<_> = entropy.parts("part").collect();
        let (chosen, _) = sample::choose(&parts, budget);
        let mut pairs = Pairs::default();
        for (index, other) in earlier.parts("part").enumerate().filter(|(index, _)| chosen.contains(index)) {
            let [old, new] = [before.join(&other.file), dir.join(&parts[index].file)];
            pairs.add(&Entropies::read(&old)?.entropy, &Entropies::read(&new)?.entropy)?;
        }
        Ok(Some(Self {
            before,
            tokens: pairs.len() as u64,
            spearman: pairs.spearman(),
            spearman_in_rows: pairs.spearman_in_rows(),
            staleness,
        }))
    }
}

/// The entropies of the round before, and how many tokens the scorer trained on since.
fn before(dir: &Path, entropy: &Manifest) -> Option<(PathBuf, Manifest, u64)> {
    let follow = |manifest: &Manifest, dir: &Path, role: &str| locate(manifest.input(role)?, dir).found();
    let (model_dir, model) = locate(scorer(entropy)?, dir).found()?;
    let (masks_dir, masks) = follow(&model, &model_dir, "masks")?;
    let (earlier_dir, earlier) = follow(&masks, &masks_dir, "entropy")?;
    let is_own = content(scorer(&earlier)) == content(model.input("continue_from"));
    let same_tokens = content(entropy.input("tokens")) == content(earlier.input("tokens"));
    (is_own && same_tokens).then_some((earlier_dir, earlier, model.cost.tokens))
}

fn content(input: Option<&Input>) -> Option<&str> {
    Some(&input?.content)
}
