//! Whether weights and `config.json` belong together, before memory is taken for what the configuration says.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Stored, fault};
use crate::EncoderConfig;
use crate::families::names::{self, Slot};
use crate::families::{Family, Layout};

/// Ends of names of what a body stores but does not learn.
const BUFFERS: [&str; 3] = ["position_ids", "token_type_ids", "inv_freq"];

/// Compares the vocabulary and the number of layers with the tensors that there are, and names tensors of the body that
/// nothing reads.
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
    let names = stored.names();
    if let Some((number, name)) = beyond(config.model_type.layout(), &names, layers_or_groups(config)) {
        let said = format!("tensor {name} is of layer {number}, but config.json has {key} = {layers}");
        return Err(fault(stored.dir(), said));
    }
    warn_unread(stored, config.model_type.layout(), &names);
    Ok(())
}

/// Name of the word embeddings.
pub(crate) fn words(config: &EncoderConfig) -> String {
    Slot::new(config, &fields("encoder/embeddings/word_embeddings/weight")).name
}

/// Name of the decoder's weight.
pub(crate) fn decoder(config: &EncoderConfig) -> String {
    Slot::new(config, &fields("head/decoder/weight")).name
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

/// The number that names of tensors go up to.
fn layers_or_groups(config: &EncoderConfig) -> usize {
    match config.model_type {
        Family::Albert => config.num_hidden_groups,
        _ => config.num_hidden_layers,
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

/// The first tensor of a layer from number `count` on.
fn beyond<'n>(layout: &Layout, names: &'n [String], count: usize) -> Option<(usize, &'n str)> {
    let (_, of_layers) = layout.tensors.iter().find(|(path, _)| path.starts_with("encoder/layers/{}"))?;
    let start = of_layers.split('{').next()?.strip_prefix(layout.prefix)?;
    let number = |name: &str| -> Option<usize> {
        let rest = name.strip_prefix(layout.prefix).unwrap_or(name).strip_prefix(start)?;
        rest.split('.').next()?.parse().ok()
    };
    let numbered = names.iter().filter_map(|name| Some((number(name)?, name.as_str())));
    numbered.filter(|(number, _)| *number >= count).min()
}

fn warn_unread(stored: &Stored, layout: &Layout, names: &[String]) {
    let unread: Vec<&str> = unread(layout, names);
    if let Some(first) = unread.iter().min() {
        let (dir, count) = (stored.dir().display(), unread.len());
        tracing::warn!("{dir}: tensors of the body that are not read: {count}, the first is {first}");
    }
}

/// Names tensors that have a place in a model of this family, but none in the one that was read: the configuration says
/// that there is no such bias, table or layer, and what they hold does not count, as in `transformers`.
pub(crate) fn warn_left_out(stored: &Stored, layout: &Layout) {
    let left: Vec<String> = left_out(layout, &stored.names(), &stored.names_read());
    if let Some(first) = left.first() {
        let (dir, count) = (stored.dir().display(), left.len());
        tracing::warn!("{dir}: tensors that config.json says are not there: {count}, the first is {first}");
    }
}

/// Of the head only where it was read, and without its decoder, which may be a copy of the embeddings.
fn left_out(layout: &Layout, names: &[String], read: &BTreeSet<String>) -> Vec<String> {
    let bare = |name: &str| name.strip_prefix(layout.prefix).unwrap_or(name).to_owned();
    let place_in = |part: &str, name: &str| {
        let name = bare(name);
        let module = name.rsplit_once('.').map_or("", |(module, _)| module);
        let mut places = layout.tensors.iter().filter(|(path, _)| path.split('/').next() == Some(part));
        places.any(|(_, place)| names::same_place(&bare(place), module))
    };
    let of_head = |name: &str| place_in("head", name) && !name.ends_with("decoder.weight");
    let reads_head = read.iter().any(|name| of_head(name));
    // The head's bias may be stored twice.
    let second = |name: &str| names::at_decoder(name).is_some_and(|other| read.contains(&other));
    let first = |name: &str| read.iter().any(|other| names::at_decoder(other).as_deref() == Some(name));
    let counts = |name: &str| place_in("encoder", name) || (reads_head && of_head(name));
    let left = names.iter().filter(|name| !read.contains(*name) && counts(name));
    left.filter(|name| !second(name) && !first(name)).cloned().collect()
}

/// Tensors of the body that have no place in ours.
fn unread<'n>(layout: &Layout, names: &'n [String]) -> Vec<&'n str> {
    let prefixed = names.iter().any(|name| name.starts_with(layout.prefix));
    let bodies: Vec<&str> =
        layout.tensors.iter().filter_map(|(_, name)| name.strip_prefix(layout.prefix)).collect();
    let first = |name: &str| name.split('.').next().map(str::to_owned);
    let of_body = |name: &str| match name.strip_prefix(layout.prefix) {
        Some(_) => true,
        None => !prefixed && bodies.iter().any(|body| first(body) == first(name)),
    };
    let read = |name: &str| {
        let bare = name.strip_prefix(layout.prefix).unwrap_or(name);
        let module = bare.rsplit_once('.').map_or(bare, |(module, _)| module);
        let buffer = BUFFERS.iter().any(|buffer| name.ends_with(buffer)) || bare.starts_with("pooler.");
        buffer || bodies.iter().any(|body| names::same_place(body, module))
    };
    names.iter().map(String::as_str).filter(|name| of_body(name) && !read(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;

    use super::*;
    use crate::MaskedLm;
    use crate::checkpoint::{self, weights::Source};

    /// A checkpoint that is still there when it was read.
    struct Kept<'a>(&'a Stored);

    impl Source for Kept<'_> {
        fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
            self.0.tensor(slot, shape)
        }
    }

    /// Tensors that are left out of the fixture `name`, with a changed configuration.
    fn left(name: &str, change: impl Fn(&mut EncoderConfig)) -> Vec<String> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name);
        let mut config = EncoderConfig::from_pretrained(&dir).expect("reads");
        config.tie_word_embeddings &= !name.ends_with("-untied");
        change(&mut config);
        let stored = Stored::open(&dir, &config).expect("opens");
        let blank = MaskedLm::blank(&config, &Device::flex());
        checkpoint::fill(blank, &config, Kept(&stored)).expect("reads all");
        left_out(config.model_type.layout(), &stored.names(), &stored.names_read())
    }

    #[test]
    fn nothing_is_left_out_of_what_belongs_together() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
        for case in fs_err::read_dir(dir).expect("lists") {
            let name = case.expect("an entry").file_name().into_string().expect("UTF-8");
            assert_eq!(left(&name, |_| ()), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_the_configuration_denies_is_named() {
        let table = left("bert", |config| config.type_vocab_size = 0);
        assert_eq!(table, ["bert.embeddings.token_type_embeddings.weight"]);
        let modern = |name, change: fn(&mut crate::ModernBertConfig)| {
            left(name, move |config| change(config.modernbert.as_mut().expect("has it")))
        };
        let biases = modern("modernbert-biased", |modern| modern.attention_bias = false);
        assert!(!biases.is_empty() && biases.iter().all(|name| name.contains(".attn.")), "{biases:?}");
        assert_eq!(modern("modernbert", |modern| modern.decoder_bias = false), ["decoder.bias"]);
        let inner = left("albert-groups", |config| config.inner_group_num = 1);
        assert!(!inner.is_empty() && inner.iter().all(|name| name.contains("albert_layers.1.")), "{inner:?}");
    }
}
