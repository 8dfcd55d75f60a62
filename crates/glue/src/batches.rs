//! Which rows go together: batches of rows of similar length waste little on padding.

use rand::Rng;

use entromask_random::shuffled;

/// Batches that are sorted by length together. Larger pools pad less and mix less.
const POOL_BATCHES: usize = 32;

/// Batches of one training epoch: rows in random order, sorted by length within pools, batches in random order again.
///
/// Each row is in one batch; all batches but one have `batch_size` rows.
///
/// ```
/// let mut rng = entromask_random::keyed(1, "order", 0, 0);
/// let batches = entromask_glue::train_batches(&[3, 9, 3, 9], 2, &mut rng);
/// assert!(batches.iter().all(|batch| (batch[0] + batch[1]) % 2 == 0));
/// ```
pub fn train_batches(lengths: &[usize], batch_size: usize, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let order = shuffled(lengths.len(), rng);
    let pools = order.chunks(POOL_BATCHES * batch_size);
    let batches: Vec<_> = pools.flat_map(|pool| by_length(pool.to_vec(), lengths, batch_size)).collect();
    shuffled(batches.len(), rng).into_iter().map(|index| batches[index].clone()).collect()
}

/// Batches for scoring: all rows, by length.
pub fn eval_batches(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    by_length((0..lengths.len()).collect(), lengths, batch_size)
}

fn by_length(mut rows: Vec<usize>, lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    rows.sort_by_key(|&row| lengths[row]);
    rows.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use entromask_random::{below, keyed};

    use super::*;

    fn lengths(n: usize) -> Vec<usize> {
        let mut rng = keyed(1, "lengths", 0, 0);
        (0..n).map(|_| 5 + below(100, &mut rng)).collect()
    }

    fn padded(batches: &[Vec<usize>], lengths: &[usize]) -> usize {
        let longest = |batch: &Vec<usize>| batch.iter().map(|&row| lengths[row]).max().unwrap_or(0);
        batches.iter().map(|batch| batch.len() * longest(batch)).sum()
    }

    #[test]
    fn each_row_is_in_one_batch() {
        let lengths = lengths(1003);
        for batches in [train_batches(&lengths, 16, &mut keyed(1, "order", 0, 0)), eval_batches(&lengths, 16)]
        {
            let mut rows: Vec<_> = batches.concat();
            rows.sort_unstable();
            assert_eq!(rows, (0..1003).collect::<Vec<_>>());
            assert_eq!(batches.iter().filter(|batch| batch.len() < 16).count(), 1);
        }
    }

    #[test]
    fn epochs_differ_and_repeat_exactly() {
        let lengths = lengths(200);
        let epoch = |epoch| train_batches(&lengths, 16, &mut keyed(1, "order", 0, epoch));
        assert_eq!(epoch(0), epoch(0));
        assert_ne!(epoch(0), epoch(1));
    }

    /// Lengths are uniform on 5..105, mean 54.5; unsorted batches of 16 pad to about 99, which is 1.8 times as much.
    #[test]
    fn little_is_padded() {
        let lengths = lengths(2000);
        let batches = train_batches(&lengths, 16, &mut keyed(1, "order", 0, 0));
        let ratio = padded(&batches, &lengths) as f64 / lengths.iter().sum::<usize>() as f64;
        assert!(ratio < 1.1, "{ratio}");
    }
}
