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
}

impl Host {
    /// The loss, a function of what the head reads `[rows, hidden_size]`, and its gradients.
    pub fn learn(&mut self, step: &Step, loss: impl FnOnce(Tensor<2>) -> Tensor<1>) -> (f64, Gradients) {
        let Step { model, config, rows, seed } = *step;
        let body = TrainedBody::new(&model.encoder, config);
        let (pooling, dropout) = (model.pooling(), Dropout { seed, first_row: 0 });
        let features = body.pooled(rows, pooling, Some(dropout), &mut self.lanes);
        let features = TensorData::new(features, [rows.len(), config.hidden_size]);
        let features = Tensor::<2>::from_data(features, &Device::flex().autodiff());
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
