//! How rare each token of the corpus is.

use entromask_cli::check_interrupt;
use entromask_tables::Tokens;

use crate::part;
use crate::sources::Sources;
use entromask_policy::policies::Basis;

/// −smoothing · ln(occurrences) of each token id, `[vocab_size]`; empty for other bases.
///
/// Reads all parts: the draw of one row depends on the whole corpus.
pub(crate) fn scores(sources: &Sources, basis: Basis) -> anyhow::Result<Vec<f32>> {
    let Basis::Rarity { smoothing } = basis else { return Ok(Vec::new()) };
    let mut counts = vec![0u64; sources.vocabulary.size as usize];
    for index in 0..sources.tokens.manifest.parts("part").count() {
        check_interrupt()?;
        count(&mut counts, &part::tokens(&sources.tokens, index)?);
    }
    Ok(counts.into_iter().map(|count| score(count, smoothing)).collect())
}

fn count(counts: &mut [u64], tokens: &Tokens) {
    for (id, word) in tokens.input_ids.values.iter().zip(&tokens.word.values) {
        if let (Some(_), Some(count)) = (word, counts.get_mut(*id as usize)) {
            *count += 1;
        }
    }
}

fn score(count: u64, smoothing: f64) -> f32 {
    (-smoothing * (count.max(1) as f64).ln()) as f32
}
