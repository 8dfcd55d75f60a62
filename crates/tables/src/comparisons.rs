//! The table of comparisons.

use arrow::datatypes::{Float64Type, UInt64Type};

use crate::column::{nullable_scalars, scalars, strings};
use crate::file;

/// Scores of several systems beside a baseline: one row for each task or average and system, in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparisons {
    /// Task or average.
    pub name: Vec<String>,
    /// What tells the system from the others.
    pub system: Vec<String>,
    /// Content digest of its model.
    pub model: Vec<String>,
    /// Number of its seeds.
    pub seeds: Vec<u64>,
    /// The most that one answer to all rows gets.
    pub floor: Vec<f64>,
    /// Mean over its seeds.
    pub mean: Vec<f64>,
    /// Standard deviation over the seeds; null for a single seed.
    pub std: Vec<Option<f64>>,
    /// Number of seeds that it shares with the baseline; null for the baseline, as all that follows.
    pub pairs: Vec<Option<u64>>,
    /// Mean over these seeds of how much it is above the baseline.
    pub difference: Vec<Option<f64>>,
    /// Lower end of the 95 % interval of the difference by Student's t.
    pub t_low: Vec<Option<f64>>,
    /// Upper end.
    pub t_high: Vec<Option<f64>>,
    /// Lower end of the 95 % interval of the difference by the bootstrap over seeds.
    pub bootstrap_low: Vec<Option<f64>>,
    /// Upper end.
    pub bootstrap_high: Vec<Option<f64>>,
    /// `baseline`, `better`, `worse`, or that no difference is shown.
    pub verdict: Vec<String>,
}

impl Comparisons {
    /// The bytes of a file with the table.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let columns = vec![
            strings("name", &self.name),
            strings("system", &self.system),
            strings("model", &self.model),
            scalars::<UInt64Type>("seeds", &self.seeds),
            scalars::<Float64Type>("floor", &self.floor),
            scalars::<Float64Type>("mean", &self.mean),
            nullable_scalars::<Float64Type>("std", &self.std),
            nullable_scalars::<UInt64Type>("pairs", &self.pairs),
            nullable_scalars::<Float64Type>("difference", &self.difference),
            nullable_scalars::<Float64Type>("t_low", &self.t_low),
            nullable_scalars::<Float64Type>("t_high", &self.t_high),
            nullable_scalars::<Float64Type>("bootstrap_low", &self.bootstrap_low),
            nullable_scalars::<Float64Type>("bootstrap_high", &self.bootstrap_high),
            strings("verdict", &self.verdict),
        ];
        let mut bytes = Vec::new();
        file::write_to(&mut bytes, columns, &[])?;
        Ok(bytes)
    }
}
