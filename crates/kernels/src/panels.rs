//! Weights as the matrix product reads them.

use aligned_vec::AVec;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Start of the sums of columns that fill up the last panel of a softmax: their exponential is exactly 0, yet they are
/// finite.
pub(crate) const NO_TOKEN: f32 = -1e30;

/// A matrix `[depth, columns]` as panels of two vectors of columns: `[columns / width, depth, width]`, filled up with
/// zeros.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    /// Aligned, so that no vector lies in two cache lines.
    weights: AVec<f32>,
    depth: usize,
    columns: usize,
}

/// Some consecutive panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) weights: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) panels: usize,
}

impl Default for Panels {
    fn default() -> Self {
        Self { weights: AVec::new(0), depth: 0, columns: 0 }
    }
}

impl Panels {
    /// Becomes the columns given as rows of `depth` values each, one after the other, on all threads: a decoder.
    pub(crate) fn pack_matrix(&mut self, depth: usize, columns: &[f32]) {
        let width = panel_width();
        self.reset(depth, columns.len() / depth.max(1));
        let panels = self.weights.par_chunks_mut((depth * width).max(1));
        panels.zip(columns.par_chunks((depth * width).max(1))).for_each(|(panel, columns)| {
            for (index, column) in columns.chunks_exact(depth).enumerate() {
                put_column(panel, index, width, column);
            }
        });
    }

    /// Becomes the `columns` given as rows of `depth` values each: keys.
    pub(crate) fn pack_columns<'a>(
        &mut self,
        depth: usize,
        columns: impl ExactSizeIterator<Item = &'a [f32]>,
    ) {
        let width = panel_width();
        self.reset(depth, columns.len());
        for (index, column) in columns.enumerate() {
            put_column(&mut self.weights[index / width * depth * width..], index % width, width, column);
        }
    }

    /// Becomes the rows given, `columns` values each: a dense layer, or values of attention.
    pub(crate) fn pack_rows<'a>(&mut self, columns: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) {
        let width = panel_width();
        let depth = rows.len();
        self.reset(depth, columns);
        for (k, row) in rows.enumerate() {
            for (panel, values) in row.chunks(width).enumerate() {
                self.weights[(panel * depth + k) * width..][..values.len()].copy_from_slice(values);
            }
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn all(&self) -> Block<'_> {
        let panels = self.columns.div_ceil(panel_width());
        Block { weights: &self.weights, depth: self.depth, panels }
    }

    /// `panels` panels from `first` on, or as many as there are.
    pub(crate) fn block(&self, first: usize, panels: usize) -> Block<'_> {
        let all = self.all();
        let (size, panels) = (self.depth * panel_width(), panels.min(all.panels - first));
        Block { weights: &all.weights[first * size..][..panels * size], panels, ..all }
    }

    /// Panels of 0 that every column is written to next.
    fn reset(&mut self, depth: usize, columns: usize) {
        if (self.depth, self.columns) == (depth, columns) {
            // What fills the last panel up is 0 already.
            return;
        }
        (self.depth, self.columns) = (depth, columns);
        self.weights.clear();
        self.weights.resize(columns.next_multiple_of(panel_width()) * depth, 0.0);
    }
}

fn put_column(panel: &mut [f32], index: usize, width: usize, column: &[f32]) {
    for (value, to) in column.iter().zip(panel.chunks_exact_mut(width)) {
        to[index] = *value;
    }
}

/// Start of the sums of each column, filled up with `filler` to whole panels of `width` columns.
pub(crate) fn padded(bias: &[f32], filler: f32, width: usize) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(bias.len().next_multiple_of(width), filler);
    padded
}

/// Columns of a panel: two vectors of this machine.
pub(crate) fn panel_width() -> usize {
    Arch::new().dispatch(PanelWidth)
}

struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        2 * S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_same_shape_is_written_over() {
        let (depth, columns) = (3, 70);
        let values = |first: usize| (first..first + depth * columns).map(|i| i as f32).collect::<Vec<_>>();
        let pack_rows = |panels: &mut Panels, values: &[f32]| {
            panels.pack_rows(columns, values.chunks_exact(columns));
            panels.all().weights.to_vec()
        };
        let (mut used, (old, new)) = (Panels::default(), (values(1000), values(1)));
        used.pack_columns(depth, old.chunks_exact(depth));
        assert_eq!(pack_rows(&mut used, &new), pack_rows(&mut Panels::default(), &new));
    }
}
