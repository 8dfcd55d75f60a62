//! Hidden states at some places of some rows, in tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{Batch, Filling, MaskedLm, Wanted};

/// Rows as tensors, and the places in them.
struct Grid {
    batch: Batch,
    /// Of each row, filled up with position 0: `batch_size` times `width`.
    positions: Vec<i32>,
    width: usize,
    /// Which of `positions` are wanted.
    cells: Vec<usize>,
}

impl MaskedLm {
    /// Hidden states of the last layer at the positions of `rows`, one row after the other, `[n, hidden_size]`. The last
    /// layer is computed there only.
    pub fn states_at(&self, rows: &[Wanted<'_>], filling: Filling, device: &Device) -> Tensor<2> {
        let grid = Grid::new(rows, filling.within(self.encoder.longest_row()), device);
        let shape = [rows.len(), grid.width];
        let positions = Tensor::from_data(TensorData::new(grid.positions, shape), device);
        let hidden = self.encoder.forward_at(&grid.batch, &positions);
        self.hidden_at(hidden, numbers(grid.cells.into_iter(), device))
    }

    /// As [`states_at`](Self::states_at), and hidden states of each of `depths` at the same positions, `[n, hidden_size]` each;
    /// depth 0 is the embeddings. All layers are computed everywhere.
    pub fn states_at_depths(
        &self,
        rows: &[Wanted<'_>],
        depths: &[usize],
        filling: Filling,
        device: &Device,
    ) -> (Tensor<2>, Vec<Tensor<2>>) {
        let grid = Grid::new(rows, filling.within(self.encoder.longest_row()), device);
        let [_, seq_length] = grid.batch.dims();
        let place = |&cell: &usize| cell / grid.width * seq_length + grid.positions[cell] as usize;
        let places = numbers(grid.cells.iter().map(place), device);
        let all = self.encoder.forward_layers(&grid.batch);
        let at = |depth: usize| self.hidden_at(all[depth].clone(), places.clone());
        (at(all.len() - 1), depths.iter().map(|&depth| at(depth)).collect())
    }
}

impl Grid {
    fn new(rows: &[Wanted<'_>], filling: Filling, device: &Device) -> Self {
        let most = rows.iter().map(|row| row.positions.len()).max().unwrap_or(0);
        let width = filling.positions(most);
        let (mut positions, mut cells) = (Vec::with_capacity(rows.len() * width), Vec::new());
        for row in rows {
            let start = positions.len();
            cells.extend(start..start + row.positions.len());
            positions.extend(row.positions.iter().map(|&position| i32::from(position)));
            positions.resize(start + width, 0);
        }
        Self { batch: batch(rows, filling, device), positions, width, cells }
    }
}

fn batch(rows: &[Wanted<'_>], filling: Filling, device: &Device) -> Batch {
    let ids: Vec<&[u32]> = rows.iter().map(|row| row.input_ids).collect();
    let batch = Batch::filled(&ids, filling, device);
    if rows.iter().all(|row| row.token_type_ids.is_empty()) {
        return batch;
    }
    let types: Vec<&[u32]> = rows.iter().map(|row| row.token_type_ids).collect();
    batch.with_token_types(&types)
}

fn numbers(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|value| value as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
