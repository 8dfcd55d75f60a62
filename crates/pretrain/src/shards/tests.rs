//! Several replicas on the CPU against one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use entromask_encoder::{Family, ModernBertConfig};
use entromask_training::{AdamWConfig, Optimizer};

use super::*;
use crate::config::Positions;
use crate::step::tests::{config, guided};

/// Uneven rows, the first of which has no masks: of three shards the first has none.
fn batch() -> Vec<Example> {
    let row = |length: u32, positions: &[u32]| {
        let ids: Vec<u32> = (0..length).map(|i| 5 + (i * 7 + length * 3) % 45).collect();
        Example::masked(&ids, positions.iter().copied(), std::iter::repeat(4)).expect("inside")
    };
    vec![row(7, &[]), row(9, &[1, 4, 5]), row(6, &[2]), row(12, &[0, 7]), row(4, &[3])]
}

/// A student on `n` devices, with or without tensors, with a teacher where one is asked for.
fn student(config: &EncoderConfig, n: usize, on_host: bool, taught: bool) -> Shards {
    let mut shards = student_on(&vec![Device::flex(); n], config, taught);
    for replica in &mut shards.replicas {
        replica.on_host = on_host;
    }
    shards
}

fn student_on(devices: &[Device], config: &EncoderConfig, taught: bool) -> Shards {
    let model = MaskedLm::init(config, 3, &devices[0].clone().autodiff());
    let teacher = |device: &Device| {
        let of = || Teacher::of(MaskedLm::init(config, 4, device), config.clone());
        Ok(if taught { of() } else { Teacher::Nobody })
    };
    Shards::new(&model, config, devices, teacher).expect("starts")
}

fn assert_close(found: &StepOutput, expected: &StepOutput) {
    assert_within(1e-5, found, expected);
}

fn assert_within(tolerance: f64, found: &StepOutput, expected: &StepOutput) {
    let losses = |lesson: &StepOutput| {
        let Losses { ce, kd, cos, hidden, total } = lesson.losses;
        [ce, kd, cos, hidden, total]
    };
    let (a, b) = (losses(found), losses(expected));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{a:?} {b:?}");
    let near = |a: &Vec<f32>, b: &Vec<f32>| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| f64::from(a - b).abs() < tolerance)
    };
    let (a, b) = (found.gradients.to_host(), expected.gradients.to_host());
    assert!(a.keys().eq(b.keys()) && b.values().flatten().any(|value| value.abs() > 1e-3));
    assert!(a.values().zip(b.values()).all(|(a, b)| near(a, b)));
    assert!(near(&found.entropies, &expected.entropies));
}

#[test]
fn shards_have_all_rows_in_order() {
    for (rows, n) in [(5, 3), (7, 2), (2, 3), (0, 2), (6, 1)] {
        let batch: Vec<usize> = (0..rows).collect();
        let shards: Vec<_> = (0..n).map(|index| shard(rows, index, n)).collect();
        assert_eq!(shards.iter().cloned().flatten().collect::<Vec<_>>(), batch);
        let sizes = shards.iter().map(ExactSizeIterator::len);
        assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
    }
}

#[test]
fn shards_add_up_to_the_batch() {
    let (plain, batch) = (ObjectiveConfig::default(), batch());
    let objectives = [plain, guided(Positions::Masked), guided(Positions::All)];
    for objective in &objectives {
        for on_host in [true, false] {
            // Without tensors the parts of a batch drop what the whole does.
            let config = config().with_dropout(if on_host { 0.2 } else { 0.0 });
            let learn = |n: usize, rows: Option<usize>| {
                let taught = objective.needs_teacher();
                let task = Task { objective, rows, entropies: true, seed: 1, stops: false };
                student(&config, n, on_host, taught).learn(&batch, task).expect("finite")
            };
            let expected = learn(1, None);
            assert_eq!(expected.entropies.len(), 7);
            for (n, rows) in [(2, None), (3, None), (3, Some(1)), (7, None)] {
                assert_close(&learn(n, rows), &expected);
            }
        }
    }
}

