//! The artifacts that masks are made from.

use std::path::{Path, PathBuf};

use entromask_artifact::{Input, Kind, Manifest, Recipe};
use entromask_fault::Fault;

use crate::classes::Entries;
use crate::part::MARGIN;
use crate::stage::Paths;
use entromask_policy::corruption::Vocabulary;
use entromask_policy::policies::Basis;
use entromask_policy::{Class, Config};
use entromask_tables::Measure;
use serde_json::Value;

const TOKENIZER: &str = "tokenizer.json";

/// The artifacts that a configuration needs.
pub(crate) struct Sources {
    pub tokens: Artifact,
    pub entropy: Option<Artifact>,
    pub reference: Option<Artifact>,
    pub vocabulary: Vocabulary,
    /// Empty if the tokens artifact has no tokenizer.
    pub entries: Entries,
}

/// An artifact and where it is.
pub(crate) struct Artifact {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

impl Sources {
    pub(crate) fn load(config: &Config, paths: &Paths) -> anyhow::Result<Self> {
        config.validate()?;
        let tokens = Artifact::load(&paths.tokens, Kind::Tokens)?;
        let basis = config.policy.basis();
        let needs_entropy = matches!(basis, Basis::Measure | Basis::Excess);
        let scored = |needed: bool, flag, dir: &Option<PathBuf>| {
            let missing = || {
                let remedy =
                    format!("score {} with entromask-score and pass its folder", tokens.dir.display());
                config.policy.missing(flag, remedy)
            };
            let dir = needed.then(|| dir.as_deref().ok_or_else(missing)).transpose()?;
            dir.map(|dir| Artifact::load(dir, Kind::Entropy)?.scoring(&tokens)).transpose()
        };
        let entropy = scored(needs_entropy, "--entropy", &paths.entropy)?;
        let reference = scored(basis == Basis::Excess, "--reference", &paths.reference)?;
        entropy
            .iter()
            .zip(&reference)
            .try_for_each(|(entropy, reference)| entropy.check_beside(reference))?;
        entropy.iter().chain(&reference).try_for_each(|artifact| artifact.check_measure(&config.measure))?;
        let vocabulary = vocabulary(&tokens)?;
        let entries = entries(config, &tokens)?;
        Ok(Self { tokens, entropy, reference, vocabulary, entries })
    }

    pub(crate) fn recipe(&self, config: &Config) -> anyhow::Result<Recipe> {
        let input = |role, artifact: &Artifact| Input::artifact(role, &artifact.manifest, &artifact.dir);
        let mut inputs = vec![input("tokens", &self.tokens)];
        inputs.extend(self.entropy.iter().map(|artifact| input("entropy", artifact)));
        inputs.extend(self.reference.iter().map(|artifact| input("reference", artifact)));
        let mut semantic = serde_json::to_value(config.effective())?;
        if semantic["measure"] == MARGIN {
            // Masks of the first version were selected by the margin itself.
            semantic["selected_by"] = "1 - margin".into();
        }
        if has_schedule_off_its_end(&semantic) {
            // Once the last value of such a schedule was another one in the last digit.
            semantic["ends"] = "exact".into();
        }
        if !config.exclude.is_empty() && !self.entries.told_by_names {
            // The first versions found other classes in such a vocabulary.
            semantic["classes_by"] = "tokenizer".into();
        }
        if !semantic["whole_word"].is_null() && !semantic["exclude"].is_null() {
            // Masks of the first version spared the whole word that an excluded piece is in.
            semantic["excluded_by"] = "piece".into();
        }
        if config.exclude.contains(&Class::Punctuation) && self.entries.has_marks {
            // Once these were punctuation.
            semantic["marks"] = "word".into();
        }
        Ok(Recipe { kind: Kind::Masks, config: semantic, inputs })
    }

    /// Content digest of the model whose entropies decide, if any do.
    pub(crate) fn scored_by(&self) -> Option<&str> {
        Some(&self.entropy.as_ref()?.manifest.input("teacher")?.content)
    }

    /// Compares the files that are going to be read with their digests.
    pub(crate) fn verify(&self) -> anyhow::Result<()> {
        let Artifact { dir, manifest } = &self.tokens;
        manifest.parts("part").try_for_each(|part| part.verify(dir))?;
        // It says which tokens are never masked, and may be missing where none is excluded.
        manifest.verify_read(dir, |file| file == TOKENIZER && dir.join(file).exists())?;
        let mut scores = self.entropy.iter().chain(&self.reference);
        scores.try_for_each(|artifact| artifact.manifest.verify(&artifact.dir))
    }

