//! Positions whose hidden states are wanted.

use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Batch, MaskedLm, Wanted as Row};

use crate::data::Example;

/// Rows of a batch and the positions whose hidden states are wanted.
///
/// The last layer is computed at these positions only: `grid` has as many columns as the row with most of them, and
/// `chosen` are the cells of the grid that count, row by row.
pub(super) struct Wanted {
    /// Of each row.
    positions: Vec<Vec<u16>>,
    grid: Vec<i32>,
    columns: usize,
    chosen: Vec<i32>,
    pub targets: Vec<Option<u32>>,
}

/// Hidden states at the n wanted positions, `[n, hidden_size]` each.
#[derive(Clone)]
pub(super) struct States {
    /// Of the last layer.
    pub last: Tensor<2>,
    /// Of the depths that were asked for.
    pub layers: Vec<Tensor<2>>,
}

impl Wanted {
    pub(super) fn masked(batch: &[Example]) -> Self {
        let columns = batch.iter().map(|row| row.positions.len()).max().unwrap_or(0);
        let mut wanted = Self::empty(columns);
        for row in batch {
            wanted.push(&row.positions, row.targets.iter().map(|&target| Some(target)));
        }
        wanted
    }

    pub(super) fn all(batch: &[Example]) -> Self {
        let columns = batch.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
        let mut wanted = Self::empty(columns);
        for row in batch {
            let mut targets = vec![None; row.input_ids.len()];
            for (&position, &target) in row.positions.iter().zip(&row.targets) {
                targets[position as usize] = Some(target);
            }
            let positions: Vec<u32> = (0..row.input_ids.len() as u32).collect();
            wanted.push(&positions, targets);
        }
        wanted
    }

    /// The rows of `batch`, and where their states are wanted.
    pub(super) fn rows<'a>(&'a self, batch: &'a [Example]) -> Vec<Row<'a>> {
        let pairs = batch.iter().zip(&self.positions);
        pairs
            .map(|(row, positions)| Row { input_ids: &row.input_ids, token_type_ids: &[], positions })
            .collect()
    }

    /// The states of the last layer and of `depths`, for which all layers are computed everywhere.
    pub(super) fn states(
        &self,
        model: &MaskedLm,
        batch: &[Example],
        depths: &[usize],
        pad: u32,
        device: &Device,
    ) -> States {
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.input_ids.as_slice()).collect();
        let input = Batch::from_rows(&rows, pad, device);
        if !depths.is_empty() {
            return self.states_of_depths(model, &input, depths, device);
        }
        let grid = TensorData::new(self.grid.clone(), [rows.len(), self.columns]);
        let hidden = model.encoder.forward_at(&input, &Tensor::from_data(grid, device));
        let chosen = TensorData::new(self.chosen.clone(), [self.chosen.len()]);
        let last = model.hidden_at(hidden, Tensor::<1, Int>::from_data(chosen, device));
        States { last, layers: Vec::new() }
    }

    fn states_of_depths(&self, model: &MaskedLm, input: &Batch, depths: &[usize], device: &Device) -> States {
        let [_, seq_length] = input.dims();
        let place = |&cell: &i32| {
            let row = cell as usize / self.columns;
            (row * seq_length) as i32 + self.grid[cell as usize]
        };
        let places: Vec<i32> = self.chosen.iter().map(place).collect();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [self.chosen.len()]), device);
        let all = model.encoder.forward_layers(input);
        let at = |depth: usize| model.hidden_at(all[depth].clone(), places.clone());
        States { last: at(all.len() - 1), layers: depths.iter().map(|&depth| at(depth)).collect() }
    }

    fn empty(columns: usize) -> Self {
        Self { positions: Vec::new(), grid: Vec::new(), columns, chosen: Vec::new(), targets: Vec::new() }
    }

    fn push(&mut self, positions: &[u32], targets: impl IntoIterator<Item = Option<u32>>) {
        self.positions.push(positions.iter().map(|&position| position as u16).collect());
        let start = self.grid.len();
        self.grid.extend(positions.iter().map(|&position| position as i32));
        self.grid.resize(start + self.columns, 0);
        self.chosen.extend((start..start + positions.len()).map(|cell| cell as i32));
        self.targets.extend(targets);
    }
}
