//! One vector for each row.

use super::Sentence;
use crate::Pooling;

/// Whose states are pooled, of each row.
pub(super) fn positions(rows: &[Sentence<'_>], pooling: Pooling) -> Vec<Vec<u16>> {
    let of_row = |row: &Sentence<'_>| match pooling {
        Pooling::Cls => vec![0],
        Pooling::Mean => (0..row.input_ids.len() as u16).collect(),
    };
    rows.iter().map(of_row).collect()
}

/// The means of the states of each row, `[rows, width]`, from those at all positions one after the other.
pub(super) fn means<'a>(
    mut states: impl Iterator<Item = &'a [f32]>,
    positions: &[Vec<u16>],
    width: usize,
) -> Vec<f32> {
    let mut means = vec![0.0; positions.len() * width];
    for (mean, positions) in means.chunks_exact_mut(width).zip(positions) {
        for state in states.by_ref().take(positions.len()) {
            mean.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
        }
        for value in mean {
            *value /= positions.len() as f32;
        }
    }
    means
}

/// The gradient of the states from that of their means.
pub(super) fn spread(d_means: &[f32], positions: &[Vec<u16>], width: usize) -> Vec<f32> {
    let rows = d_means.chunks_exact(width).zip(positions);
    rows.flat_map(|(d_mean, positions)| {
        let share = move |d: &f32| d / positions.len() as f32;
        positions.iter().flat_map(move |_| d_mean.iter().map(share))
    })
    .collect()
}
