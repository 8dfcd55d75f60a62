//! Rows of token ids as tensors.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::Filling;
use crate::counting;

/// Input of an encoder.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids, `[batch_size, seq_length]`.
    pub input_ids: Tensor<2, Int>,
    /// `[batch_size, seq_length]`, true at real tokens; `None` when no row is padded, which is faster.
    pub attention_mask: Option<Tensor<2, Bool>>,
    /// Segment of each token, `[batch_size, seq_length]`; `None` means segment 0 everywhere.
    pub token_type_ids: Option<Tensor<2, Int>>,
    /// The padding token, and the places of all tokens where it is not counted, `[batch_size, seq_length]`; `None` where no
    /// row has it, which is usual.
    counted: Option<(u32, Tensor<2, Int>)>,
}

impl Batch {
    /// Rows padded with `pad` to the longest; the attention mask is left out when they are equally long.
    pub fn from_rows<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: &Device) -> Self {
        Self::padded(rows, longest(rows), pad, device)
    }

    /// Rows padded as `filling` says; the attention mask is left out when none is.
    pub fn filled<R: AsRef<[u32]>>(rows: &[R], filling: Filling, device: &Device) -> Self {
        Self::padded(rows, filling.length(longest(rows)), filling.id, device)
    }

    fn padded<R: AsRef<[u32]>>(rows: &[R], seq_length: usize, pad: u32, device: &Device) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        let padded = lengths.iter().any(|&length| length < seq_length);
        Self {
            input_ids: padded_ids(rows, seq_length, pad, device),
            attention_mask: padded.then(|| attention_mask(&lengths, seq_length, device)),
            token_type_ids: None,
            counted: counted(rows, seq_length, pad, device).map(|places| (pad, places)),
        }
    }

    /// Adds the segment of each token, one row of numbers a row of ids; padding is segment 0.
    #[must_use]
    pub fn with_token_types<R: AsRef<[u32]>>(mut self, rows: &[R]) -> Self {
        let [_, seq_length] = self.input_ids.dims();
        self.token_type_ids = Some(padded_ids(rows, seq_length, 0, &self.input_ids.device()));
        self
    }

    /// Place of each token in a table of positions that `padding` has the first row of, `[batch_size, seq_length]`; `None` if
    /// no row has that token, and all are counted.
    pub(crate) fn counted(&self, padding: u32) -> Option<Tensor<2, Int>> {
        let (_, places) = self.counted.as_ref().filter(|(pad, _)| *pad == padding)?;
        Some(places.clone())
    }

    /// `[batch_size, seq_length]`.
    pub fn dims(&self) -> [usize; 2] {
        self.input_ids.dims()
    }
}

fn counted<R: AsRef<[u32]>>(
    rows: &[R],
    seq_length: usize,
    pad: u32,
    device: &Device,
) -> Option<Tensor<2, Int>> {
    if !rows.iter().any(|row| row.as_ref().contains(&pad)) {
        return None;
    }
    let of_row = |row: &R| counting::places(row.as_ref(), Some(pad)).map(|place| place as u32).collect();
    let places: Vec<Vec<u32>> = rows.iter().map(of_row).collect();
    Some(padded_ids(&places, seq_length, 0, device))
}

fn longest<R: AsRef<[u32]>>(rows: &[R]) -> usize {
    rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0)
}

fn padded_ids<R: AsRef<[u32]>>(rows: &[R], seq_length: usize, pad: u32, device: &Device) -> Tensor<2, Int> {
    let mut ids = Vec::with_capacity(rows.len() * seq_length);
    for (index, row) in rows.iter().enumerate() {
        ids.extend(row.as_ref().iter().map(|&id| id as i32));
        ids.resize((index + 1) * seq_length, pad as i32);
    }
    Tensor::from_data(TensorData::new(ids, [rows.len(), seq_length]), device)
}

fn attention_mask(lengths: &[usize], seq_length: usize, device: &Device) -> Tensor<2, Bool> {
    let real: Vec<bool> =
        lengths.iter().flat_map(|&length| (0..seq_length).map(move |s| s < length)).collect();
    Tensor::from_data(TensorData::new(real, [lengths.len(), seq_length]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_longest() {
        let device = Device::flex();
        let batch = Batch::from_rows(&[vec![5, 6, 7], vec![8]], 1, &device)
            .with_token_types(&[vec![0, 1, 1], vec![1]]);
        assert_eq!(batch.input_ids.try_into_vec_as::<i32>().expect("ids"), [5, 6, 7, 8, 1, 1]);
        let mask = batch.attention_mask.expect("a mask").into_data();
        mask.assert_eq(&TensorData::from([[true, true, true], [true, false, false]]), false);
        let types = batch.token_type_ids.expect("types").try_into_vec_as::<i32>().expect("types");
        assert_eq!(types, [0, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn equal_rows_need_no_mask() {
        assert!(Batch::from_rows(&[[5, 6], [7, 8]], 0, &Device::flex()).attention_mask.is_none());
    }
}
