//! The table of agreements.

use arrow::datatypes::{Float64Type, UInt64Type};

use crate::column::{nullable_scalars, scalars, strings};
use crate::file;

/// How far scorings agree with a reference: one row for each of them and measure, over the positions that both scored.
/// Values are in the measure's unit: nats, of `margin` and `normalized` none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreements {
    /// The measure.
    pub measure: Vec<String>,
    /// What tells the reference from the others.
    pub reference: Vec<String>,
    /// What tells the scoring from the others.
    pub scoring: Vec<String>,
    /// Number of positions.
    pub positions: Vec<u64>,
    /// Mean of the reference.
    pub reference_mean: Vec<f64>,
    /// Standard deviation of the reference.
    pub reference_std: Vec<f64>,
    /// Mean of the scoring.
    pub mean: Vec<f64>,
    /// Standard deviation of the scoring.
    pub std: Vec<f64>,
    /// Mean of how much the scoring is above the reference.
    pub difference: Vec<f64>,
    /// Mean absolute difference.
    pub absolute_mean: Vec<f64>,
    /// 95th percentile of the absolute differences.
    pub absolute_p95: Vec<f64>,
    /// Largest absolute difference.
    pub absolute_max: Vec<f64>,
    /// Spearman's rank correlation over all positions; null where one side has no differences.
    pub spearman: Vec<Option<f64>>,
    /// Its mean over the rows.
    pub spearman_in_rows: Vec<Option<f64>>,
    /// Share of the most uncertain 15 % of all positions that are the same, from 0 to 1.
    pub top: Vec<f64>,
    /// The same within rows, on average.
    pub top_in_rows: Vec<f64>,
}

impl Agreements {
    /// The bytes of a file with the table.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let columns = vec![
            strings("measure", &self.measure),
            strings("reference", &self.reference),
            strings("scoring", &self.scoring),
            scalars::<UInt64Type>("positions", &self.positions),
            scalars::<Float64Type>("reference_mean", &self.reference_mean),
            scalars::<Float64Type>("reference_std", &self.reference_std),
            scalars::<Float64Type>("mean", &self.mean),
            scalars::<Float64Type>("std", &self.std),
            scalars::<Float64Type>("difference", &self.difference),
            scalars::<Float64Type>("absolute_mean", &self.absolute_mean),
            scalars::<Float64Type>("absolute_p95", &self.absolute_p95),
            scalars::<Float64Type>("absolute_max", &self.absolute_max),
            nullable_scalars::<Float64Type>("spearman", &self.spearman),
            nullable_scalars::<Float64Type>("spearman_in_rows", &self.spearman_in_rows),
            scalars::<Float64Type>("top", &self.top),
            scalars::<Float64Type>("top_in_rows", &self.top_in_rows),
        ];
        let mut bytes = Vec::new();
        file::write_to(&mut bytes, columns, &[])?;
        Ok(bytes)
    }
}
