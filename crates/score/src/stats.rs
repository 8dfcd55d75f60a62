//! What the manifest says about the scores.

use std::collections::BTreeMap;

use entromask_tables::Entropies;
use serde_json::{Map, Value, json};

/// Resolution of the percentiles: a bin is ln(30522) / 4096 = 0.0025 nats wide for BERT's vocabulary.
const BINS: usize = 4096;

/// Tokens of the teacher that a token of the corpus may stand for before its entropy leaves the bins of equal width.
const CARRIED: usize = 8;

/// Bits of an f32 that do not count beyond them: 12 of its significand are left, a resolution of 0.02 %.
const FAR_BITS: u32 = 11;

/// Entropies with a smaller standard deviation, nats, are flat; `report` draws the line there, too.
const FLAT: f64 = 0.1;

/// Percentiles that are reported.
const PERCENTILES: [u64; 9] = [1, 5, 10, 25, 50, 75, 90, 95, 99];

/// Sums over all scored positions.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// ln `vocab_size`, the largest entropy of a prediction.
    limit: f64,
    /// Values may be sums over several predictions.
    carried: bool,
    rows: u64,
    scored_rows: u64,
    scored: u64,
    entropy: f64,
    /// Squares of the entropies.
    squares: f64,
    surprisal: f64,
    bins: Vec<u64>,
    /// Beyond the bins, by the upper bits of the value, which are in the order of positive values.
    far: BTreeMap<u32, u64>,
    measures: BTreeMap<String, f64>,
}

impl Stats {
    /// `carried`: the values come from a teacher with another tokenizer.
    pub(crate) fn new(vocab_size: usize, carried: bool) -> Self {
        Self {
            limit: (vocab_size as f64).ln(),
            carried,
            rows: 0,
            scored_rows: 0,
            scored: 0,
            entropy: 0.0,
            squares: 0.0,
            surprisal: 0.0,
            bins: vec![0; if carried { CARRIED * BINS } else { BINS }],
            far: BTreeMap::new(),
            measures: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, part: &Entropies) {
        self.rows += part.rows() as u64;
        self.scored_rows += part.entropy.iter().filter(|row| row.iter().any(Option::is_some)).count() as u64;
        self.surprisal += sum(&part.surprisal.values);
        for (name, rows) in &part.measures {
            *self.measures.entry(name.clone()).or_default() += sum(&rows.values);
        }
        for entropy in part.entropy.values.iter().flatten().map(|&value| f64::from(value)) {
            self.count(entropy);
            self.scored += 1;
            self.entropy += entropy;
            self.squares += entropy * entropy;
        }
    }

    fn count(&mut self, entropy: f64) {
        let (bin, last) = ((entropy / self.limit * BINS as f64) as usize, self.bins.len() - 1);
        if self.carried && bin > last {
            *self.far.entry((entropy as f32).to_bits() >> FAR_BITS).or_default() += 1;
        } else {
            self.bins[bin.min(last)] += 1;
        }
    }

    /// Tokens that were scored.
    pub(crate) fn scored(&self) -> u64 {
        self.scored
    }

    /// The mean surprisal in nats, if the model is worse than one that gives every token of its vocabulary the same probability.
    pub(crate) fn worse_than_chance(&self) -> Option<f64> {
        let mean = self.surprisal / self.scored.max(1) as f64;
        (!self.carried && mean > self.limit).then_some(mean)
    }

    /// The standard deviation of the entropies in nats, if it is so small that they say next to nothing about which tokens are hard.
    pub(crate) fn flat(&self) -> Option<f64> {
        let n = self.scored as f64;
        let variance = self.squares / n - (self.entropy / n).powi(2);
        let deviation = variance.max(0.0).sqrt();
        (self.scored > 1 && deviation < FLAT).then_some(deviation)
    }

    /// As stored in the manifest; means and percentiles are null when nothing was scored.
    pub(crate) fn summary(&self) -> Value {
        let mean = |sum: f64| (self.scored > 0).then(|| sum / self.scored as f64);
        let percentiles: Map<_, _> =
            PERCENTILES.iter().map(|&p| (p.to_string(), json!(self.percentile(p)))).collect();
        let mut summary = json!({
            "rows": self.rows,
            "scored_rows": self.scored_rows,
            "scored": self.scored,
            "mean_entropy": mean(self.entropy),
            "mean_surprisal": mean(self.surprisal),
            "max_entropy": self.limit,
            "entropy_percentiles": percentiles,
        });
        if self.carried {
            // Sums over several predictions have no common limit.
            summary["max_entropy"] = Value::Null;
        }
        for (name, &sum) in &self.measures {
            summary[format!("mean_{name}")] = json!(mean(sum));
        }
        summary
    }

    /// Middle of the bin that holds the value below which `percent` of the values lie.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let wanted = (self.scored * percent).div_ceil(100).max(1);
        let near = (0..).map(|bin| (f64::from(bin) + 0.5) / BINS as f64 * self.limit).zip(&self.bins);
        let far = self.far.iter().map(|(&upper, count)| (middle(upper), count));
        let mut below = 0;
        let (value, _) = near.chain(far).find(|(_, count)| {
            below += *count;
            below >= wanted
        })?;
        Some(value)
    }
}

