//! Which rows are computed together.

use entromask_encoder::Filling;

/// Tokens of a batch on the CPU: its activations stay in the caches, and there are batches for all cores.
pub(crate) const CPU_BATCH_TOKENS: usize = 256;

/// Tokens of a batch on a GPU, which wants large ones.
pub(crate) const GPU_BATCH_TOKENS: usize = 32_768;

/// Positions whose hidden states are in memory at once on the CPU, until their softmax is computed: 50 MB for a 768-wide model.
const CHUNK_POSITIONS: usize = 1 << 14;

/// Values of the hidden states in memory where more positions are needed for all cores to have work: 512 MB.
const MOST_CHUNK_VALUES: usize = 1 << 27;

/// A batch of rows of another length is begun only when the one before has this share of its tokens, so that there are
/// few kinds of size.
const LEAST: usize = 4;

/// Positions of which the CPU computes the hidden states, `[embedding_size]` each, before it computes their softmax. A batch is one core's,
/// so that rows of which up to `longest` positions are wanted come two for each core.
pub(crate) fn chunk_positions(longest: usize, embedding_size: usize) -> usize {
    let for_all = 2 * longest * rayon::current_num_threads();
    for_all.min(MOST_CHUNK_VALUES / embedding_size.max(1)).max(CHUNK_POSITIONS)
}

/// Cuts `rows`, shortest first, into batches of at most `tokens` tokens, filling included, or of one row.
///
/// A batch has rows of one length as `filling` counts it, or, where rows are filled up anyway and one length has few, of
/// several: then less than a quarter of a batch is filled up further than it would be.
pub(crate) fn batches<R>(
    rows: &[R],
    length: impl Fn(&R) -> usize,
    tokens: usize,
    filling: Filling,
) -> Vec<&[R]> {
    let least = if filling.is_roomy() { tokens / LEAST } else { 0 };
    let (mut batches, mut rest) = (Vec::new(), rows);
    while !rest.is_empty() {
        let lengths = rest.iter().map(|row| filling.length(length(row)));
        let (batch, later) = rest.split_at(first_batch(lengths, least, tokens));
        batches.push(batch);
        rest = later;
    }
    batches
}

/// How many of the rows with these filled lengths the first batch has.
fn first_batch(lengths: impl Iterator<Item = usize>, least: usize, tokens: usize) -> usize {
    let mut batch = (0, 0);
    for length in lengths {
        let (rows, before) = batch;
        let begins_another = length > before && rows * before > least;
        if rows > 0 && (begins_another || (rows + 1) * length > tokens) {
            break;
        }
        batch = (rows + 1, length);
    }
    batch.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(lengths: &[usize], tokens: usize, filling: Filling) -> Vec<Vec<usize>> {
        batches(lengths, |&length| length, tokens, filling).into_iter().map(<[usize]>::to_vec).collect()
    }

    #[test]
    fn without_filling_rows_of_a_batch_are_equally_long() {
        let sizes = sizes(&[3, 3, 3, 4, 9, 20], 8, Filling::tight(0));
        assert_eq!(sizes, [vec![3, 3], vec![3], vec![4], vec![9], vec![20]]);
    }

    #[test]
    fn lengths_of_few_rows_share_a_batch() {
        let lengths = [vec![30; 2], vec![40; 2], vec![64; 9], vec![100; 3]].concat();
        // Of 60 tokens, filled up to 64; and 9 rows of 64 are more than a quarter of 1,024.
        let expected = [vec![30, 30, 40, 40, 64, 64, 64, 64, 64, 64, 64, 64, 64], vec![100; 3]];
        assert_eq!(sizes(&lengths, 1024, Filling::roomy(0)), expected);
    }

    #[test]
    fn all_cores_have_work_where_rows_are_long_and_memory_is_bounded() {
        let cores = rayon::current_num_threads();
        assert_eq!(chunk_positions(19, 768), CHUNK_POSITIONS.max(38 * cores));
        let long = chunk_positions(30_000, 16);
        assert!(long >= 60_000 * cores || long * 16 >= MOST_CHUNK_VALUES - 16, "{long}");
        assert!(chunk_positions(usize::MAX >> 20, 768) * 768 <= MOST_CHUNK_VALUES);
        assert_eq!(chunk_positions(0, 0), CHUNK_POSITIONS);
    }

    proptest! {
        #[test]
        fn batches_are_all_rows_and_not_too_large(
            mut lengths in prop::collection::vec(1usize..140, 1..200),
            tokens in 1usize..2_000,
            is_roomy: bool,
        ) {
            lengths.sort_unstable();
            let filling = if is_roomy { Filling::roomy(0).within(130) } else { Filling::tight(0) };
            let batches = sizes(&lengths, tokens, filling);
            for batch in &batches {
                let filled = filling.length(batch[batch.len() - 1]) * batch.len();
                prop_assert!(batch.len() == 1 || filled <= tokens);
                let shorter = batch.iter().filter(|&&row| filling.length(row) < filled / batch.len());
                let shorter: usize = shorter.map(|&row| filling.length(row)).sum();
                prop_assert!(shorter <= tokens / LEAST);
            }
            prop_assert_eq!(batches.concat(), lengths);
        }
    }
}
