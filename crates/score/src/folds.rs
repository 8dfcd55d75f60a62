//! Which positions of a row are masked together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use entromask_random::{keyed, open_unit, shuffled};

use crate::config::{Conditioning, Config};

/// The passes over row number `row`: for each, the positions to score, ascending. `word` is null at special tokens, and
/// where a window of a long row is only context; `readable` is the number of tokens that such a window could mask, context
/// included.
///
/// Masked conditionings mask exactly these positions in that pass. Without maskable tokens, or for a row outside of
/// the sample, there are no passes.
pub fn passes(config: &Config, row: u64, word: &[Option<u16>], readable: Option<usize>) -> Vec<Vec<u16>> {
    let maskable: Vec<u16> = (0..word.len()).filter(|&s| word[s].is_some()).map(|s| s as u16).collect();
    if maskable.is_empty() || !in_sample(config, row) {
        return Vec::new();
    }
    match config.conditioning {
        Conditioning::Kfold => {
            let count = fold_count(config, maskable.len(), readable.unwrap_or(maskable.len()));
            folds(config, row, word, &maskable, count)
        }
        Conditioning::MaskEach => maskable.into_iter().map(|position| vec![position]).collect(),
        Conditioning::Unmasked => vec![maskable],
    }
}

/// Whether row number `row` is to be scored.
pub(crate) fn in_sample(config: &Config, row: u64) -> bool {
    let chosen =
        config.fraction >= 1.0 || open_unit(&mut keyed(config.seed, "sample", row, 0)) < config.fraction;
    chosen && config.rows.is_none_or(|rows| row < rows)
}

/// As many sets as hide of all `readable` tokens what they are to hide: fewer where only `maskable` of them are scored.
fn fold_count(config: &Config, maskable: usize, readable: usize) -> usize {
    let share = maskable as f64 / readable.max(1) as f64;
    ((config.fold_count() as f64 * share).round() as usize).max(1)
}

/// Deals the units in random order, each to the set that is smallest so far: single positions make sets whose sizes
/// differ by at most one, words nearly so.
fn folds(config: &Config, row: u64, word: &[Option<u16>], maskable: &[u16], count: usize) -> Vec<Vec<u16>> {
    let units: Vec<&[u16]> = if config.whole_word {
        maskable.chunk_by(|&a, &b| word[a as usize] == word[b as usize]).collect()
    } else {
        maskable.chunks(1).collect()
    };
    let mut folds = vec![Vec::new(); count.min(units.len())];
    // The smallest first, and of equal ones the first.
    let mut sizes: BinaryHeap<_> = (0..folds.len()).map(|fold| Reverse((0, fold))).collect();
    for unit in shuffled(units.len(), &mut keyed(config.seed, "folds", row, 0)) {
        let mut smallest = sizes.peek_mut().expect("a row with units has folds");
        let Reverse((size, fold)) = &mut *smallest;
        folds[*fold].extend_from_slice(units[unit]);
        *size = folds[*fold].len();
    }
    for fold in &mut folds {
        fold.sort_unstable();
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [CLS], then words of one, two and three pieces by turns, then [SEP].
    fn row(pieces: usize) -> Vec<Option<u16>> {
        let words = (0u16..).flat_map(|word| vec![Some(word); word as usize % 3 + 1]);
        [None].into_iter().chain(words.take(pieces)).chain([None]).collect()
    }

    fn sorted(passes: &[Vec<u16>]) -> Vec<u16> {
        let mut all = passes.concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn folds_are_disjoint_complete_and_balanced() {
        for (pieces, folds) in [(20, 7), (7, 7), (3, 7), (100, 1), (126, 7)] {
            let passes = passes(&Config { folds: Some(folds), ..Config::default() }, 5, &row(pieces), None);
            assert_eq!(passes.len(), folds.min(pieces));
            assert_eq!(sorted(&passes), (1..=pieces as u16).collect::<Vec<_>>());
            let sizes: Vec<usize> = passes.iter().map(Vec::len).collect();
            assert!(sizes.iter().max() <= sizes.iter().min().map(|size| size + 1).as_ref(), "{sizes:?}");
            assert!(passes.iter().all(|fold| fold.is_sorted()));
        }
    }

    #[test]
    fn a_window_hides_of_what_is_read_what_a_whole_row_would() {
        let sets = |scored, readable| passes(&Config::default(), 5, &row(scored), Some(readable));
        for (scored, readable, count) in [(100, 100, 7), (50, 100, 4), (70, 100, 5), (2, 100, 1)] {
            let sets = sets(scored, readable);
            assert_eq!((sets.len(), sorted(&sets).len()), (count, scored));
            assert!(sets.iter().all(|set| set.len() <= readable.div_ceil(7) + 1));
        }
    }

    #[test]
    fn whole_words_stay_together() {
        let (config, word) = (Config { whole_word: true, ..Config::default() }, row(40));
        let passes = passes(&config, 5, &word, None);
        assert_eq!(sorted(&passes), (1..=40).collect::<Vec<u16>>());
        let fold_of = |position: u16| passes.iter().position(|fold| fold.contains(&position));
        for (a, b) in (1..40).map(|a| (a, a + 1)).filter(|&(a, b)| word[a as usize] == word[b as usize]) {
            assert_eq!(fold_of(a), fold_of(b));
        }
    }

    #[test]
    fn folds_depend_on_row_and_seed_only() {
        let of = |seed, number| passes(&Config { seed, ..Config::default() }, number, &row(30), None);
        assert_eq!(of(1, 5), of(1, 5));
        assert_ne!(of(1, 5), of(1, 6));
        assert_ne!(of(1, 5), of(2, 5));
    }

    #[test]
    fn other_conditionings() {
        let each = Config { conditioning: Conditioning::MaskEach, ..Config::default() };
        assert_eq!(passes(&each, 0, &row(3), None), [[1], [2], [3]]);
        let unmasked = Config { conditioning: Conditioning::Unmasked, ..Config::default() };
        assert_eq!(passes(&unmasked, 0, &row(3), None), [[1, 2, 3]]);
        assert!(passes(&unmasked, 0, &[None, None], None).is_empty());
    }

    #[test]
    fn a_sample_is_about_as_large_as_asked() {
        let scored = |config: &Config| {
            (0..2000).filter(|&number| !passes(config, number, &row(1), None).is_empty()).count()
        };
        let sampled = scored(&Config { fraction: 0.25, ..Config::default() });
        assert!((430..570).contains(&sampled), "{sampled}");
        assert_eq!(scored(&Config { rows: Some(17), ..Config::default() }), 17);
    }
}
