//! A round against the round before, as text.

use super::screen::Screen;
use crate::drift::Drift;
use crate::number::counted;

impl Screen {
    /// Nothing where there was no round before.
    pub(super) fn drift(&mut self, drift: Option<&Drift>) {
        let Some(drift) = drift else { return };
        let correlation = |found: Option<f64>| found.map_or("undefined".into(), |rank| format!("{rank:.3}"));
        let overall = correlation(drift.spearman);
        self.heading("entropies against the round before");
        self.pairs(&[
            ("rank correlation", format!("{overall} (Spearman, {})", counted(drift.tokens, "token"))),
            ("within rows", format!("{} (mean)", correlation(drift.spearman_in_rows))),
            ("staleness", format!("{} trained on in between", counted(drift.staleness, "token"))),
            ("round before", drift.before.display().to_string()),
        ]);
    }
}
