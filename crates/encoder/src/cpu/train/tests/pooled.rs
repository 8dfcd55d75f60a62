//! One vector for each row.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::*;

#[test]
fn pooled_states_and_their_gradients_are_those_of_automatic_differentiation() {
    for config in families() {
        let device = Device::flex().autodiff();
        let model = MaskedLm::init(&config, 3, &device);
        let rows = rows();
        let types = segments(&rows, &config);
        let pairs = rows.ids.iter().zip(&types);
        let sentences: Vec<_> =
            pairs.map(|(input_ids, token_type_ids)| Sentence { input_ids, token_type_ids }).collect();
        for pooling in [Pooling::Cls, Pooling::Mean] {
            let expected = pooled(&model, &rows, &types, pooling);
            let d = weights(LENGTHS.len(), config.hidden_size, 9);
            let expected_gradients = (expected.clone() * Tensor::from_inner(d.clone())).sum().backward();
            let body = TrainedBody::new(&model.encoder, &config);
            let mut lanes = Lanes::default();
            let found = body.pooled(&sentences, pooling, None, &mut lanes);
            assert_close(&found, &flat(expected.inner()), "pooled");
            let mut gradients = Tensor::<1>::zeros([1], &device).require_grad().sum().backward();
            let backward = body.pooled_backward(&sentences, pooling, &flat(d), &mut lanes);
            backward.register(&model.encoder, &mut gradients);
            let (found, expected) = (by_path(&model, &gradients), by_path(&model, &expected_gradients));
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (path, expected) in &expected {
                assert_close(&found[path], expected, &format!("{:?} {pooling:?} {path}", config.model_type));
            }
        }
    }
}

/// The second half of each row is in the second segment, where there is one.
fn segments(rows: &Rows, config: &EncoderConfig) -> Vec<Vec<u32>> {
    let half = |ids: &Vec<u32>| (0..ids.len()).map(|i| u32::from(2 * i >= ids.len())).collect();
    rows.ids.iter().map(|ids| if config.type_vocab_size > 1 { half(ids) } else { Vec::new() }).collect()
}

fn pooled(model: &MaskedLm, rows: &Rows, types: &[Vec<u32>], pooling: Pooling) -> Tensor<2> {
    let device = Device::flex().autodiff();
    let batch = Batch::from_rows(&rows.ids, PADDING, &device);
    let batch = if types[0].is_empty() { batch } else { batch.with_token_types(types) };
    let [_, longest] = batch.dims();
    let hidden = model.encoder.forward(&batch);
    let of_row = |(row, &length): (usize, &usize)| {
        let count = if pooling == Pooling::Cls { 1 } else { length };
        let places: Vec<i64> = (0..count).map(|i| (row * longest + i) as i64).collect();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device);
        model.hidden_at(hidden.clone(), places).mean_dim(0)
    };
    Tensor::cat(LENGTHS.iter().enumerate().map(of_row).collect(), 0)
}
