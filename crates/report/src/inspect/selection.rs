//! The selection report that a masks artifact's manifest holds: what its masks are like beside random ones.

use entromask_artifact::Manifest;
use serde::{Deserialize, Serialize};

use crate::nats::{FLAT, Summary};

/// How much more often than at random something is masked before it is pointed out.
const OFTEN: f64 = 1.5;
/// The share of all masks that is worth pointing out.
const MANY: f64 = 0.1;
/// The share of masks that come again in the next epoch, above which the masks are called fixed.
const FIXED: f64 = 0.9;

/// The report as `entromask-select` wrote it; all rows and epochs are in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Tokens that were to be masked.
    pub budget: u64,
    /// Tokens of the budget that were not masked.
    pub short: u64,
    /// Tokens that were masked although cap or spread forbid it.
    pub relaxed: u64,
    /// Rate of each epoch.
    pub epochs: Vec<EpochRate>,
    /// Mean values of masked and unmasked tokens in nats, by name.
    pub means: std::collections::BTreeMap<String, Means>,
    /// What epochs have in common, if there are several.
    pub overlap: Option<Overlap>,
    /// How close together masked tokens lie.
    pub clustering: Clustering,
    /// Masks by class of token.
    pub classes: Vec<ClassMasked>,
    /// Masks by token.
    pub tokens: TokensMasked,
}

/// The rate that was reached in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRate {
    /// The epoch.
    pub epoch: u16,
    /// Masked among maskable tokens.
    pub rate: f64,
}

/// Mean values in nats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Means {
    /// Of masked tokens, if there are any.
    pub masked: Option<f64>,
    /// Of maskable tokens that are not masked, if there are any.
    pub unmasked: Option<f64>,
}

/// What epochs have in common; beside each share, that of random masks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// Share of masked tokens that were masked in the epoch before.
    pub repeated: f64,
    /// Of random masks.
    pub repeated_random: f64,
    /// Share of the corpus that is masked in any epoch.
    pub ever: f64,
    /// Of random masks.
    pub ever_random: f64,
}

/// How close together masked tokens lie; beside each number, that of random masks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    /// Share of masked tokens whose left neighbour is masked.
    pub adjacent: f64,
    /// Of random masks.
    pub adjacent_random: f64,
    /// Steps from one masked token to the next.
    pub mean_gap: f64,
    /// Of random masks.
    pub mean_gap_random: f64,
}

/// Masks of one class of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassMasked {
    /// Name of the class.
    pub class: String,
    /// Masked tokens.
    pub masked: u64,
    /// Maskable tokens.
    pub maskable: u64,
    /// Masked tokens that random masks of the same budgets would have; reports of older versions do not say it.
    #[serde(default)]
    pub expected: Option<f64>,
}

/// Masks by token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokensMasked {
    /// Different ids among the maskable tokens.
    pub distinct: u64,
    /// Different ids among the masked tokens.
    pub ever_masked: u64,
    /// Share of all masks that the listed tokens take.
    pub top_share: f64,
    /// Share that random masks of the same budgets would give them.
    pub top_share_random: f64,
    /// The tokens masked most often.
    pub most_masked: Vec<IdMasked>,
}

/// Masks of one token id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IdMasked {
    /// The id.
    pub id: u32,
    /// Name in the vocabulary, if it is known.
    pub token: Option<String>,
    /// Masked occurrences.
    pub masked: u64,
    /// Occurrences, each epoch counted.
    pub maskable: u64,
    /// As of classes.
    #[serde(default)]
    pub expected: Option<f64>,
}

impl Means {
    /// None where all tokens are masked: nothing was told apart.
    fn difference(&self) -> Option<f64> {
        Some((self.masked? - self.unmasked?).abs())
    }
}

impl Selection {
    /// The report of a masks artifact; those of older versions have none.
    pub(super) fn of(manifest: &Manifest) -> Option<Self> {
        serde_json::from_value(manifest.stats["report"].clone()).ok()
    }

    /// Masked and maskable tokens of all classes; of none if the classes are not known.
    pub(super) fn total(&self) -> (u64, u64) {
        let sum = |of: fn(&ClassMasked) -> u64| self.classes.iter().map(of).sum();
        (sum(|class| class.masked), sum(|class| class.maskable))
    }

    /// Whether the masks follow entropies that tell nothing apart; `masked` are those of the masked tokens. Masks from the middle
    /// of the ranking may have the mean of all, so that the means alone do not say it.
    pub(super) fn is_flat(&self, masked: &Summary) -> bool {
        let differ = |(name, means): (&String, &Means)| {
            name != "entropy" || means.difference().is_some_and(|difference| difference >= FLAT)
        };
        masked.is_flat() && !self.means.is_empty() && !self.means.iter().any(differ)
    }

