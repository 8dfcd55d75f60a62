//! A tiny BERT gives what `transformers` gives; `tests/parity/export_bert.py` wrote the fixture.

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use entromask_encoder::{Activation, Batch, EncoderConfig, MaskedLm, SequenceClassifier};
use safetensors::SafeTensors;

/// Largest difference that the order of f32 sums explains.
const TOLERANCE: f32 = 1e-4;

#[test]
fn hidden_states_and_logits_are_those_of_transformers() {
    let device = Device::flex();
    let reference = Reference::read(&device);
    let (model, _) = MaskedLm::from_pretrained(&fixture(), &device).expect("loads");
    let hidden = model.hidden(&reference.batch);
    reference.compare("hidden", hidden.clone());
    reference.compare("logits", rows_of(&model, hidden));
}

#[test]
fn a_differentiable_pass_gives_the_same() {
    let device = Device::flex().autodiff();
    let reference = Reference::read(&device);
    let (model, _) = MaskedLm::from_pretrained(&without_dropout().0, &device).expect("loads");
    let hidden = model.hidden(&reference.batch);
    assert!(hidden.is_autodiff());
    reference.compare("hidden", hidden.clone());
    reference.compare("logits", rows_of(&model, hidden));
}

#[test]
fn the_tanh_approximation_is_that_of_transformers() {
    let device = Device::flex();
    let reference = Reference::read(&device);
    let (dir, config) = without_dropout();
    let (model, _) = MaskedLm::from_pretrained(&dir, &device).expect("loads");
    let copy = tempfile::tempdir().expect("a folder");
    let config = EncoderConfig { hidden_act: Activation::GeluNew, ..config };
    model.save_pretrained(&config, copy.path(), &[]).expect("saves");
    let (model, _) = MaskedLm::from_pretrained(copy.path(), &device).expect("loads");
    let hidden = model.hidden(&reference.batch);
    reference.compare("logits_gelu_new", rows_of(&model, hidden));
}

#[test]
fn classifier_logits_are_those_of_transformers() {
    let device = Device::flex();
    let reference = Reference::read(&device);
    let (model, _) = SequenceClassifier::from_pretrained(&fixture(), &device).expect("loads");
    reference.compare("labels", model.logits(&reference.batch));
}

struct Reference {
    bytes: Vec<u8>,
    batch: Batch,
}

impl Reference {
    fn read(device: &Device) -> Self {
        let bytes = fs_err::read(fixture().join("reference.safetensors")).expect("reads");
        let ids = |name| Tensor::<2, Int>::from_data(TensorData::new(ints(&bytes, name), [3, 11]), device);
        let real: Tensor<2, Bool> = ids("attention_mask").equal_elem(1);
        let batch = Batch {
            input_ids: ids("input_ids"),
            attention_mask: Some(real),
            token_type_ids: Some(ids("token_type_ids")),
        };
        Self { bytes, batch }
    }

    /// Compares with the stored tensor, at real tokens where there is one value a token: what a model computes at
    /// padding means nothing.
    fn compare<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let expected = floats(&self.bytes, name);
        let found = found.try_into_vec_as::<f32>().expect("f32");
        assert_eq!(found.len(), expected.len(), "{name}");
        let per_token = expected.len() / 33;
        let mask = ints(&self.bytes, "attention_mask");
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let real = per_token == 0 || mask[index / per_token] == 1;
            assert!(
                !real || (found - expected).abs() < TOLERANCE,
                "{name}[{index}]: {found} is not {expected}"
            );
        }
    }
}

/// Logits at all positions.
fn rows_of(model: &MaskedLm, hidden: Tensor<3>) -> Tensor<2> {
    let [batch_size, seq_length, width] = hidden.dims();
    model.logits(hidden.reshape([batch_size * seq_length, width]))
}

/// The fixture with both dropout probabilities 0, in a folder that lives as long as the test.
fn without_dropout() -> (PathBuf, EncoderConfig) {
    let dir = tempfile::tempdir().expect("a folder").keep();
    let (model, config) = MaskedLm::from_pretrained(&fixture(), &Device::flex()).expect("loads");
    let config = EncoderConfig { hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0, ..config };
    model.save_pretrained(&config, &dir, &[]).expect("saves");
    (dir, config)
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert")
}

fn ints(bytes: &[u8], name: &str) -> Vec<i32> {
    let file = SafeTensors::deserialize(bytes).expect("reads");
    let data = file.tensor(name).expect("there").data();
    data.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect()
}

fn floats(bytes: &[u8], name: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(bytes).expect("reads");
    let data = file.tensor(name).expect("there").data();
    data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}
