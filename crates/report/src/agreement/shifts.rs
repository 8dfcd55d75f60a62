//! Which tokens two scorings see otherwise.

use entromask_tables::{Ragged, Tokens};
use serde::Serialize;

use crate::corpus::Names;
use crate::scan::{at, least_count};

/// The tokens whose mean entropy differs most.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shifts {
    /// Tokens that both scored less often than this are left out.
    pub min_count: u64,
    /// Number of the others whose means differ.
    pub tokens: u64,
    /// Those that lie farthest above the reference, the farthest first.
    pub above: Vec<Shift>,
    /// Those that lie farthest below it, or least above it, the lowest last.
    pub below: Vec<Shift>,
}

/// One token and its mean entropies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// Name in the vocabulary.
    pub token: String,
    /// How often both scored it.
    pub count: u64,
    /// Mean entropy by the reference and by the other, in nats.
    pub means: [f64; 2],
    /// How much the other is above the reference, in nats.
    pub difference: f64,
}

/// Id, count and mean entropies of a token.
type Ranked = (u32, u64, [f64; 2]);

/// Entropies of two scorings by token id: 24 bytes for each entry of the vocabulary.
#[derive(Debug, Default)]
pub(super) struct TokenMeans {
    /// Count and both sums.
    by_token: Vec<(u64, [f64; 2])>,
}

impl TokenMeans {
    /// Adds a part; nothing if the tokens are of other rows.
    pub(super) fn add(&mut self, tokens: &Tokens, [left, right]: [&Ragged<Option<f32>>; 2]) {
        if tokens.input_ids.offsets != left.offsets || left.offsets != right.offsets {
            return;
        }
        let values = left.values.iter().zip(&right.values).map(|(left, right)| left.zip(*right));
        for (&id, both) in tokens.input_ids.values.iter().zip(values) {
            let Some((left, right)) = both else { continue };
            let (count, sums) = at(&mut self.by_token, id);
            *count += 1;
            sums[0] += f64::from(left);
            sums[1] += f64::from(right);
        }
    }

    /// The `n` tokens at either end; of few tokens each is at one of them, and those that do not differ are at none.
    pub(super) fn shifts(&self, n: usize, min_count: u64, names: &Names) -> Shifts {
        let min_count = least_count(min_count, &self.by_token.iter().map(|(count, _)| *count));
        let ranked = self.ranked(min_count);
        let shift = |&(id, count, means): &Ranked| Shift {
            token: names.name(id),
            count,
            means,
            difference: difference(means),
        };
        let (above, below) = ranked.split_at(ranked.len().div_ceil(2));
        let below = &below[below.len().saturating_sub(n)..];
        Shifts {
            min_count,
            tokens: ranked.len() as u64,
            above: above.iter().take(n).map(shift).collect(),
            below: below.iter().map(shift).collect(),
        }
    }

    /// Those that occur so often and differ, the highest difference first.
    fn ranked(&self, min_count: u64) -> Vec<Ranked> {
        let often = (0u32..).zip(&self.by_token).filter(|(_, (count, _))| *count >= min_count);
        let mean =
            |(id, (count, sums)): (u32, &(u64, [f64; 2]))| (id, *count, sums.map(|sum| sum / *count as f64));
        let mut ranked: Vec<Ranked> =
            often.map(mean).filter(|(.., means)| difference(*means).abs() > 0.0).collect();
        ranked.sort_by(|a, b| difference(b.2).total_cmp(&difference(a.2)).then(a.0.cmp(&b.0)));
        ranked
    }
}

fn difference([reference, other]: [f64; 2]) -> f64 {
    other - reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Tokens {
        Tokens { row: vec![0], input_ids: Ragged::from_rows([ids.to_vec()]), ..Tokens::default() }
    }

    #[test]
    fn tokens_are_ranked_by_the_difference_of_their_means() {
        let row = |values: [f32; 5]| {
            Ragged::from_rows([[None].into_iter().chain(values.map(Some)).collect::<Vec<_>>()])
        };
        let mut means = TokenMeans::default();
        let (left, right) = (row([1.0, 2.0, 3.0, 4.0, 5.0]), row([2.0, 5.0, 3.0, 1.0, 5.5]));
        means.add(&tokens(&[9, 4, 4, 5, 6, 7]), [&left, &right]);
        means.add(&tokens(&[9, 4]), [&left, &right]);
        let found = means.shifts(1, 20, &Names::default());
        let shift = |token: &str, count, means: [f64; 2]| Shift {
            token: token.into(),
            count,
            means,
            difference: means[1] - means[0],
        };
        assert_eq!((found.min_count, &found.above), (1, &vec![shift("#4", 2, [1.5, 3.5])]));
        assert_eq!(found.below, [shift("#6", 1, [4.0, 1.0])]);
        let all = means.shifts(9, 20, &Names::default());
        assert_eq!((found.tokens, all.tokens), (3, 3), "#5 does not differ");
        let names = |list: &[Shift]| list.iter().map(|shift| shift.token.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&all.above), names(&all.below)),
            (vec!["#4".into(), "#7".into()], vec!["#6".into()])
        );
    }
}
