//! Dropout (Srivastava et al., JMLR 15, 2014), inverted: what is left is divided by its share, so that nothing is scaled when
//! nothing is dropped. What is dropped depends on the seed, the row and the place in the model, not on the lane or the thread
//! that computes the row. In the last layer the place of a value is that among the wanted positions of its row.

use std::ops::Range;

use entromask_kernels::{Matrix, Tile};
use entromask_random::keyed;
use rand::Rng;

use crate::{EncoderConfig, Family};

/// What decides which values of a batch are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Another one for each step.
    pub seed: u64,
    /// Number of the first row in its batch, so that the parts of a batch drop what the whole does.
    pub first_row: usize,
}

/// The share of the values that is dropped at each place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    embeddings: f64,
    /// Probabilities.
    attention: f64,
    attention_output: f64,
    /// What the feed-forward block activates.
    activated: f64,
    output: f64,
}

/// The draws of a forward pass at one depth.
#[derive(Clone, Copy)]
pub(super) struct Draws {
    pub(super) dropout: Dropout,
    pub(super) rates: Rates,
    pub(super) depth: usize,
}

/// A place where values are dropped.
#[derive(Clone, Copy)]
pub(super) struct Site {
    dropout: Dropout,
    rate: f64,
    purpose: &'static str,
    depth: u64,
}

/// What the values of a site were multiplied with, `[rows, width]`; nothing where nothing was dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask(Option<Matrix>);

/// Heads of a layer at most, whose draws must differ.
const HEADS: u64 = 1 << 16;

/// Heads of all layers at most.
const ALL_HEADS: u64 = 1 << 32;

impl Rates {
    pub(super) fn of(config: &EncoderConfig) -> Self {
        let (hidden, attention) = (config.hidden_dropout_prob, config.attention_probs_dropout_prob);
        if config.model_type == Family::ModernBert {
            let activated = config.modernbert().mlp_dropout;
            return Self {
                embeddings: hidden,
                attention,
                attention_output: attention,
                activated,
                output: 0.0,
            };
        }
        // `DistilBERT` drops nothing between attention and its norm.
        let attention_output = if config.model_type == Family::DistilBert { 0.0 } else { hidden };
        Self { embeddings: hidden, attention, attention_output, activated: 0.0, output: hidden }
    }
}

impl Draws {
    pub(super) fn embeddings(self) -> Option<Site> {
        self.site("dropped embeddings", self.rates.embeddings)
    }

    pub(super) fn attention(self) -> Option<Site> {
        self.site("dropped attention", self.rates.attention)
    }

    pub(super) fn attention_output(self) -> Option<Site> {
        self.site("dropped attention output", self.rates.attention_output)
    }

    pub(super) fn activated(self) -> Option<Site> {
        self.site("dropped activations", self.rates.activated)
    }

    pub(super) fn output(self) -> Option<Site> {
        self.site("dropped output", self.rates.output)
    }

    fn site(self, purpose: &'static str, rate: f64) -> Option<Site> {
        let Self { dropout, depth, .. } = self;
        (rate > 0.0).then_some(Site { dropout, rate, purpose, depth: depth as u64 })
    }
}

impl Site {
    /// Draws the factors of the probabilities of a tile of a head of the row numbered `row`.
    pub(super) fn of_tile(&self, row: usize, head: usize, tile: &Tile, factors: &mut Matrix) {
        let key = self.depth * HEADS + head as u64 + tile.queries.start as u64 * ALL_HEADS;
        self.draw(row, key, factors, 0..tile.queries.len());
    }

    fn draw(&self, row: usize, key: u64, factors: &mut Matrix, rows: Range<usize>) {
        let mut rng = keyed(self.dropout.seed, self.purpose, (self.dropout.first_row + row) as u64, key);
        rows.for_each(|row| fill(factors.row_mut(row), self.rate, &mut rng));
    }
}

impl Mask {
    /// Drops some of `values`, of which each row of the batch has a range of rows.
    pub(super) fn drop(
        &mut self,
        site: Option<Site>,
        rows: impl Iterator<Item = Range<usize>>,
        values: &mut Matrix,
    ) {
        let Some(site) = site else {
            self.0 = None;
            return;
        };
        let factors = self.0.get_or_insert_default();
        factors.reshape(values.rows(), values.width());
        rows.enumerate().for_each(|(row, rows)| site.draw(row, site.depth, factors, rows));
        values.multiply(factors);
    }

