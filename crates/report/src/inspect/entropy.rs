//! The view of an entropy artifact.

use std::collections::BTreeMap;

use entromask_tables::{Entropies, TokenColumns, Tokens};
use serde::Serialize;

use super::target::Target;
use super::{Options, rows};
use crate::corpus::Corpus;
use crate::drift::Drift;
use crate::nats::{Bin, Nats, Summary};
use crate::passage::Passage;
use crate::sample::{self, LookedAt};
use crate::scan::{EntropyScan, Ranking};

/// Bars of the histogram, about.
const BARS: usize = 20;
/// Tokens at either end of the ranking.
const RANKED: usize = 10;

/// What is in an entropy artifact.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EntropyView {
    /// Entropies, in nats.
    pub entropy: Summary,
    /// Surprisals, in nats.
    pub surprisal: Summary,
    /// Further measures by name; margin and normalised entropy have no unit.
    pub measures: BTreeMap<String, Summary>,
    /// Positions without a score.
    pub unscored: u64,
    /// ln of the vocabulary's size, the largest possible entropy, if the tokens are known and the teacher's are the same.
    pub ln_vocabulary: Option<f64>,
    /// Entropies by size.
    pub histogram: Vec<Bin>,
    /// The hardest and the easiest tokens.
    pub ranking: Ranking,
    /// Against the round of self-masking before, if there was one.
    pub drift: Option<Drift>,
    /// A row as text.
    pub passage: Option<Passage>,
}

pub(super) fn view(
    target: &Target,
    options: &Options,
    notes: &mut Vec<String>,
) -> anyhow::Result<(LookedAt, EntropyView)> {
    let corpus = corpus(target, notes);
    let parts = target.parts("part-");
    let (chosen, looked) = sample::choose(&parts, options.budget());
    let mut scan = EntropyScan::default();
    let mut further = BTreeMap::<String, Nats>::new();
    for &index in &chosen {
        let path = target.dir.join(&parts[index].file);
        let names = Entropies::measures_of(&path)?;
        let part = Entropies::read_measures(&path, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        for (name, rows) in &part.measures {
            let nats = further.entry(name.clone()).or_default();
            rows.values.iter().flatten().for_each(|&value| nats.add(value));
        }
        let tokens =
            corpus.as_ref().and_then(|corpus| tokens(corpus, target, index, TokenColumns::default()));
        scan.add(&part, tokens.as_ref());
    }
    let mut view = EntropyView {
        entropy: scan.entropy.summary(),
        surprisal: scan.surprisal.summary(),
        measures: further.into_iter().map(|(name, nats)| (name, nats.summary())).collect(),
        unscored: scan.unscored,
        ln_vocabulary: corpus.as_ref().filter(|_| !is_carried(target)).and_then(Corpus::ln_vocabulary),
        histogram: scan.entropy.histogram(scan.entropy.occupied(), BARS),
        ..EntropyView::default()
    };
    if let (Some(manifest), None) = (&target.manifest, &target.part) {
        view.drift = Drift::of(&target.dir, manifest, options.budget())?;
    }
    if let (Some(corpus), Some(&first)) = (&corpus, chosen.first()) {
        view.ranking = scan.ranking(RANKED, options.min_count, &corpus.names);
        let (part, row) = options
            .row
            .map_or(Ok((first, None)), |row| rows::find(&parts, row).map(|(part, row)| (part, Some(row))))?;
        view.passage = passage(target, corpus, part, row)?;
    }
    Ok((looked, view))
}

/// Whether values come from a teacher with another tokenizer: sums over several predictions have no common limit.
fn is_carried(target: &Target) -> bool {
    target.manifest.as_ref().is_some_and(|manifest| manifest.config.get("carry").is_some())
}

/// The tokens behind an artifact, or a note why they cannot be shown.
pub(super) fn corpus(target: &Target, notes: &mut Vec<String>) -> Option<Corpus> {
    let manifest = target.manifest.as_ref();
    let found = manifest.map_or_else(
        || Err("without a manifest the tokens are not known".to_string()),
        |manifest| Corpus::behind(manifest, &target.dir),
    );
    found.map_err(|why| notes.push(format!("no text is shown: {why}"))).ok()
}

/// Part `index` of the tokens; of a part that is looked at alone, the one with the number in its name.
pub(super) fn tokens(
    corpus: &Corpus,
    target: &Target,
    index: usize,
    columns: TokenColumns,
) -> Option<Tokens> {
    corpus.read(token_part(target, index), columns).ok()
}

pub(super) fn token_part(target: &Target, index: usize) -> usize {
    target.part.as_deref().and_then(part_number).unwrap_or(index)
}

/// `part-18b48cec-00012.parquet` → 12.
pub(super) fn part_number(file: &str) -> Option<usize> {
    file.strip_suffix(".parquet")?.rsplit('-').next()?.parse().ok()
}

fn passage(
    target: &Target,
    corpus: &Corpus,
    index: usize,
    row: Option<usize>,
) -> anyhow::Result<Option<Passage>> {
    let file = target.parts("part-")[index].file.clone();
    let scores = Entropies::read(&target.dir.join(file))?;
    let row = row.unwrap_or_else(|| rows::typical(&scores.entropy));
    let Some(tokens) = tokens(corpus, target, index, TokenColumns::ALL) else { return Ok(None) };
    if row >= tokens.rows() || row >= scores.rows() {
        return Ok(None);
    }
    let mut passage = Passage::new(&tokens, row, &corpus.names);
    passage.scored(scores.entropy.row(row), scores.surprisal.row(row));
    Ok(Some(passage.finished()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_carry_their_number() {
        assert_eq!(part_number("part-18b48cec-00012.parquet"), Some(12));
        assert_eq!(part_number("epoch-003-18b48cec-00001.parquet"), Some(1));
        assert_eq!(part_number("results.json"), None);
    }
}
