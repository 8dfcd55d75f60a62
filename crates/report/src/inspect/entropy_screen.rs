//! Entropies as text.

use super::EntropyView;
use super::screen::Screen;
use crate::nats::{Bin, Summary, step_decimals};
use crate::number::{count, counted};
use crate::scan::TokenMean;

impl Screen {
    pub(super) fn entropy(&mut self, view: &EntropyView) {
        self.heading("column statistics (nats)");
        let always = [("entropy", &view.entropy), ("surprisal", &view.surprisal)];
        let further = view.measures.iter().map(|(name, summary)| (name.as_str(), summary));
        self.summaries(&always.into_iter().chain(further).collect::<Vec<_>>());
        if view.measures.contains_key("margin") || view.measures.contains_key("normalized") {
            self.line("  margin and normalized have no unit: both are between 0 and 1");
        }
        self.line(&format!(
            "  {} without a score: special tokens, and rows that were left out",
            counted(view.unscored, "position")
        ));
        if let Some(limit) = view.ln_vocabulary {
            self.line(&format!("  largest possible entropy, ln of the vocabulary's size: {limit:.2}"));
        }
        if view.entropy.is_flat() {
            self.flat("the entropies", &view.entropy);
        }
        self.drift(view.drift.as_ref());
        self.heading("entropies (nats)");
        self.histogram(&view.histogram, &view.entropy);
        self.ranking(view);
        self.passage(view.passage.as_ref(), view.entropy.range());
    }

    /// The outer bars hold what lies beyond, too, and say so.
    fn histogram(&mut self, bins: &[Bin], all: &Summary) {
        let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return };
        let decimals = step_decimals(first.to - first.from).max(2);
        let label = |bin: &Bin| {
            let from = if bin == first { bin.from.min(all.min) } else { bin.from };
            let to = if bin == last { bin.to.max(all.max) } else { bin.to };
            format!("{from:.decimals$}–{to:.decimals$}")
        };
        let bars: Vec<_> = bins.iter().map(|bin| (label(bin), bin.count)).collect();
        self.bars(&bars);
    }

    fn ranking(&mut self, view: &EntropyView) {
        let ranking = &view.ranking;
        if ranking.highest.is_empty() {
            return;
        }
        self.heading(&format!(
            "tokens by mean entropy (those scored at least {})",
            counted(ranking.min_count, "time")
        ));
        let pairs = ranking.highest.iter().zip(&ranking.lowest);
        let decimals = ranking.decimals();
        let mean = |token: &TokenMean| format!("{:.decimals$}", token.mean);
        let times = |token: &TokenMean| count(token.count);
        let row = |(high, low): (&TokenMean, &TokenMean)| {
            [high.token.clone(), mean(high), times(high), low.token.clone(), mean(low), times(low)]
        };
        self.table(["highest", "nats", "count", "lowest", "nats", "count"], 1, pairs.map(row).collect());
    }
}