/// Middle of the values whose bits begin with `upper`.
fn middle(upper: u32) -> f64 {
    f64::from(f32::from_bits((upper << FAR_BITS) | (1 << (FAR_BITS - 1))))
}

fn sum(values: &[Option<f32>]) -> f64 {
    values.iter().flatten().map(|&value| f64::from(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use entromask_tables::Ragged;

    #[test]
    fn percentiles_and_means_of_known_values() {
        let mut stats = Stats::new(1000, false);
        let values: Vec<_> = (0..=100).map(|i| Some(i as f32 * 0.06)).collect();
        let row = Ragged::from_rows([vec![None], values]);
        let measures = BTreeMap::from([("renyi2".to_owned(), row.clone())]);
        stats.add(&Entropies { row: vec![0, 1], entropy: row.clone(), surprisal: row, measures });
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
        close(&summary["mean_renyi2"], 3.0);
        close(&summary["max_entropy"], 6.907);
        close(&summary["entropy_percentiles"]["50"], 3.0);
        close(&summary["entropy_percentiles"]["99"], 5.94);
    }

    #[test]
    fn entropies_are_flat_where_they_hardly_differ() {
        let found = |values: &[f32]| {
            let row = Ragged::from_rows([values.iter().copied().map(Some).collect::<Vec<_>>()]);
            let mut stats = Stats::new(1000, false);
            stats.add(&Entropies {
                row: vec![0],
                entropy: row.clone(),
                surprisal: row,
                ..Entropies::default()
            });
            stats.flat()
        };
        assert_eq!([found(&[]), found(&[6.5]), found(&[6.5, 6.1])], [None; 3]);
        assert!(found(&[6.5, 6.6]).is_some_and(|deviation| (deviation - 0.05).abs() < 1e-6));
    }

    #[test]
    fn a_model_is_worse_than_chance_beyond_the_logarithm_of_its_vocabulary() {
        let found = |surprisal: f32, carried| {
            let row = Ragged::from_rows([vec![None, Some(surprisal), Some(surprisal)]]);
            let mut stats = Stats::new(1000, carried);
            stats.add(&Entropies {
                row: vec![0],
                entropy: row.clone(),
                surprisal: row,
                ..Entropies::default()
            });
            stats.worse_than_chance()
        };
        assert_eq!([found(6.875, false), found(7.0, false)], [None, Some(7.0)]);
        assert_eq!(found(7.0, true), None, "sums have another limit");
        assert_eq!(Stats::new(1000, false).worse_than_chance(), None);
    }

    #[test]
    fn nothing_scored_is_null() {
        let summary = Stats::new(10, false).summary();
        assert!(summary["mean_entropy"].is_null() && summary["entropy_percentiles"]["50"].is_null());
    }

    #[test]
    fn sums_over_several_predictions_go_beyond_the_vocabulary() {
        let mut stats = Stats::new(10, true);
        let row = Ragged::from_rows([vec![Some(7.0)]]);
        let part = Entropies { row: vec![0], entropy: row.clone(), surprisal: row, ..Entropies::default() };
        stats.add(&part);
        let summary = stats.summary();
        assert!(summary["max_entropy"].is_null());
        assert!((summary["entropy_percentiles"]["50"].as_f64().expect("a number") - 7.0).abs() < 0.001);
    }

    /// A word of thousands of characters is one token of the corpus, and many of the teacher.
    #[test]
    fn percentiles_of_long_words_are_not_cut_off() {
        let mut stats = Stats::new(50_265, true);
        let values: Vec<_> = (1..=100).map(|i| Some(i as f32 * 30.0)).collect();
        let row = Ragged::from_rows([values]);
        let part = Entropies { row: vec![0], entropy: row.clone(), surprisal: row, ..Entropies::default() };
        stats.add(&part);
        let percentiles = &stats.summary()["entropy_percentiles"];
        for percent in PERCENTILES {
            let (found, expected) = (percentiles[percent.to_string()].as_f64(), percent as f64 * 30.0);
            assert!((found.expect("a number") / expected - 1.0).abs() < 2e-4, "{percent}: {found:?}");
        }
    }
}