    /// For each token id whether it is never masked.
    pub(crate) fn excluded(&self, config: &Config) -> Vec<bool> {
        if config.exclude.is_empty() {
            return Vec::new();
        }
        let excluded = |id| self.entries.class(id).is_some_and(|class| config.exclude.contains(&class));
        (0..self.vocabulary.size).map(excluded).collect()
    }
}

impl Artifact {
    fn load(dir: &Path, kind: Kind) -> anyhow::Result<Self> {
        Ok(Self { dir: dir.into(), manifest: Manifest::load(dir, kind)? })
    }

    /// The path of part `index`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there are fewer parts.
    pub(crate) fn part(&self, index: usize) -> anyhow::Result<PathBuf> {
        let part = self.manifest.parts("part").nth(index).map(|output| self.dir.join(&output.file));
        let missing =
            || Fault::input(format!("{}: no part {index}", self.dir.display())).remedy("run its stage again");
        Ok(part.ok_or_else(missing)?)
    }

    /// Looks into the first part only, since a plan asks too.
    ///
    /// # Errors
    /// A [`Fault`] of class input if it was scored without the measure.
    fn check_measure(&self, name: &str) -> anyhow::Result<()> {
        let first = self.part(0).ok().filter(|part| part.is_file());
        first.map_or(Ok(()), |part| Measure::check(&part, name))
    }

    /// Whether a difference to the entropies of `reference` means something.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if they are the same.
    fn check_beside(&self, reference: &Self) -> anyhow::Result<()> {
        let (dir, other) = (self.dir.display(), reference.dir.display());
        if self.manifest.content == reference.manifest.content {
            return Err(Fault::usage(format!("{dir} and --reference {other} hold the same entropies"))
                .remedy("pass those of another model as --reference")
                .into());
        }
        for key in ["conditioning", "folds", "whole_word"] {
            let (ours, theirs) = (&self.manifest.config[key], &reference.manifest.config[key]);
            if ours != theirs {
                tracing::warn!(
                    "{dir} was scored with {key} = {ours}, {other} with {theirs}: their difference says little"
                );
            }
        }
        Ok(())
    }

    /// Itself, if it has the entropies of these tokens.
    fn scoring(self, tokens: &Self) -> anyhow::Result<Self> {
        if self.manifest.is_made_from("tokens", &tokens.manifest) {
            return Ok(self);
        }
        let scored = self.manifest.input("tokens").map_or("nothing", |input| &input.content);
        let (dir, wanted) = (self.dir.display(), tokens.dir.display());
        let found =
            format!("{dir}: scores the tokens {scored}, but {wanted} holds {}", tokens.manifest.content);
        Err(Fault::input(found)
            .remedy("score these tokens with entromask-score, or pass the tokens that were scored")
            .into())
    }
}

fn vocabulary(tokens: &Artifact) -> anyhow::Result<Vocabulary> {
    let stats = &tokens.manifest.stats;
    let special = Vocabulary::special_of(&stats["special"]);
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64()?).ok();
    match (number(&stats["vocab_size"]), number(&stats["special"]["mask"])) {
        (Some(size), Some(mask)) => Ok(Vocabulary { size, mask, special }),
        _ => Err(Fault::input(format!(
            "{}: the manifest names no vocabulary size or mask token",
            tokens.dir.display()
        ))
        .remedy("tokenize the corpus again")
        .into()),
    }
}

/// The vocabulary's entries. Without a tokenizer reports name no tokens, and no class can be excluded.
fn entries(config: &Config, tokens: &Artifact) -> anyhow::Result<Entries> {
    let path = tokens.dir.join(TOKENIZER);
    if config.exclude.is_empty() && !path.exists() {
        return Ok(Entries::default());
    }
    Entries::load(&path)
}

/// Whether the sum that once ended a schedule in `config` is not its last value.
fn has_schedule_off_its_end(config: &Value) -> bool {
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    let is_off = number("from")
        .zip(number("to"))
        .is_some_and(|(from, to)| (from + (to - from)).to_bits() != to.to_bits());
    match config {
        Value::Object(map) => is_off || map.values().any(has_schedule_off_its_end),
        Value::Array(values) => values.iter().any(has_schedule_off_its_end),
        _ => false,
    }
}
