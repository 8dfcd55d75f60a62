//! A sample of the corpus's rows.

use std::collections::BTreeMap;

use entromask_artifact::Output;
use entromask_random::{below, keyed};
use entromask_tables::{Ragged, Tokens};

/// `count` of the corpus's rows, one from each of as many equal stretches: part → places in it, ascending.
pub(crate) fn places(parts: &[(usize, &Output)], count: u64, seed: u64) -> BTreeMap<usize, Vec<usize>> {
    let sizes: Vec<u64> = parts.iter().map(|(_, part)| part.rows.unwrap_or(0)).collect();
    let total: u64 = sizes.iter().sum();
    let count = count.min(total);
    let mut chosen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let start = |stretch: u64| (u128::from(stretch) * u128::from(total) / u128::from(count)) as u64;
    for stretch in 0..count {
        let length = (start(stretch + 1) - start(stretch)) as usize;
        let within = below(length, &mut keyed(seed, "fidelity", stretch, 0)) as u64;
        let (part, place) = locate(&sizes, start(stretch) + within);
        chosen.entry(part).or_default().push(place);
    }
    chosen
}

fn locate(sizes: &[u64], mut row: u64) -> (usize, usize) {
    for (part, &size) in sizes.iter().enumerate() {
        if row < size {
            return (part, row as usize);
        }
        row -= size;
    }
    (sizes.len(), 0)
}

/// Adds the rows at `places` of `from` to `to`; columns that were not read stay empty.
pub(crate) fn take(from: &Tokens, places: &[usize], to: &mut Tokens) {
    for &place in places {
        to.row.push(from.row[place]);
        to.doc.push(from.doc[place]);
        to.text.extend(from.text.get(place).cloned());
        copy(&from.input_ids, place, &mut to.input_ids);
        copy(&from.word, place, &mut to.word);
        copy(&from.begin, place, &mut to.begin);
        copy(&from.end, place, &mut to.end);
    }
}

fn copy<T: Copy>(from: &Ragged<T>, place: usize, to: &mut Ragged<T>) {
    if !from.is_empty() {
        to.push(from.row(place).iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[u64]) -> Vec<Output> {
        let part = |&rows: &u64| Output {
            file: String::new(),
            rows: Some(rows),
            bytes: 0,
            blake3: String::new(),
            log: false,
        };
        sizes.iter().map(part).collect()
    }

    #[test]
    fn rows_are_spread_over_the_corpus_and_distinct() {
        let parts = parts(&[50, 30, 20]);
        let parts: Vec<_> = parts.iter().enumerate().collect();
        let chosen = places(&parts, 10, 1);
        assert_eq!(chosen.values().map(Vec::len).collect::<Vec<_>>(), [5, 3, 2]);
        assert!(chosen.values().all(|places| places.is_sorted_by(|a, b| a < b)), "{chosen:?}");
        assert_eq!(places(&parts, 10, 1), chosen);
        assert_ne!(places(&parts, 10, 2), chosen);
        assert_eq!(places(&parts, 63, 1).values().map(Vec::len).sum::<usize>(), 63);
        let all = places(&parts, 1000, 1);
        assert_eq!(all.values().map(Vec::len).collect::<Vec<_>>(), [50, 30, 20]);
    }

    #[test]
    fn an_empty_corpus_has_no_rows() {
        assert!(places(&[], 10, 1).is_empty());
    }

    #[test]
    fn taken_rows_keep_what_was_read() {
        let from = Tokens {
            row: vec![7, 8],
            doc: vec![0, 1],
            input_ids: Ragged::from_rows([vec![1, 2], vec![3]]),
            word: Ragged::from_rows([vec![None, Some(0)], vec![Some(1)]]),
            ..Tokens::default()
        };
        let mut to = Tokens::default();
        take(&from, &[1], &mut to);
        assert_eq!((to.row, to.doc, to.input_ids.row(0)), (vec![8], vec![1], &[3][..]));
        assert!(to.text.is_empty() && to.begin.is_empty());
    }
}
