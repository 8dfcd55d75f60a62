//! The passes against automatic differentiation.

mod dropout;
mod frozen;
mod pooled;
mod window;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use entromask_random::{keyed, normals};

use super::*;
use crate::{Batch, Family, MaskedLm, ModernBertConfig};

/// Rows of several lengths, more than there are lanes, one of which wants nothing.
const LENGTHS: [usize; 19] = [9, 1, 12, 3, 3, 8, 2, 5, 7, 4, 11, 6, 10, 9, 3, 12, 1, 2, 8];

/// The padding token, which rows hold too: RoBERTa does not count it.
const PADDING: u32 = 2;

fn family(family: Family) -> EncoderConfig {
    EncoderConfig {
        model_type: family,
        vocab_size: 40,
        hidden_size: 12,
        num_attention_heads: 3,
        intermediate_size: 20,
        num_hidden_layers: 3,
        max_position_embeddings: 20,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..EncoderConfig::default()
    }
}

fn families() -> Vec<EncoderConfig> {
    vec![
        family(Family::Bert),
        family(Family::MegatronBert),
        EncoderConfig { pad_token_id: PADDING, ..family(Family::Roberta) },
        EncoderConfig { type_vocab_size: 0, ..family(Family::DistilBert) },
        EncoderConfig { embedding_size: Some(7), ..family(Family::Electra) },
        EncoderConfig { embedding_size: Some(7), ..family(Family::Albert) },
        EncoderConfig { num_hidden_layers: 4, num_hidden_groups: 2, ..family(Family::Albert) },
        EncoderConfig { num_hidden_layers: 1, ..family(Family::Bert) },
        modern(ModernBertConfig { local_attention: 4, ..ModernBertConfig::default() }),
        modern(ModernBertConfig {
            attention_bias: true,
            mlp_bias: true,
            norm_bias: true,
            global_attn_every_n_layers: 2,
            local_attention: 2,
            ..ModernBertConfig::default()
        }),
    ]
}

fn modern(modernbert: ModernBertConfig) -> EncoderConfig {
    EncoderConfig { modernbert: Some(modernbert), type_vocab_size: 0, ..family(Family::ModernBert) }
}

struct Rows {
    ids: Vec<Vec<u32>>,
    positions: Vec<Vec<u16>>,
}

fn rows() -> Rows {
    rows_of(&LENGTHS)
}

fn rows_of(lengths: &[usize]) -> Rows {
    let ids =
        |(row, &length): (usize, &usize)| (0..length).map(|i| (2 + (row * 7 + i * 3) % 38) as u32).collect();
    let positions = |(row, &length): (usize, &usize)| {
        (0..length as u16).filter(|&i| row != 4 && (usize::from(i) + row).is_multiple_of(3)).collect()
    };
    let all = || lengths.iter().enumerate();
    Rows { ids: all().map(ids).collect(), positions: all().map(positions).collect() }
}

impl Rows {
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let pairs = self.ids.iter().zip(&self.positions);
        pairs.map(|(input_ids, positions)| Wanted { input_ids, token_type_ids: &[], positions }).collect()
    }

    fn flat(&self, longest: usize) -> Vec<i64> {
        let rows = self.positions.iter().enumerate();
        rows.flat_map(|(row, positions)| {
            positions.iter().map(move |&p| (row * longest) as i64 + i64::from(p))
        })
        .collect()
    }
}

