//! An agreement in each form.

use entromask_tables::Agreements;

use super::{Agreement, Statistics, page, text};
use crate::compare::Forms;

impl Forms for Agreement {
    fn terminal(&self, width: Option<u16>) -> String {
        text::terminal(self, width)
    }

    fn markdown(&self) -> String {
        text::markdown(self)
    }

    fn html(&self) -> anyhow::Result<String> {
        page::render(self)
    }

    fn parquet(&self) -> anyhow::Result<Vec<u8>> {
        let mut table = Agreements::default();
        for (scoring, other) in self.scorings[1..].iter().zip(&self.others) {
            other.measures.iter().for_each(|of| add(&mut table, &self.scorings[0].name, &scoring.name, of));
        }
        table.to_bytes()
    }
}

fn add(table: &mut Agreements, reference: &str, scoring: &str, of: &Statistics) {
    table.measure.push(of.measure.clone());
    table.reference.push(reference.into());
    table.scoring.push(scoring.into());
    table.positions.push(of.positions);
    table.reference_mean.push(of.means[0]);
    table.reference_std.push(of.stds[0]);
    table.mean.push(of.means[1]);
    table.std.push(of.stds[1]);
    table.difference.push(of.difference);
    table.absolute_mean.push(of.absolute_mean);
    table.absolute_p95.push(of.absolute_p95);
    table.absolute_max.push(of.absolute_max);
    table.spearman.push(of.spearman);
    table.spearman_in_rows.push(of.spearman_in_rows);
    table.top.push(of.top);
    table.top_in_rows.push(of.top_in_rows);
}
