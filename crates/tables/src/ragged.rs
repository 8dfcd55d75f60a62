//! Rows of different lengths in one buffer.

use std::ops::Range;

/// A list of rows, each a slice of `values`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ragged<T> {
    /// Row `i` is `values[offsets[i]..offsets[i + 1]]`; one more entry than rows, the first is 0.
    pub offsets: Vec<u32>,
    /// The rows' values one after the other.
    pub values: Vec<T>,
}

impl<T> Default for Ragged<T> {
    fn default() -> Self {
        Self { offsets: vec![0], values: Vec::new() }
    }
}

impl<T> Ragged<T> {
    /// An empty list with room for `rows` rows of `values` values in all.
    pub fn with_capacity(rows: usize, values: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, values: Vec::with_capacity(values) }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Where row `index` lies in `values`.
    pub fn range(&self, index: usize) -> Range<usize> {
        self.offsets[index] as usize..self.offsets[index + 1] as usize
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[T] {
        &self.values[self.range(index)]
    }

    /// The length of row `index`.
    pub fn len_of(&self, index: usize) -> usize {
        self.range(index).len()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.offsets.windows(2).map(|pair| &self.values[pair[0] as usize..pair[1] as usize])
    }

    /// Adds one row.
    pub fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.values.extend(row);
        self.offsets.push(u32::try_from(self.values.len()).expect("a part holds fewer than 2^32 tokens"));
    }
}

impl<T> Ragged<T> {
    /// Makes a list of the given rows.
    pub fn from_rows<R: IntoIterator<Item = T>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut list = Self::default();
        rows.into_iter().for_each(|row| list.push(row));
        list
    }
}
