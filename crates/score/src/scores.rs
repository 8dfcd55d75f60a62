//! A part's scores while they are filled in.

use std::collections::BTreeSet;

use entromask_kernels::{Details, Measures};
use entromask_tables::{Entropies, Ragged, Tokens};

use crate::config::Measure;
use crate::pass::Pass;

/// What the head says about one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub(crate) measures: Measures,
    /// Where a measure that needs them was asked for.
    pub(crate) details: Option<Details>,
}

impl Scored {
    pub(crate) fn is_finite(&self) -> bool {
        self.measures.entropy.is_finite() && self.measures.surprisal.is_finite()
    }
}

/// Whether a measure among these needs more than the entropy.
pub(crate) fn needs_details(measures: &BTreeSet<Measure>) -> bool {
    measures.iter().any(|&measure| measure != Measure::Normalized)
}

/// The table of a part, its positions unscored at first.
pub(crate) struct Scores<'a> {
    entropies: Entropies,
    measures: &'a BTreeSet<Measure>,
    /// ln V.
    limit: f32,
}

impl<'a> Scores<'a> {
    pub(crate) fn unscored(part: &Tokens, measures: &'a BTreeSet<Measure>, vocab_size: usize) -> Self {
        let column = || Ragged {
            offsets: part.input_ids.offsets.clone(),
            values: vec![None; part.input_ids.values.len()],
        };
        let entropies = Entropies {
            row: part.row.clone(),
            entropy: column(),
            surprisal: column(),
            measures: measures.iter().map(|measure| (measure.name().to_owned(), column())).collect(),
        };
        Self { entropies, measures, limit: (vocab_size as f32).ln() }
    }

    /// Goes on from `begun`, if that is a table of the same rows and measures.
    pub(crate) fn resume(self, begun: Option<Entropies>) -> Self {
        let is_alike = |begun: &Entropies| {
            let offsets = |table: &Entropies| {
                let columns = [&table.entropy, &table.surprisal].into_iter().chain(table.measures.values());
                columns.map(|column| column.offsets.clone()).collect::<Vec<_>>()
            };
            begun.row == self.entropies.row
                && begun.measures.keys().eq(self.entropies.measures.keys())
                && offsets(begun) == offsets(&self.entropies)
        };
        match begun.filter(is_alike) {
            Some(entropies) => Self { entropies, ..self },
            None => self,
        }
    }

    /// Whether all that `passes` predict is scored.
    pub(crate) fn has(&self, passes: &[Pass]) -> bool {
        let Ragged { offsets, values } = &self.entropies.entropy;
        let is_scored =
            |pass: &Pass, position: u16| values[offsets[pass.row] as usize + usize::from(position)].is_some();
        passes.iter().all(|pass| pass.positions.iter().all(|&position| is_scored(pass, position)))
    }

    /// The table so far.
    pub(crate) fn so_far(&self) -> &Entropies {
        &self.entropies
    }

    pub(crate) fn fill(&mut self, passes: &[Pass], scored: &[Scored]) {
        let places = passes
            .iter()
            .flat_map(|pass| pass.positions.iter().map(|&position| (pass.row, position as usize)));
        let starts = self.entropies.entropy.offsets.clone();
        for ((row, position), scored) in places.zip(scored) {
            self.set(starts[row] as usize + position, scored);
        }
    }

    pub(crate) fn finish(self) -> Entropies {
        self.entropies
    }

    fn set(&mut self, place: usize, scored: &Scored) {
        self.entropies.entropy.values[place] = Some(scored.measures.entropy);
        self.entropies.surprisal.values[place] = Some(scored.measures.surprisal);
        for &measure in self.measures {
            if let Some(column) = self.entropies.measures.get_mut(measure.name()) {
                column.values[place] = value(measure, scored, self.limit);
            }
        }
    }
}

fn value(measure: Measure, scored: &Scored, limit: f32) -> Option<f32> {
    match measure {
        Measure::MinEntropy => scored.details.map(|details| details.min_entropy),
        Measure::Renyi2 => scored.details.map(|details| details.renyi2),
        Measure::Margin => scored.details.map(|details| details.margin),
        // With a vocabulary of one token nothing is unsure.
        Measure::Normalized if limit <= 0.0 => Some(0.0),
        Measure::Normalized => Some((scored.measures.entropy / limit).clamp(0.0, 1.0)),
    }
}
