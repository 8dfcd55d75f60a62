//! The report as the manifest has it.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::tally::{Share, Tally};
use entromask_policy::Class;

use crate::classes::Entries;

/// Tokens that are listed.
const LISTED: usize = 20;

impl Tally {
    /// The counts, and under `report` what the masks are like beside random ones of the same budgets.
    pub(crate) fn summary(&self, entries: &Entries) -> Value {
        let mut summary = json!({
            "rows": self.rows,
            "maskable": self.maskable,
            "masked": self.masked,
            "rate": ratio(self.masked as f64, self.maskable),
            "adjacent_share": ratio(self.gaps.adjacent as f64, self.masked),
        });
        let means = self.means();
        if let Some(entropy) = means.get("entropy") {
            summary["mean_entropy_masked"] = entropy["masked"].clone();
            summary["mean_entropy_unmasked"] = entropy["unmasked"].clone();
        }
        summary["report"] = json!({
            "budget": self.budget,
            "short": self.budget - self.masked,
            "relaxed": self.relaxed,
            "corrupted": self.corrupted,
            "epochs": self.epochs(),
            "means": means,
            "overlap": self.overlap(),
            "clustering": self.clustering(),
            "classes": self.classes(entries),
            "tokens": self.tokens(entries),
        });
        summary
    }

    fn epochs(&self) -> Value {
        let epoch = |(epoch, share): (&u16, &Share)| json!({"epoch": epoch, "rate": ratio(share.masked as f64, share.maskable)});
        self.by_epoch.iter().map(epoch).collect()
    }

    /// Means in nats, of masked tokens and of the others.
    fn means(&self) -> Map<String, Value> {
        let means = |(name, [masked, all]): (&&str, &[f64; 2])| {
            let unmasked = mean(all - masked, self.maskable - self.masked);
            (name.to_string(), json!({"masked": mean(*masked, self.masked), "unmasked": unmasked}))
        };
        self.sums.iter().map(means).collect()
    }

    /// Null for a single epoch.
    fn overlap(&self) -> Value {
        let found = &self.overlap;
        if found.ever_of == 0 {
            return Value::Null;
        }
        json!({
            "repeated": ratio(found.repeated as f64, found.repeated_of),
            "repeated_random": ratio(found.repeated_random, found.repeated_of),
            "ever": ratio(found.ever as f64, found.ever_of),
            "ever_random": ratio(found.ever_random, found.ever_of),
        })
    }

    fn clustering(&self) -> Value {
        let gaps = &self.gaps;
        json!({
            "adjacent": ratio(gaps.adjacent as f64, self.masked),
            "adjacent_random": ratio(gaps.adjacent_random, self.masked),
            "mean_gap": ratio(gaps.steps as f64, gaps.count),
            "mean_gap_random": ratio(gaps.steps_random, gaps.count),
        })
    }

    /// Empty without a vocabulary.
    fn classes(&self, entries: &Entries) -> Value {
        let known = Class::ALL.iter().zip(&self.by_class).filter(|(_, share)| share.maskable > 0);
        let class = |(class, share): (&Class, &Share)| json!({"class": class, "masked": share.masked, "maskable": share.maskable, "expected": share.expected});
        known.filter(|_| !entries.is_empty()).map(class).collect()
    }

    /// How many ids are ever masked, which most often, which part of the budget they take, and which one random masks would
    /// give them.
    fn tokens(&self, entries: &Entries) -> Value {
        let mut all: Vec<(u32, Share)> = (0..).zip(self.by_token.iter().copied()).collect();
        all.retain(|(_, share)| share.maskable > 0);
        let distinct = all.len();
        all.sort_unstable_by_key(|(id, share)| (Reverse(share.masked), *id));
        all.retain(|(_, share)| share.masked > 0);
        let ever = all.len();
        all.truncate(LISTED);
        let sum = |count: fn(&Share) -> f64| all.iter().map(|(_, share)| count(share)).sum::<f64>();
        json!({
            "distinct": distinct,
            "ever_masked": ever,
            "top_share": ratio(sum(|share| share.masked as f64), self.masked),
            "top_share_random": ratio(sum(|share| share.expected), self.masked),
            "most_masked": all.iter().map(|(id, share)| token(*id, share, entries)).collect::<Value>(),
        })
    }
}

fn token(id: u32, share: &Share, entries: &Entries) -> Value {
    json!({"id": id, "token": entries.name(id), "masked": share.masked, "maskable": share.maskable, "expected": share.expected})
}

/// Null of no tokens: as a number it would be compared with others.
fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn ratio(part: f64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}
