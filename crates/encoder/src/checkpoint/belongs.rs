//! Whether weights and `config.json` belong together, before memory is taken for what the configuration says.

use anyhow::Result;

use super::{Stored, fault};
use crate::EncoderConfig;
use crate::families::Family;
use crate::families::names::Slot;

/// Compares the vocabulary and the number of layers with the tensors that there are.
///
/// # Errors
/// An input fault that names the tensor and what the configuration says.
pub(crate) fn check(stored: &Stored, config: &EncoderConfig) -> Result<()> {
    stored.expect(&words(config), &[config.vocab_size, config.embedding_size()])?;
    let (key, layers) = layers(config);
    for layer in 0..layers {
        let first = of_layer(config, layer);
        if !stored.has(&first) {
            let said = format!("tensor {first} is missing, but config.json has {key} = {layers}");
            return Err(fault(stored.dir(), said));
        }
    }
    Ok(())
}

/// Name of the word embeddings.
pub(crate) fn words(config: &EncoderConfig) -> String {
    Slot::new(config, &fields("encoder/embeddings/word_embeddings/weight")).name
}

/// Layers that have weights of their own, and the key that says so.
fn layers(config: &EncoderConfig) -> (&'static str, usize) {
    match config.model_type {
        Family::Albert if config.inner_group_num == 1 => ("num_hidden_groups", config.num_hidden_groups),
        Family::Albert => (
            "num_hidden_groups · inner_group_num",
            config.num_hidden_groups.saturating_mul(config.inner_group_num),
        ),
        Family::DistilBert => ("n_layers", config.num_hidden_layers),
        _ => ("num_hidden_layers", config.num_hidden_layers),
    }
}

/// A tensor that every layer has.
fn of_layer(config: &EncoderConfig, layer: usize) -> String {
    let in_attention = |path: &&str| path.starts_with("encoder/layers/{}/attention/");
    let paths = config.model_type.layout().tensors.iter().map(|(path, _)| *path);
    let path = paths.clone().find(in_attention).expect("layers have attention");
    Slot::new(config, &fields(&format!("{}/weight", path.replace("{}", &layer.to_string())))).name
}

fn fields(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}