    /// What a user should not overlook, in sentences.
    pub(super) fn remarks(&self) -> Vec<String> {
        let percent = crate::number::percent;
        let mut remarks = Vec::new();
        if self.relaxed > 0 {
            let share = percent(self.relaxed as f64 / self.budget as f64);
            remarks.push(format!("cap and spread had to give way for {share} of the budget"));
        }
        if self.short > 0 {
            remarks.push(format!(
                "{} of the budget was not spent",
                percent(self.short as f64 / self.budget as f64)
            ));
        }
        if let Some(overlap) = self.overlap.as_ref().filter(|overlap| overlap.repeated > FIXED) {
            let (repeated, ever) = (percent(overlap.repeated), percent(overlap.ever));
            remarks.push(format!(
                "the masks hardly change: {repeated} come again in the next epoch, and only {ever} of the corpus is \
                 ever masked"
            ));
        }
        let (masked, maskable) = self.total();
        for class in &self.classes {
            let share = class.masked as f64 / masked.max(1) as f64;
            let usual = class.maskable as f64 / maskable.max(1) as f64 * masked as f64;
            let expected = class.expected.unwrap_or(usual);
            let times = class.masked as f64 / expected;
            if times > OFTEN && share > MANY && class.masked as f64 > by_chance(expected) {
                let (name, share) = (&class.class, percent(share));
                remarks.push(format!(
                    "the masks pile up on class `{name}`: {share} of them, {times:.1} × random"
                ));
            }
        }
        let tokens = &self.tokens;
        // Those that are listed were chosen for being masked often: by chance, too.
        let most = tokens.most_masked.iter().map(|id| by_chance(id.expected.unwrap_or(0.0))).sum::<f64>();
        let found = tokens.most_masked.iter().map(|id| id.masked).sum::<u64>() as f64;
        let piles_up = tokens.top_share > OFTEN * tokens.top_share_random && tokens.top_share > 3.0 * MANY;
        if piles_up && found >= most {
            let (n, share) = (tokens.most_masked.len(), percent(tokens.top_share));
            let times = tokens.top_share / tokens.top_share_random;
            remarks.push(format!("the masks pile up on {n} tokens: {share} of them, {times:.1} × random"));
        }
        remarks
    }
}

/// How many masks random ones may well have where `expected` are expected: three standard deviations more.
fn by_chance(expected: f64) -> f64 {
    expected + 3.0 * expected.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(class: &str, masked: u64, maskable: u64) -> ClassMasked {
        ClassMasked { class: class.into(), masked, maskable, expected: None }
    }

    #[test]
    fn masks_are_flat_if_masked_and_unmasked_entropies_agree() {
        let beside = |name: &str, masked, unmasked| {
            let means = [(name.to_string(), Means { masked: Some(masked), unmasked })].into();
            Selection { means, ..Selection::default() }
        };
        let selection = |name: &str, masked| beside(name, masked, Some(6.63));
        let summary = |std| Summary { count: 100, mean: 6.63, std, ..Summary::default() };
        assert!(selection("entropy", 6.631).is_flat(&summary(0.003)));
        assert!(!selection("entropy", 7.2).is_flat(&summary(0.003)), "they were told apart");
        assert!(!selection("entropy", 6.631).is_flat(&summary(1.2)), "from the middle");
        assert!(!selection("excess", 6.631).is_flat(&summary(0.003)), "by something else");
        assert!(!Selection::default().is_flat(&summary(0.003)));
        assert!(beside("entropy", 6.631, None).is_flat(&summary(0.003)), "all are masked");
        assert!(!beside("entropy", 6.631, None).is_flat(&summary(1.2)));
    }

    #[test]
    fn only_what_stands_out_is_remarked() {
        let mut selection = Selection {
            budget: 1000,
            classes: vec![class("word", 700, 7000), class("capital", 300, 3000)],
            overlap: Some(Overlap { repeated: 0.1, repeated_random: 0.1, ever: 0.3, ever_random: 0.3 }),
            tokens: TokensMasked { top_share: 0.3, top_share_random: 0.3, ..TokensMasked::default() },
            ..Selection::default()
        };
        assert_eq!(selection.remarks(), [""; 0]);
        selection.classes = vec![class("word", 200, 7000), class("capital", 800, 3000)];
        selection.overlap =
            Some(Overlap { repeated: 1.0, repeated_random: 0.1, ever: 0.1, ever_random: 0.3 });
        (selection.relaxed, selection.short) = (20, 10);
        selection.tokens.top_share = 0.6;
        let remarks = selection.remarks().join("\n");
        for part in [
            "2.0 % of the budget",
            "1.0 % of the budget",
            "`capital`: 80.0 %",
            "2.7 ×",
            "only 10.0 %",
            "2.0 ×",
        ] {
            assert!(remarks.contains(part), "{part} in {remarks}");
        }
    }
}
