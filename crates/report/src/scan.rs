//! Statistics over parts of the tables, in memory that does not grow with the corpus.

use entromask_tables::{Entropies, Masks, Tokens};
use serde::Serialize;

use crate::corpus::Names;
use crate::nats::Nats;

/// A token whose predictions are ranked must have been scored about so often.
pub const MIN_COUNT: u64 = 20;
/// With fewer ranked tokens than this the least count is lowered.
const ENOUGH_RANKED: usize = 20;

/// Decimals of means at most: more are noise of f32.
const MOST_DECIMALS: usize = 5;

/// Scores of many rows.
#[derive(Clone, Debug, Default)]
pub struct EntropyScan {
    /// Entropies.
    pub entropy: Nats,
    /// Surprisals.
    pub surprisal: Nats,
    /// Positions without a score: special tokens, and rows that were left out.
    pub unscored: u64,
    /// Count and sum of entropies of each token id.
    by_token: Vec<(u64, f64)>,
}

/// Masks of many rows.
#[derive(Clone, Debug, Default)]
pub struct MaskScan {
    /// Rows, each epoch counted.
    pub rows: u64,
    /// Masked positions.
    pub masked: u64,
    /// Masked positions that the model sees as something else than the mask token.
    pub corrupted: u64,
    /// Maskable positions; 0 if the tokens are not known.
    pub maskable: u64,
    /// Entropies of the masked positions; empty if they are not known.
    pub entropy: Nats,
    /// Occurrences and masked occurrences of each token id.
    by_token: Vec<(u64, u64)>,
}

/// One token and its mean entropy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenMean {
    /// Name in the vocabulary.
    pub token: String,
    /// How often it was scored.
    pub count: u64,
    /// Mean entropy in nats.
    pub mean: f64,
}

/// The tokens that are hardest and easiest to predict.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ranking {
    /// Tokens scored less often than this are left out.
    pub min_count: u64,
    /// Highest mean first.
    pub highest: Vec<TokenMean>,
    /// Lowest mean first.
    pub lowest: Vec<TokenMean>,
}

/// One token and how often it is masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenMasked {
    /// Name in the vocabulary.
    pub token: String,
    /// Occurrences, each epoch counted.
    pub count: u64,
    /// Masked occurrences.
    pub masked: u64,
}

impl Ranking {
    /// Decimals that tell the first of each list from its last: 2, or more where those agree to two.
    pub fn decimals(&self) -> usize {
        let differ = |list: &[TokenMean], decimals: usize| match list {
            [first, .., last] => (first.mean - last.mean).abs() >= 0.1f64.powi(decimals as i32),
            _ => true,
        };
        let both = |&decimals: &usize| differ(&self.highest, decimals) && differ(&self.lowest, decimals);
        (2..MOST_DECIMALS).find(both).unwrap_or(MOST_DECIMALS)
    }
}

impl EntropyScan {
    /// Adds a part; with `tokens`, its rows' tokens, also to the means of each token.
    pub fn add(&mut self, part: &Entropies, tokens: Option<&Tokens>) {
        let ids = tokens.filter(|tokens| tokens.input_ids.offsets == part.entropy.offsets);
        for (index, entropy) in part.entropy.values.iter().enumerate() {
            match entropy {
                Some(nats) => {
                    self.entropy.add(*nats);
                    if let Some(ids) = ids {
                        let (count, sum) = at(&mut self.by_token, ids.input_ids.values[index]);
                        *count += 1;
                        *sum += f64::from(*nats);
                    }
                }
                None => self.unscored += 1,
            }
        }
        part.surprisal.values.iter().flatten().for_each(|&nats| self.surprisal.add(nats));
    }

    /// The `n` tokens at either end, or nothing if the tokens were not known.
    pub fn ranking(&self, n: usize, min_count: u64, names: &Names) -> Ranking {
        let min_count = least_count(min_count, &self.by_token.iter().map(|(count, _)| *count));
        let ids = (0u32..).zip(&self.by_token).filter(|(_, (count, _))| *count >= min_count);
        let mut means: Vec<_> = ids.map(|(id, &(count, sum))| (sum / count as f64, count, id)).collect();
        means.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        let entry = |&(mean, count, id): &(f64, u64, u32)| TokenMean { token: names.name(id), count, mean };
        let lowest = means.iter().rev().take(n).map(entry).collect();
        Ranking { min_count, highest: means.iter().take(n).map(entry).collect(), lowest }
    }
}

impl MaskScan {
    /// Adds a part, with its rows' tokens and scores if they are known.
    pub fn add(
        &mut self,
        part: &Masks,
        tokens: Option<&Tokens>,
        scores: Option<&Entropies>,
        mask_id: Option<u32>,
    ) {
        self.rows += part.rows() as u64;
        self.masked += part.positions.values.len() as u64;
        if let Some(mask_id) = mask_id {
            self.corrupted += part.inputs.values.iter().filter(|&&input| input != mask_id).count() as u64;
        }
        for (index, positions) in part.positions.iter().enumerate() {
            if let Some(tokens) = tokens.filter(|tokens| tokens.row.get(index) == part.row.get(index)) {
                self.add_row(tokens, index, positions);
            }
            if let Some(scores) = scores.filter(|scores| scores.row.get(index) == part.row.get(index)) {
                let row = scores.entropy.row(index);
                let masked = positions.iter().filter_map(|&at| row.get(at as usize).copied().flatten());
                masked.for_each(|nats| self.entropy.add(nats));
            }
        }
    }

