//! Masks as text.

use super::MasksView;
use super::screen::{Screen, ratio, sparkline};
use super::selection::Selection;
use crate::nats::{Range, Summary};
use crate::number::{count, counted, percent};
use crate::scan::TokenMasked;

impl Screen {
    pub(super) fn masks(&mut self, view: &MasksView) {
        self.heading("masks");
        let of =
            view.maskable.map_or_else(String::new, |maskable| format!(" of {} maskable", count(maskable)));
        let epochs: Vec<_> = view.epochs.iter().map(ToString::to_string).collect();
        let mut pairs = vec![
            (if epochs.len() == 1 { "epoch" } else { "epochs" }, epochs.join(", ")),
            ("rows", format!("{} (each epoch counted)", count(view.rows))),
            ("masked", format!("{}{of}", count(view.masked))),
        ];
        pairs.extend(view.rate.map(|rate| ("rate", percent(rate))));
        pairs.push(("not [MASK]", format!("{} are shown as another token", count(view.corrupted))));
        self.pairs(&pairs);
        if let Some(entropy) = &view.entropy {
            self.heading("entropies of the masked tokens (nats)");
            self.summaries(&[("entropy", entropy)]);
        }
        self.drift(view.drift.as_ref());
        match &view.selection {
            Some(selection) => self.selection(selection, view.entropy.as_ref()),
            None => self.most_masked(&view.most_masked),
        }
        self.passage(
            view.passage.as_ref(),
            view.entropy.as_ref().map_or_else(Range::default, Summary::range),
        );
    }

    fn most_masked(&mut self, tokens: &[TokenMasked]) {
        if tokens.is_empty() {
            return;
        }
        self.heading("tokens masked most often");
        let row = |token: &TokenMasked| {
            let share = percent(ratio(token.masked, token.count));
            [token.token.clone(), count(token.masked), count(token.count), share]
        };
        self.table(["token", "masked", "of", "share"], 1, tokens.iter().map(row).collect());
    }

    fn selection(&mut self, selection: &Selection, entropy: Option<&Summary>) {
        self.heading("selection (all rows and epochs)");
        let mut pairs = vec![
            ("budget", counted(selection.budget, "token")),
            ("not spent", count(selection.short)),
            ("beyond cap or spread", count(selection.relaxed)),
        ];
        let rates: Vec<_> = selection.epochs.iter().map(|epoch| epoch.rate).collect();
        if let [first, .., last] = rates.as_slice()
            && rates.iter().any(|rate| (rate - first).abs() > 1e-3)
        {
            let curve = format!("{} {} {}", percent(*first), sparkline(&rates), percent(*last));
            pairs.push(("rate by epoch", curve));
        }
        let means: Vec<_> = selection
            .means
            .iter()
            .map(|(name, means)| {
                let [masked, unmasked] = [means.masked, means.unmasked].map(mean);
                (format!("mean {name}"), format!("{masked} nats masked, {unmasked} unmasked"))
            })
            .collect();
        pairs.extend(means.iter().map(|(name, value)| (name.as_str(), value.clone())));
        self.pairs(&pairs);
        self.beside_random(selection);
        self.classes(selection);
        self.ids(selection);
        if let Some(entropy) = entropy.filter(|entropy| selection.is_flat(entropy)) {
            self.flat("the entropies of masked and unmasked tokens", entropy);
        }
        selection.remarks().iter().for_each(|remark| self.remark(remark));
    }

    fn beside_random(&mut self, selection: &Selection) {
        self.heading("beside random masks of the same budgets");
        let shares = |name: String, found: f64, random: f64| {
            [name, percent(found), percent(random), times(found, random)]
        };
        let (clustering, tokens) = (&selection.clustering, &selection.tokens);
        let listed = format!("masks that the {} listed tokens take", tokens.most_masked.len());
        let mut rows = Vec::new();
        if let Some(overlap) = &selection.overlap {
            rows.push(shares("corpus masked in any epoch".into(), overlap.ever, overlap.ever_random));
            rows.push(shares(
                "masks that were masks an epoch before".into(),
                overlap.repeated,
                overlap.repeated_random,
            ));
        }
        rows.push(shares(
            "masks beside another mask".into(),
            clustering.adjacent,
            clustering.adjacent_random,
        ));
        rows.push([
            "tokens from one mask to the next".into(),
            format!("{:.2}", clustering.mean_gap),
            format!("{:.2}", clustering.mean_gap_random),
            times(clustering.mean_gap, clustering.mean_gap_random),
        ]);
        rows.push(shares(listed, tokens.top_share, tokens.top_share_random));
        self.table(["", "here", "random", "ratio"], 1, rows);
    }

    fn classes(&mut self, selection: &Selection) {
        let (masked, maskable) = selection.total();
        if maskable == 0 {
            return;
        }
        self.heading("masks by class of token");
        let row = |class: &super::selection::ClassMasked| {
            let (found, random) = (ratio(class.masked, masked), ratio(class.maskable, maskable));
            [class.class.clone(), count(class.masked), percent(found), percent(random), times(found, random)]
        };
        let rows = selection.classes.iter().map(row).collect();
        self.table(["class", "masks", "of all masks", "of the corpus", "ratio"], 1, rows);
    }

    fn ids(&mut self, selection: &Selection) {
        let tokens = &selection.tokens;
        let (ever, distinct) = (count(tokens.ever_masked), count(tokens.distinct));
        self.heading(&format!("tokens masked most often ({ever} of {distinct} ids are ever masked)"));
        let row = |id: &super::selection::IdMasked| {
            let share = percent(ratio(id.masked, id.maskable));
            let name = id.token.clone().unwrap_or_else(|| format!("#{}", id.id));
            [name, count(id.masked), count(id.maskable), share]
        };
        self.table(["token", "masked", "of", "share"], 1, tokens.most_masked.iter().map(row).collect());
    }
}

/// A dash where there is nothing that it would be the mean of.
fn mean(nats: Option<f64>) -> String {
    nats.map_or_else(|| "–".into(), |nats| format!("{nats:.3}"))
}

/// How many times as much, where there is something to compare with.
fn times(found: f64, random: f64) -> String {
    if random > 0.0 { format!("{:.2}", found / random) } else { "–".into() }
}
