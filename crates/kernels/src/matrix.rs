//! Activations in memory.

use std::ops::Range;

use aligned_vec::AVec;
use rayon::prelude::*;

/// Rows of activations, `[rows, width]`.
///
/// Between the end of a row and the next one lie a few more values, so that vectors may be written beyond the end and
/// rows do not compete for the same places of the first-level cache. What they hold means nothing.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Aligned, so that no vector of a row lies in two cache lines.
    values: AVec<f32>,
    rows: usize,
    width: usize,
    stride: usize,
}

/// Some columns of some rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    width: usize,
    stride: usize,
}

/// Some columns of some rows, to be written.
#[derive(Debug)]
pub(crate) struct ViewMut<'a> {
    values: &'a mut [f32],
    stride: usize,
}

/// Widths are rounded up to this many values, the widest panel.
pub(crate) const WIDEST_PANEL: usize = 32;

/// 4 KiB: rows that lie so far apart share a set of the first-level cache.
const ALIAS: usize = 1024;

impl Default for Matrix {
    fn default() -> Self {
        Self { values: AVec::new(0), rows: 0, width: 0, stride: 0 }
    }
}

impl Matrix {
    /// Gives the matrix another shape. The values are any.
    pub fn reshape(&mut self, rows: usize, width: usize) {
        let padded = width.next_multiple_of(WIDEST_PANEL);
        let stride = padded + if padded.is_multiple_of(ALIAS / 4) { WIDEST_PANEL } else { 0 };
        (self.rows, self.width, self.stride) = (rows, width, stride);
        if self.values.len() < rows * stride {
            self.values.resize(rows * stride, 0.0);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.width]
    }

    /// A row, to be written.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.stride..][..self.width]
    }

    /// All rows, one after the other without what lies between them, `[rows * width]`.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows * self.width);
        (0..self.rows).for_each(|row| values.extend_from_slice(self.row(row)));
        values
    }

    /// As [`Matrix::to_vec`], on all threads.
    pub(crate) fn to_vec_in_parallel(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.width];
        let rows = values.par_chunks_mut(self.width.max(1)).enumerate();
        rows.with_min_len(256).for_each(|(index, row)| row.copy_from_slice(self.row(index)));
        values
    }

    /// Rows of `width` values each, one after the other.
    ///
    /// # Panics
    ///
    /// If `values` are not whole rows.
    pub fn from_rows(values: &[f32], width: usize) -> Self {
        let mut matrix = Self::default();
        matrix.read_rows(values, width);
        matrix
    }

    /// Becomes [`Matrix::from_rows`].
    pub fn read_rows(&mut self, values: &[f32], width: usize) {
        assert!(values.len().is_multiple_of(width), "whole rows");
        self.reshape(values.len() / width, width);
        let rows = values.chunks_exact(width).enumerate();
        rows.for_each(|(index, row)| self.row_mut(index).copy_from_slice(row));
    }

    /// Sets all values to 0.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Adds the values of a matrix of the same shape.
    pub fn add(&mut self, more: &Self) {
        for row in 0..self.rows {
            self.row_mut(row).iter_mut().zip(more.row(row)).for_each(|(to, more)| *to += more);
        }
    }

    /// Multiplies each value with that of `factors` in the same place, which may have more columns.
    pub fn multiply(&mut self, factors: &Self) {
        for row in 0..self.rows {
            self.row_mut(row).iter_mut().zip(factors.row(row)).for_each(|(to, factor)| *to *= factor);
        }
    }

    /// Becomes the given rows of `from`.
    pub fn gather(&mut self, from: &Self, rows: impl ExactSizeIterator<Item = usize>) {
        self.copy_rows(from.width, rows.map(|row| from.row(row)));
    }

    /// Becomes the given rows of `width` values each.
    pub fn copy_rows<'a>(&mut self, width: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) {
        self.reshape(rows.len(), width);
        rows.enumerate().for_each(|(to, row)| self.row_mut(to).copy_from_slice(row));
    }

    pub(crate) fn view(&self, rows: Range<usize>, columns: Range<usize>) -> View<'_> {
        // No rows may begin behind the last one.
        let values =
            if rows.is_empty() { &[] } else { &self.values[rows.start * self.stride + columns.start..] };
        View { values, rows: rows.len(), width: columns.len(), stride: self.stride }
    }

    pub(crate) fn all(&self) -> View<'_> {
        self.view(0..self.rows, 0..self.width)
    }

    /// Groups of `rows` rows, to be written side by side.
    pub(crate) fn par_chunks_mut(&mut self, rows: usize) -> impl IndexedParallelIterator<Item = ViewMut<'_>> {
        let stride = self.stride;
        let values = &mut self.values[..self.rows * stride];
        values.par_chunks_mut(rows * stride).map(move |values| ViewMut { values, stride })
    }

    pub(crate) fn view_mut(&mut self, first_row: usize, first_column: usize) -> ViewMut<'_> {
        let values = &mut self.values[first_row * self.stride + first_column..];
        ViewMut { values, stride: self.stride }
    }
}

impl<'a> View<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.width]
    }
}

impl ViewMut<'_> {
    /// `width` values of a row from `column` on; they may reach beyond the end of the row.
    #[inline(always)]
    pub(crate) fn at(&mut self, row: usize, column: usize, width: usize) -> &mut [f32] {
        &mut self.values[row * self.stride + column..][..width]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn matrix(values: &[f32], width: usize) -> Matrix {
        Matrix::from_rows(values, width)
    }

    #[test]
    fn rows_keep_their_values() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut picked = matrix(&[9.0; 4096], 1024);
        picked.gather(&matrix(&values, 3), [3, 0, 0].into_iter());
        assert_eq!(picked.to_vec(), [9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn rows_of_a_power_of_two_do_not_share_a_cache_set() {
        for width in [256, 512, 1024, 4096] {
            let matrix = matrix(&vec![0.0; 2 * width], width);
            assert!(!matrix.stride.is_multiple_of(ALIAS / 4) && matrix.stride >= width);
        }
    }
}
