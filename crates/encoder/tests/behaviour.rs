//! What holds for any model: rows do not see each other or padding, positions are gathered right, losses start at ln V.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Batch, EncoderConfig, MaskedLm};

const ROWS: [&[u32]; 3] = [&[2, 7, 31, 8, 44, 3], &[2, 9, 3], &[2, 12, 13, 14, 3]];

#[test]
fn a_row_of_a_batch_equals_the_row_alone() {
    let (model, device) = tiny();
    let together = model.hidden(&Batch::from_rows(&ROWS, 0, &device));
    for (index, row) in ROWS.iter().enumerate() {
        let alone = model.hidden(&Batch::from_rows(&[row], 0, &device));
        let within = together.clone().slice([index..index + 1, 0..row.len()]);
        assert_close(within, alone, 1e-5);
    }
}

#[test]
fn what_stands_in_the_padding_changes_nothing() {
    let (model, device) = tiny();
    let zeros = model.hidden(&Batch::from_rows(&ROWS, 0, &device));
    let nines = model.hidden(&Batch::from_rows(&ROWS, 9, &device));
    assert_close(zeros.slice([1..2, 0..3]), nines.slice([1..2, 0..3]), 1e-6);
}

#[test]
fn chosen_positions_equal_those_of_the_full_pass() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let model = MaskedLm::init(&config(), 3, &device);
        let batch = Batch::from_rows(&ROWS, 0, &device);
        let positions = Tensor::<2, Int>::from_ints([[1, 4], [2, 0], [3, 3]], &device);
        let chosen = model.encoder.forward_at(&batch, &positions).reshape([6, 16]);
        let flat = Tensor::<1, Int>::from_ints([1, 4, 6 + 2, 6, 12 + 3, 12 + 3], &device);
        let full = model.hidden_at(model.hidden(&batch), flat);
        assert_close(chosen, full, 1e-5);
    }
}

#[test]
fn positions_are_counted_through_the_batch() {
    let (model, device) = tiny();
    let hidden = Tensor::<1, Int>::arange(0..24, &device).float().reshape([2, 3, 4]);
    let picked = model.hidden_at(hidden, Tensor::from_ints([5, 0], &device));
    picked
        .into_data()
        .assert_eq(&TensorData::from([[20.0f32, 21.0, 22.0, 23.0], [0.0, 1.0, 2.0, 3.0]]), false);
}

#[test]
fn the_loss_of_a_new_model_is_that_of_guessing() {
    let (model, device) = tiny();
    let hidden = model.hidden(&Batch::from_rows(&ROWS[..1], 0, &device));
    let logits = model.logits(hidden.reshape([6, 16]));
    let targets = Tensor::<2, Int>::from_ints([[2], [7], [31], [8], [44], [3]], &device);
    let loss: f32 = log_softmax(logits, 1).gather(1, targets).mean().neg().into_scalar();
    assert!((loss - 60f32.ln()).abs() < 0.05, "{loss}");
}

#[test]
fn initial_weights_have_the_deviation_of_the_config_and_depend_on_the_seed_only() {
    let device = Device::flex();
    let weights = |seed, device: &Device| {
        let weight = MaskedLm::init(&config(), seed, device).decoder().0;
        weight.try_into_vec_as::<f32>().expect("f32")
    };
    let first = weights(1, &device);
    let deviation = (first.iter().map(|w| w * w).sum::<f32>() / first.len() as f32).sqrt();
    assert!((deviation - 0.02).abs() < 0.002, "{deviation}");
    assert_eq!(first, weights(1, &device.clone().autodiff()));
    assert_ne!(first, weights(2, &device));
}

#[test]
fn all_weights_get_gradients() {
    let device = Device::flex().autodiff();
    let model = MaskedLm::init(&config(), 3, &device);
    let batch = Batch::from_rows(&ROWS, 0, &device);
    let positions = Tensor::<2, Int>::from_ints([[1, 4], [1, 1], [3, 2]], &device);
    let logits = model.logits(model.encoder.forward_at(&batch, &positions).reshape([6, 16]));
    let grads = log_softmax(logits, 1).narrow(1, 7, 1).mean().backward();
    let gradients = burn::optim::GradientsParams::from_grads(grads, &model);
    // Five of the embeddings, 16 a layer, 5 of the head; the decoder is tied.
    assert_eq!(gradients.len(), 5 + 2 * 16 + 5);
}

fn config() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 60,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 24,
        max_position_embeddings: 12,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..EncoderConfig::default()
    }
}

fn tiny() -> (MaskedLm, Device) {
    let device = Device::flex();
    (MaskedLm::init(&config(), 3, &device), device)
}

fn assert_close<const D: usize>(found: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims());
    let difference: f32 = (found - expected).abs().max().into_scalar();
    assert!(difference < tolerance, "differ by {difference}");
}