    fn add_row(&mut self, tokens: &Tokens, index: usize, positions: &[u16]) {
        let ids = tokens.input_ids.row(index);
        for (&id, word) in ids.iter().zip(tokens.word.row(index)) {
            let maskable = u64::from(word.is_some());
            self.maskable += maskable;
            at(&mut self.by_token, id).0 += maskable;
        }
        for id in positions.iter().filter_map(|&position| ids.get(position as usize)) {
            at(&mut self.by_token, *id).1 += 1;
        }
    }

    /// The `n` tokens that are masked most often, first the most frequent one.
    pub fn most_masked(&self, n: usize, names: &Names) -> Vec<TokenMasked> {
        let mut all: Vec<_> = (0u32..).zip(&self.by_token).filter(|(_, (_, masked))| *masked > 0).collect();
        all.sort_by_key(|(id, (_, masked))| (std::cmp::Reverse(*masked), *id));
        let entry =
            |(id, &(count, masked)): (u32, &(u64, u64))| TokenMasked { token: names.name(id), count, masked };
        all.into_iter().take(n).map(entry).collect()
    }
}

/// `min_count`, or less where so few tokens occur so often that little would be ranked.
pub(crate) fn least_count(min_count: u64, counts: &(impl Iterator<Item = u64> + Clone)) -> u64 {
    let mut least = min_count.max(1);
    while least > 1 && counts.clone().filter(|&count| count >= least).count() < ENOUGH_RANKED {
        least /= 2;
    }
    least
}

/// Entry `id` of a list that grows as needed.
pub(crate) fn at<T: Clone + Default>(list: &mut Vec<T>, id: u32) -> &mut T {
    let id = id as usize;
    if id >= list.len() {
        list.resize(id + 1, T::default());
    }
    &mut list[id]
}

#[cfg(test)]
mod tests {
    use entromask_tables::Ragged;

    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            row: vec![0, 1],
            doc: vec![0, 0],
            text: vec![],
            input_ids: Ragged::from_rows([vec![2, 10, 11, 3], vec![2, 10, 3]]),
            word: Ragged::from_rows([vec![None, Some(0), Some(1), None], vec![None, Some(0), None]]),
            begin: Ragged::default(),
            end: Ragged::default(),
        }
    }

    fn entropies() -> Entropies {
        let lists = Ragged::from_rows([vec![None, Some(1.0), Some(4.0), None], vec![None, Some(2.0), None]]);
        Entropies { row: vec![0, 1], entropy: lists.clone(), surprisal: lists, ..Entropies::default() }
    }

    #[test]
    fn means_are_by_token_and_the_least_count_gives_way() {
        let mut scan = EntropyScan::default();
        scan.add(&entropies(), Some(&tokens()));
        let ranking = scan.ranking(1, MIN_COUNT, &Names::default());
        assert_eq!((scan.unscored, ranking.min_count), (4, 1));
        assert_eq!(ranking.highest, [TokenMean { token: "#11".into(), count: 1, mean: 4.0 }]);
        assert_eq!(ranking.lowest, [TokenMean { token: "#10".into(), count: 2, mean: 1.5 }]);
    }

    #[test]
    fn means_have_the_decimals_that_tell_them_apart() {
        let decimals = |highest: &[f64], lowest: &[f64]| {
            let list = |means: &[f64]| {
                let token = |&mean: &f64| TokenMean { token: "a".into(), count: 1, mean };
                means.iter().map(token).collect()
            };
            Ranking { min_count: 1, highest: list(highest), lowest: list(lowest) }.decimals()
        };
        assert_eq!(decimals(&[9.0, 8.5], &[0.1, 0.2]), 2);
        assert_eq!(decimals(&[6.6352, 6.6349], &[6.62, 6.63]), 4);
        assert_eq!(decimals(&[6.63, 6.63], &[6.62, 6.63]), MOST_DECIMALS);
        assert_eq!((decimals(&[6.63], &[6.63]), decimals(&[], &[])), (2, 2));
    }

    #[test]
    fn scores_of_other_rows_rank_nothing() {
        let mut scan = EntropyScan::default();
        let other = Tokens { input_ids: Ragged::from_rows([vec![2, 3]]), ..tokens() };
        scan.add(&entropies(), Some(&other));
        assert!(scan.ranking(5, 1, &Names::default()).highest.is_empty());
        assert_eq!(scan.entropy.summary().count, 3);
    }

    #[test]
    fn masks_are_counted_against_what_could_be_masked() {
        let masks = Masks {
            row: vec![0, 1],
            epoch: vec![0, 0],
            positions: Ragged::from_rows([vec![2], vec![1]]),
            inputs: Ragged::from_rows([vec![103], vec![55]]),
        };
        let mut scan = MaskScan::default();
        scan.add(&masks, Some(&tokens()), Some(&entropies()), Some(103));
        assert_eq!((scan.rows, scan.masked, scan.maskable, scan.corrupted), (2, 2, 3, 1));
        assert!((scan.entropy.mean() - 3.0).abs() < 1e-6);
        let most = scan.most_masked(5, &Names::default());
        assert_eq!((most[0].token.as_str(), most[0].count, most[0].masked), ("#10", 2, 1));
    }
}
