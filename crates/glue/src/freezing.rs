//! Which parameters of a classifier are trained.
//!
//! A frozen parameter needs no gradient, so nothing below the lowest trained one is remembered or computed on the way
//! back.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use entromask_encoder::SequenceClassifier;
use entromask_fault::Fault;

use crate::config::Freeze;

/// Layers with weights of their own.
///
/// # Errors
/// A [`Fault`] of class usage if `freeze` wants to leave more of them alone than there are.
pub fn layers(model: &SequenceClassifier, freeze: Freeze) -> anyhow::Result<usize> {
    let mut counter = Counter::default();
    model.visit(&mut counter);
    let layers = counter.layers.len();
    match freeze {
        Freeze::Bottom(n) if n > layers => {
            Err(Fault::usage(format!("`freeze` is {freeze}, the model has {layers} layers of its own"))
                .remedy("freeze fewer layers, or the body")
                .into())
        }
        _ => Ok(layers),
    }
}

/// The model with the first `blocks` blocks frozen (see [`Freeze::blocks`]) and the rest trained, and how many numbers
/// are trained.
pub fn frozen(model: SequenceClassifier, blocks: usize, layers: usize) -> (SequenceClassifier, u64) {
    let mut freezer = Freezer { blocks, layers, path: Vec::new(), trained: 0 };
    let model = model.map(&mut freezer);
    (model, freezer.trained)
}

#[derive(Default)]
struct Counter {
    path: Vec<String>,
    layers: BTreeSet<usize>,
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.layers.extend(layer(&self.path));
    }
}

struct Freezer {
    blocks: usize,
    layers: usize,
    path: Vec<String>,
    trained: u64,
}

impl ModuleMapper for Freezer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = block(&self.path, self.layers).is_none_or(|block| block >= self.blocks);
        self.trained += if trained { param.lazy_shape().num_elements() as u64 } else { 0 };
        param.set_require_grad(trained)
    }
}

/// The block of a parameter, embeddings first; what stands above all layers of the body belongs to the last one, and the
/// head to none.
fn block(path: &[String], layers: usize) -> Option<usize> {
    let has = |name: &str| path.iter().any(|field| field == name);
    if !has("encoder") {
        return None;
    }
    if has("embeddings") {
        return Some(0);
    }
    Some(layer(path).map_or(layers, |layer| layer + 1))
}

fn layer(path: &[String]) -> Option<usize> {
    let after = path.iter().skip_while(|field| *field != "layers").nth(1)?;
    after.parse().ok()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use entromask_encoder::{Batch, EncoderConfig, Family, MaskedLm};
    use entromask_training::Gradients;

    use super::*;

    fn model(model_type: Family) -> SequenceClassifier {
        let config = EncoderConfig {
            model_type,
            vocab_size: 20,
            hidden_size: 8,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            intermediate_size: 12,
            max_position_embeddings: 6,
            ..EncoderConfig::default()
        };
        let dir = tempfile::tempdir().expect("a folder");
        let device = Device::flex();
        MaskedLm::init(&config, 1, &device).save_pretrained(&config, dir.path(), &[]).expect("saves");
        SequenceClassifier::init_from_encoder(dir.path(), &config, 2, 1, &device.autodiff()).expect("loads")
    }

    /// Numbers that get a gradient, and the numbers that the mapper says are trained.
    fn with_gradient(model: SequenceClassifier, freeze: Freeze) -> (u64, u64) {
        let layers = layers(&model, freeze).expect("enough of them");
        let (model, trained) = frozen(model, freeze.blocks(layers, 0, 2), layers);
        let batch = Batch::from_rows(&[[2, 7, 9, 3]], 0, &Device::flex().autodiff());
        let backward = model.logits(&batch).square().sum().backward();
        (Gradients::collect(&model, backward).numbers(), trained)
    }

    /// Of three layers of 8·8·4 + 8·4 + 2·8·12 + 12 + 8 + 4·8 = 532 numbers, embeddings of (20 + 6 + 2)·8 + 16 = 240 and a
    /// head of 72 + 18 = 90.
    #[test]
    fn what_is_frozen_gets_no_gradient_and_the_rest_does() {
        let cases = [
            (Freeze::None, 3 * 532 + 240 + 90),
            (Freeze::Embeddings, 3 * 532 + 90),
            (Freeze::Bottom(0), 3 * 532 + 90),
            (Freeze::Bottom(2), 532 + 90),
            (Freeze::Body, 90),
            (Freeze::Gradual, 90),
        ];
        for (freeze, expected) in cases {
            assert_eq!(with_gradient(model(Family::Bert), freeze), (expected, expected), "{freeze}");
        }
    }

    #[test]
    fn what_was_frozen_can_be_trained_again() {
        let (model, few) = frozen(model(Family::Bert), 4, 3);
        assert_eq!((few, with_gradient(model, Freeze::None).0), (90, 3 * 532 + 240 + 90));
    }

    #[test]
    fn the_norm_above_the_last_layer_belongs_to_it() {
        let counts = [Freeze::Bottom(2), Freeze::Body]
            .map(|freeze| with_gradient(model(Family::MegatronBert), freeze));
        assert_eq!(counts, [(532 + 16 + 90, 532 + 16 + 90), (90, 90)]);
    }

    #[test]
    fn more_layers_than_there_are_cannot_be_frozen() {
        let error = layers(&model(Family::Bert), Freeze::Bottom(4)).expect_err("refused");
        assert!(error.to_string().contains("`freeze` is bottom-4, the model has 3 layers"), "{error}");
    }
}
