//! One part of the tokens with all that its masks depend on.

use std::path::Path;

use entromask_artifact::Manifest;
use entromask_fault::Fault;
use entromask_tables::{Measure, Ragged, TokenColumns, Tokens};

use crate::sources::{Artifact, Sources};
use entromask_policy::Config;
use entromask_policy::policies::Basis;
use entromask_policy::{Row, Scores};

/// The measure that is low where the model is unsure; see [`Config::measure`].
pub(crate) const MARGIN: &str = "margin";

/// The measure that reports give, whatever is selected by.
const REPORTED: &str = "entropy";

/// One part of the tokens with its scores.
pub(crate) struct Part<'a> {
    pub tokens: Tokens,
    basis: Basis,
    measure: Option<Measure>,
    reference: Option<Measure>,
    /// Read only if it is not the measure.
    entropy: Option<Measure>,
    rarity: &'a [f32],
}

impl<'a> Part<'a> {
    /// Reads part `index`. `rarity` is the score of each token id, for [`Basis::Rarity`].
    pub(crate) fn read(
        sources: &Sources,
        config: &Config,
        rarity: &'a [f32],
        index: usize,
    ) -> anyhow::Result<Self> {
        let tokens = tokens(&sources.tokens, index)?;
        check_ids(&tokens, sources, index)?;
        let read = |artifact: &Option<Artifact>, name: &str| {
            artifact.as_ref().map(|artifact| column(&tokens, artifact, index, name)).transpose()
        };
        let config = &config.effective();
        let measure = read(&sources.entropy, &config.measure)?;
        let reference = read(&sources.reference, &config.measure)?;
        let entropy = if config.measure == REPORTED { None } else { read(&sources.entropy, REPORTED)? };
        Ok(Self { tokens, basis: config.policy.basis(), measure, reference, entropy, rarity })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.tokens.rows()).map(|index| self.row(index))
    }

    pub(crate) fn row(&self, index: usize) -> Row<'_> {
        let scores = match (self.basis, &self.measure, &self.reference) {
            (Basis::Rarity { .. }, ..) => Scores::ByToken(self.rarity),
            (Basis::Nothing, ..) | (_, None, _) => Scores::Nothing,
            (_, Some(measure), None) => Scores::Column(measure.values.row(index)),
            (_, Some(measure), Some(reference)) => {
                Scores::Difference(measure.values.row(index), reference.values.row(index))
            }
        };
        Row {
            number: self.tokens.row[index],
            input_ids: self.tokens.input_ids.row(index),
            word: self.tokens.word.row(index),
            scores,
        }
    }

    /// What reports give means of: the entropy, and what was selected by, as far as they are known.
    pub(crate) fn reported(&self) -> Vec<Reported<'_>> {
        let entropy = self.entropy.as_ref().or(self.measure.as_ref());
        let entropy = entropy.map(|values| Reported { name: REPORTED, values, reference: None });
        let other = self.entropy.as_ref().and(self.measure.as_ref());
        let other = other.map(|values| Reported { name: "measure", values, reference: None });
        let excess = self.measure.as_ref().zip(self.reference.as_ref());
        let excess =
            excess.map(|(values, reference)| Reported { name: "excess", values, reference: Some(reference) });
        [entropy, other, excess].into_iter().flatten().collect()
    }
}

/// Values of all tokens of a part, in the unit of their measure; of the margin, what is selected by.
pub(crate) struct Reported<'a> {
    /// `entropy`, `measure` (another column), or `excess` (over the reference).
    pub name: &'static str,
    values: &'a Measure,
    reference: Option<&'a Measure>,
}

impl Reported<'_> {
    /// The value at `index`, counted over all rows; 0 at special tokens.
    pub(crate) fn at(&self, index: usize) -> f64 {
        let of = |measure: &Measure| measure.values.values[index].map_or(0.0, f64::from);
        of(self.values) - self.reference.map_or(0.0, of)
    }
}

/// Ids and words of part `index`.
pub(crate) fn tokens(artifact: &Artifact, index: usize) -> anyhow::Result<Tokens> {
    let columns = TokenColumns { word: true, ..TokenColumns::default() };
    Tokens::read(&artifact.part(index)?, columns)
}

/// Ids are counted in tables as long as the vocabulary.
fn check_ids(tokens: &Tokens, sources: &Sources, index: usize) -> anyhow::Result<()> {
    let size = sources.vocabulary.size;
    let Some(id) = tokens.input_ids.values.iter().find(|&&id| id >= size) else { return Ok(()) };
    let path = sources.tokens.part(index)?;
    let found = format!("{}: token id {id} of a vocabulary of {size}", path.display());
    Err(Fault::input(found).remedy("tokenize the corpus again").into())
}

/// A measure of part `index`; every maskable token must have a score.
fn column(tokens: &Tokens, artifact: &Artifact, index: usize, name: &str) -> anyhow::Result<Measure> {
    let path = artifact.part(index)?;
    let mut measure = Measure::read(&path, name)?;
    if name == MARGIN {
        measure.values.values.iter_mut().flatten().for_each(|margin| *margin = 1.0 - *margin);
    }
    if is_carried(&artifact.manifest) {
        fill_gaps(&mut measure.values, tokens);
    }
    check_scores(tokens, &measure, &path, name)?;
    Ok(measure)
}

/// Whether the scores are those of a teacher with another tokenizer, for the whole corpus.
fn is_carried(entropy: &Manifest) -> bool {
    let config = &entropy.config;
    let sampled = config["fraction"].as_f64().is_some_and(|fraction| fraction < 1.0);
    config.get("carry").is_some() && config["rows"].is_null() && !sampled
}

/// Gives the mean of its row to each maskable token that the teacher has no token for: it is neither preferred nor spared.
fn fill_gaps(scores: &mut Ragged<Option<f32>>, tokens: &Tokens) {
    for row in 0..scores.rows().min(tokens.rows()) {
        let (range, word) = (scores.range(row), tokens.word.row(row));
        let known: Vec<f32> = scores.row(row).iter().flatten().copied().collect();
        let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
        for (score, _) in scores.values[range].iter_mut().zip(word).filter(|(_, word)| word.is_some()) {
            *score = score.or(Some(mean));
        }
    }
}

fn check_scores(tokens: &Tokens, measure: &Measure, path: &Path, name: &str) -> anyhow::Result<()> {
    if tokens.row != measure.row {
        return Err(Fault::input(format!("{}: its rows are not those of the tokens", path.display()))
            .remedy("score the tokens again")
            .into());
    }
    for (index, word) in tokens.word.iter().enumerate() {
        let scores = measure.values.row(index);
        let is_scored =
            |(word, score): (&Option<u16>, &Option<f32>)| word.is_none() || score.is_some_and(f32::is_finite);
        if scores.len() != word.len() || !word.iter().zip(scores).all(is_scored) {
            let row = tokens.row[index];
            let found = format!("{}: row {row} has tokens without a score in `{name}`", path.display());
            return Err(Fault::input(found)
                .remedy("score the whole corpus, without `rows` or `fraction` in the configuration, before selecting masks")
                .into());
        }
    }
    Ok(())
}