fn tensor(values: Vec<f32>, width: usize) -> Tensor<2> {
    let shape = [values.len() / width, width];
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn flat(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("f32")
}

/// Depths whose states the loss sees besides the last.
const DEPTHS: [usize; 3] = [0, 1, 0];

/// Weights of the loss, a value a state.
fn weights(n: usize, width: usize, index: u64) -> Tensor<2> {
    tensor(normals(n * width, 1.0, &mut keyed(1, "loss", index, 0)), width)
}

/// Σ weights · states, the last ones first.
fn loss(states: &[Tensor<2>]) -> Tensor<1> {
    let parts = states.iter().enumerate().map(|(index, states)| {
        let [n, width] = states.dims();
        (states.clone() * Tensor::from_inner(weights(n, width, index as u64))).sum()
    });
    parts.reduce(|a, b| a + b).expect("the last states at least")
}

fn by_tensors(model: &MaskedLm, rows: &Rows) -> (Vec<Tensor<2>>, Gradients) {
    let device = Device::flex().autodiff();
    let batch = Batch::from_rows(&rows.ids, PADDING, &device);
    let [_, longest] = batch.dims();
    let places = rows.flat(longest);
    let places = Tensor::<1, Int>::from_data(TensorData::new(places.clone(), [places.len()]), &device);
    let layers = model.encoder.forward_layers(&batch);
    let at = |depth: usize| model.hidden_at(layers[depth].clone(), places.clone());
    let states: Vec<_> = [layers.len() - 1].iter().chain(&DEPTHS).map(|&depth| at(depth)).collect();
    let gradients = loss(&states).backward();
    (states.into_iter().map(Tensor::inner).collect(), gradients)
}

fn by_lanes(
    model: &MaskedLm,
    config: &EncoderConfig,
    rows: &Rows,
    lanes: &mut Lanes,
) -> (Vec<Vec<f32>>, Gradients) {
    by_lanes_with(None, model, config, rows, lanes)
}

fn by_lanes_with(
    dropout: Option<Dropout>,
    model: &MaskedLm,
    config: &EncoderConfig,
    rows: &Rows,
    lanes: &mut Lanes,
) -> (Vec<Vec<f32>>, Gradients) {
    let body = TrainedBody::new(&model.encoder, config);
    let states = body.forward(&rows.wanted(), &DEPTHS, dropout, lanes);
    let all: Vec<Vec<f32>> = std::iter::once(states.last).chain(states.depths).collect();
    let track =
        |values: &Vec<f32>| Tensor::from_inner(tensor(values.clone(), config.hidden_size)).require_grad();
    let leaves: Vec<Tensor<2>> = all.iter().map(track).collect();
    let mut gradients = loss(&leaves).backward();
    let mut d: Vec<Vec<f32>> =
        leaves.iter().map(|leaf| flat(leaf.grad_remove(&mut gradients).expect("tracked"))).collect();
    let d_states = States { last: d.remove(0), depths: d };
    body.backward(&d_states, lanes).register(&model.encoder, &mut gradients);
    (all, gradients)
}

#[derive(Default)]
struct Found<'a> {
    gradients: Option<&'a Gradients>,
    path: Vec<String>,
    by_path: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Found<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradients = self.gradients.expect("given");
        if let Some(gradient) = param.val().grad(gradients) {
            self.by_path.insert(self.path.join("/"), gradient.try_into_vec_as().expect("f32"));
        }
    }
}

fn by_path(model: &MaskedLm, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    let mut found = Found { gradients: Some(gradients), ..Found::default() };
    model.visit(&mut found);
    found.by_path
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3_f32, |largest, x| largest.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-4 * largest, "{what}[{index}]: {found} {expected}");
    }
}

#[test]
fn states_and_gradients_are_those_of_automatic_differentiation() {
    for config in families() {
        assert_same_as_tensors(&config, &rows());
    }
}

fn assert_same_as_tensors(config: &EncoderConfig, rows: &Rows) {
    let model = MaskedLm::init(config, 3, &Device::flex().autodiff());
    let mut lanes = Lanes::default();
    let (expected_states, expected) = by_tensors(&model, rows);
    let expected = by_path(&model, &expected);
    // The second time in the memory of the first.
    for _ in 0..2 {
        let (states, found) = by_lanes(&model, config, rows, &mut lanes);
        for (found, expected) in states.iter().zip(&expected_states) {
            assert_close(found, &flat(expected.clone()), "states");
        }
        let found = by_path(&model, &found);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, expected) in &expected {
            assert_close(&found[path], expected, &format!("{:?} {path}", config.model_type));
        }
    }
}

#[test]
fn what_was_computed_before_changes_no_bit() {
    let dropped = Some(Dropout { seed: 7, first_row: 0 });
    for config in families().into_iter().map(|config| config.with_dropout(0.3)) {
        let model = MaskedLm::init(&config, 3, &Device::flex().autodiff());
        let mut lanes = Lanes::default();
        by_lanes(&model, &config, &rows(), &mut lanes);
        let all = rows();
        let cases = [
            (0, 19, dropped),
            (0, 1, None),
            (3, 2, dropped),
            (4, 1, dropped),
            (2, 9, None),
            (2, 9, dropped),
            (0, 19, None),
        ];
        for (first, count, dropout) in cases {
            let rows = Rows {
                ids: all.ids[first..first + count].to_vec(),
                positions: all.positions[first..first + count].to_vec(),
            };
            let (used_states, used) = by_lanes_with(dropout, &model, &config, &rows, &mut lanes);
            let (states, fresh) = by_lanes_with(dropout, &model, &config, &rows, &mut Lanes::default());
            assert!(used_states == states, "{:?} {first} {count}", config.model_type);
            let (used, fresh) = (by_path(&model, &used), by_path(&model, &fresh));
            for (path, fresh) in fresh {
                assert!(used[&path] == fresh, "{:?} {first} {count} {path}", config.model_type);
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    assert_same_on_threads(&family(Family::Bert).with_dropout(0.3), &rows());
}

fn assert_same_on_threads(config: &EncoderConfig, rows: &Rows) {
    let model = MaskedLm::init(config, 3, &Device::flex().autodiff());
    let dropout = Some(Dropout { seed: 7, first_row: 0 });
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let (states, gradients) =
            pool.install(|| by_lanes_with(dropout, &model, config, rows, &mut Lanes::default()));
        (states, by_path(&model, &gradients))
    };
    let one = on(1);
    assert!(on(2) == one && on(3) == one);
}
