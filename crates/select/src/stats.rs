//! What the masks are like, in a few numbers.

use entromask_tables::{Entropies, Masks, Tokens};
use serde::Serialize;

/// Counts over all rows and epochs of a masks artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Rows times epochs.
    pub rows: u64,
    /// Maskable tokens.
    pub maskable: u64,
    /// Masked tokens.
    pub masked: u64,
    /// Masked tokens whose left neighbour is masked too.
    pub adjacent: u64,
    /// Sum of the entropies of masked tokens, in nats; 0 without entropies.
    pub masked_entropy: f64,
    /// Sum of the entropies of maskable tokens that were not masked, in nats.
    pub unmasked_entropy: f64,
}

impl Stats {
    /// Counts one part in one epoch.
    pub fn of(tokens: &Tokens, entropies: Option<&Entropies>, masks: &Masks) -> Self {
        let mut stats = Self { rows: masks.rows() as u64, ..Self::default() };
        for (index, positions) in masks.positions.iter().enumerate() {
            stats.maskable += tokens.word.row(index).iter().flatten().count() as u64;
            stats.masked += positions.len() as u64;
            stats.adjacent += positions.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as u64;
            if let Some(entropies) = entropies {
                stats.add_entropy(entropies.entropy.row(index), positions);
            }
        }
        stats
    }

    /// Adds up two counts.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            maskable: self.maskable + other.maskable,
            masked: self.masked + other.masked,
            adjacent: self.adjacent + other.adjacent,
            masked_entropy: self.masked_entropy + other.masked_entropy,
            unmasked_entropy: self.unmasked_entropy + other.unmasked_entropy,
        }
    }

    /// The numbers as the manifest and people want them.
    pub fn summary(&self, has_entropies: bool) -> serde_json::Value {
        let ratio = |a: f64, b: u64| if b == 0 { 0.0 } else { a / b as f64 };
        let mut summary = serde_json::json!({
            "rows": self.rows,
            "maskable": self.maskable,
            "masked": self.masked,
            "rate": ratio(self.masked as f64, self.maskable),
            "adjacent_share": ratio(self.adjacent as f64, self.masked),
        });
        if has_entropies {
            summary["mean_entropy_masked"] = ratio(self.masked_entropy, self.masked).into();
            summary["mean_entropy_unmasked"] =
                ratio(self.unmasked_entropy, self.maskable - self.masked).into();
        }
        summary
    }

    fn add_entropy(&mut self, entropy: &[Option<f32>], positions: &[u16]) {
        let total: f64 = entropy.iter().flatten().map(|&nats| f64::from(nats)).sum();
        let masked: f64 = positions.iter().filter_map(|&i| entropy[i as usize]).map(f64::from).sum();
        self.masked_entropy += masked;
        self.unmasked_entropy += total - masked;
    }
}
