//! What the manifest says about the scores.

use entromask_tables::Entropies;
use serde_json::{Map, Value, json};

/// Resolution of the percentiles: a bin is ln(30522) / 4096 = 0.0025 nats wide for BERT's vocabulary.
const BINS: usize = 4096;

/// Percentiles that are reported.
const PERCENTILES: [u64; 9] = [1, 5, 10, 25, 50, 75, 90, 95, 99];

/// Sums over all scored positions.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// ln `vocab_size`, the largest entropy there is.
    limit: f64,
    rows: u64,
    scored_rows: u64,
    scored: u64,
    entropy: f64,
    surprisal: f64,
    bins: Vec<u64>,
}

impl Stats {
    pub(crate) fn new(vocab_size: usize) -> Self {
        let limit = (vocab_size as f64).ln();
        Self { limit, rows: 0, scored_rows: 0, scored: 0, entropy: 0.0, surprisal: 0.0, bins: vec![0; BINS] }
    }

    pub(crate) fn add(&mut self, part: &Entropies) {
        self.rows += part.rows() as u64;
        self.scored_rows += part.entropy.iter().filter(|row| row.iter().any(Option::is_some)).count() as u64;
        self.surprisal += part.surprisal.values.iter().flatten().map(|&value| f64::from(value)).sum::<f64>();
        for entropy in part.entropy.values.iter().flatten().map(|&value| f64::from(value)) {
            let bin = (entropy / self.limit * BINS as f64) as usize;
            self.bins[bin.min(BINS - 1)] += 1;
            self.scored += 1;
            self.entropy += entropy;
        }
    }

    /// As stored in the manifest; means and percentiles are null when nothing was scored.
    pub(crate) fn summary(&self) -> Value {
        let mean = |sum: f64| (self.scored > 0).then(|| sum / self.scored as f64);
        let percentiles: Map<_, _> =
            PERCENTILES.iter().map(|&p| (p.to_string(), json!(self.percentile(p)))).collect();
        json!({
            "rows": self.rows,
            "scored_rows": self.scored_rows,
            "scored": self.scored,
            "mean_entropy": mean(self.entropy),
            "mean_surprisal": mean(self.surprisal),
            "max_entropy": self.limit,
            "entropy_percentiles": percentiles,
        })
    }

    /// Middle of the bin that holds the value below which `percent` of the values lie.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let wanted = (self.scored * percent).div_ceil(100).max(1);
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        Some((bin as f64 + 0.5) / BINS as f64 * self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use entromask_tables::Ragged;

    #[test]
    fn percentiles_and_means_of_known_values() {
        let mut stats = Stats::new(1000);
        let values: Vec<_> = (0..=100).map(|i| Some(i as f32 * 0.06)).collect();
        let row = Ragged::from_rows([vec![None], values]);
        stats.add(&Entropies { row: vec![0, 1], entropy: row.clone(), surprisal: row });
        let summary = stats.summary();
        let close = |value: &Value, expected: f64| {
            assert!(
                (value.as_f64().expect("a number") - expected).abs() < 0.002,
                "{value} is not {expected}"
            );
        };
        assert_eq!((summary["rows"].as_u64(), summary["scored_rows"].as_u64()), (Some(2), Some(1)));
        assert_eq!(summary["scored"], 101);
        close(&summary["mean_entropy"], 3.0);
        close(&summary["entropy_percentiles"]["50"], 3.0);
        close(&summary["entropy_percentiles"]["99"], 5.94);
    }

    #[test]
    fn nothing_scored_is_null() {
        let summary = Stats::new(10).summary();
        assert!(summary["mean_entropy"].is_null() && summary["entropy_percentiles"]["50"].is_null());
    }
}