#[test]
fn the_seed_decides_what_is_dropped() {
    let objective = ObjectiveConfig::default();
    let loss = |seed: u64, dropout: f64| {
        let task = Task { objective: &objective, rows: None, entropies: false, seed, stops: false };
        let mut shards = student(&config().with_dropout(dropout), 1, true, false);
        shards.learn(&batch(), task).expect("finite").losses.total.to_bits()
    };
    assert_eq!(loss(1, 0.2), loss(1, 0.2));
    assert_ne!(loss(1, 0.2), loss(2, 0.2));
    assert_eq!(loss(1, 0.0), loss(2, 0.0));
}

/// The device that `ENTROMASK_TEST_DEVICE` names, as one replica and as several, which then share it, for some steps.
#[test]
fn shards_on_the_device_add_up_to_the_batch_on_the_cpu() {
    let spec = std::env::var("ENTROMASK_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let device = entromask_device::open_all(&spec, "f32").expect("opens").all.swap_remove(0);
    let objective = guided(Positions::All);
    let task = Task { objective: &objective, rows: Some(2), entropies: true, seed: 1, stops: false };
    let train = |devices: &[Device]| {
        let mut shards = student_on(devices, &config(), true);
        let mut optimizer = Optimizer::new(AdamWConfig::default());
        for _ in 0..3 {
            let lesson = shards.learn(&batch(), task).expect("finite");
            shards.update(|model| optimizer.step(1e-3, model, lesson.gradients)).expect("finite");
        }
        shards.learn(&batch(), task).expect("finite")
    };
    let expected = train(&[Device::flex()]);
    for n in [1, 3] {
        assert_within(1e-3, &train(&vec![device.clone(); n]), &expected);
    }
}

#[test]
fn rotary_positions_have_shards_too() {
    let modern = ModernBertConfig { local_attention: 6, ..ModernBertConfig::default() };
    let config = EncoderConfig {
        model_type: Family::ModernBert,
        type_vocab_size: 0,
        modernbert: Some(modern),
        ..config()
    };
    let objective = ObjectiveConfig::default();
    let task = Task { objective: &objective, rows: None, entropies: false, seed: 1, stops: false };
    let learn = |n, on_host| student(&config, n, on_host, false).learn(&batch(), task).expect("finite");
    let expected = learn(1, false);
    for (n, on_host) in [(1, true), (3, true), (3, false)] {
        assert_close(&learn(n, on_host), &expected);
    }
}

/// All of them, one after the other.
fn parameters(model: &MaskedLm) -> Vec<f32> {
    #[derive(Default)]
    struct All(Vec<f32>);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().try_into_vec::<f32>().expect("f32"));
        }
    }
    let mut all = All::default();
    model.visit(&mut all);
    all.0
}

/// After steps on three devices all have the weights that one would have, and are the same bits among each other.
#[test]
fn all_replicas_have_the_same_weights_after_each_step() {
    let objective = guided(Positions::Masked);
    let task = Task { objective: &objective, rows: None, entropies: false, seed: 1, stops: false };
    let train = |n| {
        let mut shards = student(&config(), n, true, true);
        let mut optimizer = Optimizer::new(AdamWConfig::default());
        for _ in 0..5 {
            let lesson = shards.learn(&batch(), task).expect("finite");
            shards.update(|model| optimizer.step(1e-3, model, lesson.gradients)).expect("finite");
        }
        shards.replicas.iter().map(|replica| parameters(replica.model())).collect::<Vec<_>>()
    };
    let (one, three) = (train(1), train(3));
    assert!(three[0] == three[1] && three[0] == three[2]);
    assert!(one[0].iter().zip(&three[0]).all(|(a, b)| (a - b).abs() < 1e-4));
    let before = parameters(student(&config(), 1, true, false).model());
    assert!(before.iter().zip(&one[0]).any(|(a, b)| (a - b).abs() > 1e-3), "they learn");
}

#[test]
fn a_loss_that_is_not_a_number_on_one_device_stops_all() {
    let objective = ObjectiveConfig { ce: f64::INFINITY, ..ObjectiveConfig::default() };
    let task = Task { objective: &objective, rows: None, entropies: false, seed: 1, stops: false };
    let found = student(&config(), 3, true, false).learn(&batch(), task);
    assert!(found.err().expect("not finite").to_string().contains("diverged"));
}