    /// Multiplies the gradient of what was left with the factors, which makes it that of the values.
    pub(super) fn apply(&self, gradient: &mut Matrix) {
        if let Some(factors) = &self.0 {
            gradient.multiply(factors);
        }
    }

    /// As [`Mask::apply`], for a gradient that is still needed: in `to`, if anything was dropped.
    pub(super) fn applied<'a>(&self, gradient: &'a Matrix, to: &'a mut Matrix) -> &'a Matrix {
        let Some(factors) = &self.0 else { return gradient };
        to.reshape(gradient.rows(), gradient.width());
        for row in 0..gradient.rows() {
            let pairs = gradient.row(row).iter().zip(factors.row(row));
            to.row_mut(row).iter_mut().zip(pairs).for_each(|(to, (d, factor))| *to = d * factor);
        }
        to
    }
}

/// 0 with probability `rate`, in steps of 2⁻¹⁶, and otherwise what keeps the expectation.
fn fill(factors: &mut [f32], rate: f64, rng: &mut impl Rng) {
    const STEPS: f64 = 65_536.0;
    let dropped = (rate * STEPS).round();
    let kept = if dropped < STEPS { (STEPS / (STEPS - dropped)) as f32 } else { 0.0 };
    let dropped = dropped as u32;
    for factors in factors.chunks_mut(4) {
        let mut word = rng.next_u64();
        for factor in factors {
            *factor = if (word as u32 & 0xffff) < dropped { 0.0 } else { kept };
            word >>= 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100,000 draws of probability 0.1: standard deviation 95, so that 6 of them are 570.
    #[test]
    fn as_much_is_dropped_as_was_asked_for_and_the_mean_stays() {
        let mut factors = vec![0.0; 100_000];
        fill(&mut factors, 0.1, &mut keyed(1, "test", 0, 0));
        let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as i64;
        assert!((dropped - 10_000).abs() < 570, "{dropped}");
        let kept = factors.iter().find(|factor| **factor > 0.0).expect("most");
        assert!((f64::from(*kept) * (1.0 - 6554.0 / 65_536.0) - 1.0).abs() < 1e-6, "{kept}");
        assert!(factors.iter().all(|factor| [0, kept.to_bits()].contains(&factor.to_bits())));
    }

    #[test]
    fn everything_can_be_dropped() {
        let mut factors = vec![1.0; 9];
        fill(&mut factors, 1.0, &mut keyed(1, "test", 0, 0));
        assert_eq!(factors, [0.0; 9]);
    }

    #[test]
    fn each_row_place_head_tile_and_step_has_its_own_draws() {
        let draws = |seed, depth| Draws {
            dropout: Dropout { seed, first_row: 0 },
            rates: Rates::of(&EncoderConfig::default()),
            depth,
        };
        let factors = |site: Option<Site>, row, head, first| {
            let tile = Tile { queries: first..first + 8, tokens: 0..16 };
            let mut factors = Matrix::default();
            factors.reshape(8, 16);
            site.expect("BERT drops there").of_tile(row, head, &tile, &mut factors);
            factors.to_vec()
        };
        let first = factors(draws(1, 0).attention(), 0, 0, 0);
        let others = [
            factors(draws(2, 0).attention(), 0, 0, 0),
            factors(draws(1, 1).attention(), 0, 0, 0),
            factors(draws(1, 0).attention(), 1, 0, 0),
            factors(draws(1, 0).attention(), 0, 1, 0),
            factors(draws(1, 0).attention(), 0, 0, 8),
            factors(draws(1, 0).output(), 0, 0, 0),
            factors(draws(1, 0).attention_output(), 0, 0, 0),
            factors(draws(1, 0).embeddings(), 0, 0, 0),
        ];
        assert_eq!(first, factors(draws(1, 0).attention(), 0, 0, 0));
        assert!(others.iter().all(|other| *other != first));
        assert!(draws(1, 0).activated().is_none());
        let rates = Rates::of(&EncoderConfig { model_type: Family::DistilBert, ..EncoderConfig::default() });
        let distilled = Draws { rates, ..draws(1, 0) };
        assert!(distilled.attention_output().is_none() && distilled.output().is_some());
    }
}
