//! Positions whose hidden states are wanted.

use burn::tensor::{Device, Tensor};
use entromask_encoder::{Filling, MaskedLm, Wanted as Row};

use crate::data::Example;

/// The positions of a batch's rows whose hidden states are wanted.
pub(super) struct Wanted {
    /// Of each row.
    positions: Vec<Vec<u16>>,
    /// Of all rows, one after the other.
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
        let positions =
            batch.iter().map(|row| row.positions.iter().map(|&position| position as u16).collect());
        let targets = batch.iter().flat_map(|row| &row.targets).map(|&target| Some(target));
        Self { positions: positions.collect(), targets: targets.collect() }
    }

    pub(super) fn all(batch: &[Example]) -> Self {
        let positions =
            batch.iter().map(|row| (0..row.input_ids.len()).map(|position| position as u16).collect());
        Self { positions: positions.collect(), targets: batch.iter().flat_map(targets).collect() }
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
        filling: Filling,
        device: &Device,
    ) -> States {
        let rows = self.rows(batch);
        if depths.is_empty() {
            return States { last: model.states_at(&rows, filling, device), layers: Vec::new() };
        }
        let (last, layers) = model.states_at_depths(&rows, depths, filling, device);
        States { last, layers }
    }
}

/// The targets of all tokens of a row, of which only the masked ones have one.
fn targets(row: &Example) -> Vec<Option<u32>> {
    let mut targets = vec![None; row.input_ids.len()];
    for (&position, &target) in row.positions.iter().zip(&row.targets) {
        targets[position as usize] = Some(target);
    }
    targets
}
