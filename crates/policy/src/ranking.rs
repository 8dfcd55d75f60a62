//! Units by priority, sorted only as far as they are asked for.

/// Units of the highest priority first; of equal priorities, the earlier unit.
///
/// Most budgets are spent within the first few units, so only these are sorted: they are separated from the rest in linear
/// time. Whoever asks on gets further ones, each time twice as many.
#[derive(Debug)]
pub(crate) struct Ranking {
    keys: Vec<u128>,
    next: usize,
    sorted: usize,
    step: usize,
}

impl Ranking {
    /// `likely`: how many units are probably asked for.
    pub(crate) fn new(priorities: impl Iterator<Item = (f64, u32)>, likely: usize) -> Self {
        let keys = priorities.map(|(priority, unit)| descending(priority, unit)).collect();
        Self { keys, next: 0, sorted: 0, step: likely.max(LEAST) }
    }

    /// The first `n` units, in no order.
    pub(crate) fn first(mut self, n: usize) -> impl Iterator<Item = u32> {
        if n < self.keys.len() {
            self.keys.select_nth_unstable(n);
            self.keys.truncate(n);
        }
        self.keys.into_iter().map(unit)
    }

    fn sort_more(&mut self) {
        let rest = &mut self.keys[self.sorted..];
        let more = self.step.min(rest.len());
        if more < rest.len() {
            rest.select_nth_unstable(more);
        }
        rest[..more].sort_unstable();
        self.sorted += more;
        self.step *= 2;
    }
}

impl Iterator for Ranking {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.next == self.sorted {
            self.sort_more();
        }
        let key = *self.keys[..self.sorted].get(self.next)?;
        self.next += 1;
        Some(unit(key))
    }
}

/// Fewer are not worth separating.
const LEAST: usize = 16;

/// The rank of each score, 0 for the lowest; of equal scores the earlier one is the lower one.
pub(crate) fn ranks(scores: &[f32]) -> Vec<u32> {
    let key = |(unit, &score): (u64, &f32)| u64::from(ascending(score)) << 32 | unit;
    let mut order: Vec<u64> = (0..).zip(scores).map(key).collect();
    order.sort_unstable();
    let mut ranks = vec![0; scores.len()];
    for (rank, key) in (0..).zip(order) {
        ranks[key as u32 as usize] = rank;
    }
    ranks
}

/// A key that is the lower the higher the priority, then the lower the earlier the unit.
fn descending(priority: f64, unit: u32) -> u128 {
    let bits = priority.to_bits();
    let ascending = bits ^ (((bits as i64 >> 63) as u64) | 1 << 63);
    u128::from(!ascending) << 32 | u128::from(unit)
}

fn unit(key: u128) -> u32 {
    key as u32
}

/// An integer that orders as [`f32::total_cmp`] does: negative numbers have all bits turned, others the sign.
fn ascending(score: f32) -> u32 {
    let bits = score.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any bits, so that zeros of both signs, infinities and NaNs are among them; few values, so that some are equal.
        #[test]
        fn a_ranking_is_what_sorting_gives(
            values in prop::collection::vec(prop_oneof![any::<u64>().prop_map(f64::from_bits), (0..4).prop_map(f64::from)], 0..200),
            likely in 0usize..220,
        ) {
            let mut sorted: Vec<(f64, u32)> = values.iter().copied().zip(0..).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let sorted: Vec<u32> = sorted.into_iter().map(|(_, unit)| unit).collect();
            let ranking = || Ranking::new(values.iter().copied().zip(0..), likely);
            prop_assert_eq!(ranking().collect::<Vec<_>>(), &sorted[..]);
            let mut first: Vec<u32> = ranking().first(likely).collect();
            let mut wanted = sorted[..likely.min(sorted.len())].to_vec();
            first.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(first, wanted);
        }

        #[test]
        fn ranks_are_those_of_sorting(
            scores in prop::collection::vec(prop_oneof![any::<u32>().prop_map(f32::from_bits), (0u8..4).prop_map(f32::from)], 0..200),
        ) {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            let ranks = ranks(&scores);
            prop_assert!(order.iter().enumerate().all(|(rank, &unit)| ranks[unit] as usize == rank));
        }
    }
}
