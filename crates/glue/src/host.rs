//! Training steps on the CPU: the body is computed without tensors, and automatic differentiation begins at what the
//! head reads.

use burn::tensor::{Device, Tensor, TensorData};
use entromask_encoder::{Dropout, EncoderConfig, Lanes, Sentence, SequenceClassifier, TrainedBody};
use entromask_training::Gradients;

/// Memory of the steps.
#[derive(Debug, Default)]
pub(crate) struct Host {
    lanes: Lanes,
}

/// What a step is made of.
pub(crate) struct Step<'a> {
    /// With automatic differentiation.
    pub model: &'a SequenceClassifier,
    pub config: &'a EncoderConfig,
    pub rows: &'a [Sentence<'a>],
    /// Another one for each step.
    pub seed: u64,
    /// The CPU, with automatic differentiation.
    pub device: &'a Device,
}

impl Host {
    /// The loss, a function of what the head reads `[rows, hidden_size]`, and its gradients.
    pub fn learn(&mut self, step: &Step, loss: impl FnOnce(Tensor<2>) -> Tensor<1>) -> (f64, Gradients) {
        let Step { model, config, rows, seed, device } = *step;
        let body = TrainedBody::new(&model.encoder, config);
        let (pooling, dropout) = (model.pooling(), Dropout { seed, first_row: 0 });
        let features = body.pooled(rows, pooling, Some(dropout), &mut self.lanes);
        let features = TensorData::new(features, [rows.len(), config.hidden_size]);
        let features = Tensor::<2>::from_data(features, device);
        let features = if body.is_trained() { features.require_grad() } else { features };
        let loss = loss(features.clone());
        let mut gradients = loss.backward();
        if let Some(d_features) = features.grad_remove(&mut gradients) {
            let d_features: Vec<f32> = d_features.try_into_vec_as().expect("f32 on the CPU");
            let gradient = body.pooled_backward(rows, pooling, &d_features, &mut self.lanes);
            gradient.register(&model.encoder, &mut gradients);
        }
        (loss.into_scalar::<f64>(), Gradients::collect(model, gradients))
    }
}

#[cfg(test)]
mod tests {
    use entromask_encoder::{Batch, Family, MaskedLm};
    use entromask_training::cross_entropy;

    use super::*;
    use crate::freezing::frozen;

    const IDS: [&[u32]; 3] = [&[2, 7, 9, 3, 8, 3], &[2, 5, 3], &[2, 11, 12, 3]];
    const TYPES: [&[u32]; 3] = [&[0, 0, 0, 0, 1, 1], &[0, 0, 1], &[0, 0, 1, 1]];

    fn config(model_type: Family, dropout: f64) -> EncoderConfig {
        EncoderConfig {
            model_type,
            vocab_size: 20,
            hidden_size: 8,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            intermediate_size: 12,
            max_position_embeddings: 6,
            type_vocab_size: if model_type == Family::ModernBert { 0 } else { 2 },
            ..EncoderConfig::default()
        }
        .with_dropout(dropout)
    }

    fn model(config: &EncoderConfig, blocks: usize) -> SequenceClassifier {
        let dir = tempfile::tempdir().expect("a folder");
        MaskedLm::init(config, 1, &Device::flex()).save_pretrained(config, dir.path(), &[]).expect("saves");
        let device = Device::flex().autodiff();
        let model = SequenceClassifier::init_from_encoder(dir.path(), config, 2, 1, &device).expect("loads");
        frozen(model, blocks, 3).0
    }

    fn sentences(config: &EncoderConfig) -> Vec<Sentence<'static>> {
        let types = |types| if config.type_vocab_size > 1 { types } else { &[][..] };
        let pairs = IDS.into_iter().zip(TYPES);
        pairs.map(|(input_ids, of)| Sentence { input_ids, token_type_ids: types(of) }).collect()
    }

    fn loss(logits: Tensor<2>) -> Tensor<1> {
        let labels = Tensor::from_data(TensorData::from([1, 0, 1]), &logits.device());
        cross_entropy(logits, labels)
    }

    fn learn(model: &SequenceClassifier, config: &EncoderConfig, seed: u64) -> (f64, Gradients) {
        let device = &Device::flex().autodiff();
        let step = Step { model, config, rows: &sentences(config), seed, device };
        Host::default().learn(&step, |features| loss(model.logits_of(features)))
    }

    fn by_tensors(model: &SequenceClassifier, config: &EncoderConfig) -> (f64, Gradients) {
        let device = Device::flex().autodiff();
        let batch = Batch::from_rows(&IDS, config.filling_id(), &device);
        let batch = if config.type_vocab_size > 1 { batch.with_token_types(&TYPES) } else { batch };
        let loss = loss(model.logits(&batch));
        let backward = loss.backward();
        (loss.into_scalar::<f64>(), Gradients::collect(model, backward))
    }

    /// With all blocks trained, with some, and with the head alone.
    #[test]
    fn a_step_is_that_of_tensors() {
        for family in [Family::Bert, Family::ModernBert] {
            for blocks in [0, 1, 3, 4] {
                let config = config(family, 0.0);
                let model = model(&config, blocks);
                let ((loss, found), (expected_loss, expected)) =
                    (learn(&model, &config, 1), by_tensors(&model, &config));
                assert!((loss - expected_loss).abs() < 1e-6, "{loss} {expected_loss}");
                let (found, expected) = (found.to_host(), expected.to_host());
                assert!(found.keys().eq(expected.keys()), "{blocks}");
                let pairs = found.values().flatten().zip(expected.values().flatten());
                pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
            }
        }
    }

    #[test]
    fn the_seed_decides_what_the_body_drops() {
        // The head would draw from the device's generator, which other tests use too.
        let config = EncoderConfig { classifier_dropout: Some(0.0), ..config(Family::Bert, 0.3) };
        let model = model(&config, 0);
        let norm = |seed| learn(&model, &config, seed).1.norm().to_bits();
        assert_eq!(norm(1), norm(1));
        assert_ne!(norm(1), norm(2));
    }
}
