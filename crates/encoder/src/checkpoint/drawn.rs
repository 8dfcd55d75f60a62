//! Initial weights.

use anyhow::Result;
use entromask_random::{keyed, normals};

use super::weights::Source;
use crate::families::names::{Role, Slot};
use crate::{EncoderConfig, Family};

/// Initial weights: N(0, `initializer_range`²), except that biases are 0 and scales of layer normalisations are 1.
///
/// ModernBERT with an `initializer_cutoff_factor` begins as in `transformers`: normals are drawn again where they are
/// further than so many deviations from 0, and what is added to the residual stream, and the head's dense layer, has
/// the deviation `initializer_range` / √(2 · layers). A classifier, which `transformers` draws with 1 / √`hidden_size`, has
/// `initializer_range`.
pub(crate) struct Drawn {
    seed: u64,
    std: f64,
    /// Deviations beyond which nothing is drawn, and the deviation of outputs.
    modern: Option<(f64, f64)>,
}

impl Drawn {
    pub(crate) fn new(config: &EncoderConfig, seed: u64) -> Self {
        let std = config.initializer_range;
        let cutoff = config.modernbert().initializer_cutoff_factor;
        let outputs = std / (2.0 * config.num_hidden_layers as f64).sqrt();
        let modern = cutoff.filter(|_| config.model_type == Family::ModernBert);
        Self { seed, std, modern: modern.map(|cutoff| (cutoff, outputs)) }
    }

    fn weights(&self, slot: &Slot, n: usize) -> Vec<f32> {
        let mut rng = keyed(self.seed, &format!("init {}", slot.name), 0, 0);
        let Some((cutoff, outputs)) = self.modern else { return normals(n, self.std, &mut rng) };
        let std = if is_output(&slot.path) { outputs } else { self.std };
        let mut values = Vec::with_capacity(n);
        while values.len() < n {
            let draws = normals(n - values.len(), std, &mut rng);
            values.extend(draws.into_iter().filter(|&value| f64::from(value).abs() <= cutoff * std));
        }
        values
    }
}

impl Source for Drawn {
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        let n = shape.iter().product();
        Ok(match slot.role {
            Role::Bias => vec![0.0; n],
            Role::Scale => vec![1.0; n],
            Role::Dense | Role::Table => self.weights(slot, n),
        })
    }
}

/// The second product of a block, and the dense layer and decoder of the masked-LM head.
fn is_output(path: &str) -> bool {
    path.ends_with("/output/weight") || path.starts_with("head/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModernBertConfig;

    fn draw(cutoff: Option<f64>, path: &str) -> Vec<f32> {
        let modern = ModernBertConfig { initializer_cutoff_factor: cutoff, ..ModernBertConfig::default() };
        let config = EncoderConfig {
            model_type: Family::ModernBert,
            num_hidden_layers: 8,
            modernbert: Some(modern),
            ..EncoderConfig::default()
        };
        let slot = Slot::new(&config, &path.split('/').map(str::to_owned).collect::<Vec<_>>());
        Drawn::new(&config, 1).tensor(&slot, &[100, 200]).expect("cannot fail")
    }

    fn deviation(values: &[f32]) -> f64 {
        (values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    /// A normal that is cut at two deviations has a deviation of 0.8796 (1 − 2·2φ(2) / (2Φ(2) − 1), its root).
    #[test]
    fn modernbert_cuts_normals_and_begins_with_smaller_outputs() {
        for (path, std) in [
            ("encoder/layers/3/attention/qkv/weight", 0.02),
            ("encoder/layers/3/attention/output/weight", 0.005),
            ("encoder/layers/3/mlp/output/weight", 0.005),
            ("head/dense/weight", 0.005),
            ("encoder/embeddings/word_embeddings/weight", 0.02),
        ] {
            let values = draw(Some(2.0), path);
            assert!(values.iter().all(|value| f64::from(value.abs()) <= 2.0 * std), "{path}");
            assert!((deviation(&values) / std - 0.8796).abs() < 0.02, "{path}: {}", deviation(&values));
        }
        let plain = draw(None, "encoder/layers/3/mlp/output/weight");
        assert!((deviation(&plain) / 0.02 - 1.0).abs() < 0.02);
    }
}
