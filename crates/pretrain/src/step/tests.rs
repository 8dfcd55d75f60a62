//! What holds for any step: means over positions, guidance, learning by heart.

use burn::module::Module;
use entromask_encoder::{EncoderConfig, Family, Lanes, ModernBertConfig};
use entromask_training::{AdamWConfig, Gradients, Optimizer, evaluate};

use super::*;

const PAD: u32 = 0;

pub(crate) const DROPOUT: Dropout = Dropout { seed: 1, first_row: 0 };

/// Without dropout, for tensors draw from one generator for the whole process.
pub(crate) fn config() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 50,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 12,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..EncoderConfig::default()
    }
}

/// All losses.
pub(crate) fn guided(positions: Positions) -> ObjectiveConfig {
    let hidden_layers = vec![[1, 2], [0, 0]];
    ObjectiveConfig {
        ce: 0.7,
        kd: 0.5,
        cos: 0.25,
        hidden: 2.0,
        hidden_layers,
        positions,
        ..ObjectiveConfig::default()
    }
}

/// A model, and how its body is computed.
struct Student {
    model: MaskedLm,
    body: Option<HostBody>,
}

impl Student {
    /// Without tensors where that is possible, as the CPU does it.
    fn new(config: &EncoderConfig) -> Self {
        Self::of(MaskedLm::init(config, 3, &Device::flex().autodiff()), config)
    }

    fn of(model: MaskedLm, config: &EncoderConfig) -> Self {
        let body = Some(HostBody::new(&model, config, Lanes::default()));
        Self { model, body }
    }

    fn with_tensors(self) -> Self {
        Self { body: None, ..self }
    }

    fn pass<'a>(&'a self, objective: &'a ObjectiveConfig, whole: Counts, device: &'a Device) -> Pass<'a> {
        Pass {
            objective,
            whole,
            filling: Filling::roomy(PAD),
            device,
            body: self.body.as_ref(),
            dropout: DROPOUT,
        }
    }

    /// The losses, and the gradients of all parameters.
    fn learn(
        &self,
        batch: &[Example],
        teacher: Option<&MaskedLm>,
        objective: &ObjectiveConfig,
    ) -> (Losses, Vec<f32>) {
        let teacher = teacher.map_or(Teacher::Nobody, |teacher| Teacher::Model(teacher, None));
        let whole = Counts::of(batch, teacher, objective);
        self.learn_part(batch, teacher, objective, whole)
    }

    fn learn_part(
        &self,
        part: &[Example],
        teacher: Teacher,
        objective: &ObjectiveConfig,
        whole: Counts,
    ) -> (Losses, Vec<f32>) {
        let device = Device::flex().autodiff();
        let forward = forward(&self.model, teacher, part, self.pass(objective, whole, &device));
        (forward.losses, gradients(&self.model, forward))
    }
}

fn model() -> Student {
    Student::new(&config())
}

pub(super) fn batch() -> Vec<Example> {
    let row = |length: u32, positions: &[u32]| {
        let ids: Vec<u32> = (0..length).map(|i| 5 + (i * 7 + length * 3) % 45).collect();
        Example::masked(&ids, positions.iter().copied(), std::iter::repeat(4)).expect("inside")
    };
    vec![row(9, &[1, 4, 5]), row(6, &[2]), row(12, &[0, 7])]
}

fn gradients(model: &MaskedLm, losses: Forward) -> Vec<f32> {
    struct Collect<'a>(burn::tensor::Gradients, &'a mut Vec<f32>);
    impl burn::module::ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let gradient =
                param.val().grad_remove(&mut self.0).unwrap_or_else(|| param.val().inner().zeros_like());
            self.1.extend(gradient.into_data().iter::<f32>());
        }
    }
    let mut values = Vec::new();
    model.visit(&mut Collect(losses.backward(model), &mut values));
    values
}

#[test]
fn an_untrained_model_is_uniform() {
    let loss = model().learn(&batch(), None, &ObjectiveConfig::default()).0.total;
    assert!((loss - 50f64.ln()).abs() < 0.05, "{loss}");
}

/// A batch's loss and gradient are the means of its rows', weighted by their masked positions, so that padding
/// changes nothing.
#[test]
fn a_padded_batch_is_the_mean_of_its_rows() {
    let (model, batch, objective) = (model(), batch(), ObjectiveConfig::default());
    let (together, gradient) = model.learn(&batch, None, &objective);
    let loss = together.ce;
    let (mut mean, mut sum) = (0.0, vec![0.0; gradient.len()]);
    for row in &batch {
        let share = row.positions.len() as f64 / 6.0;
        let (alone, part) = model.learn(std::slice::from_ref(row), None, &objective);
        mean += share * alone.ce;
        sum.iter_mut().zip(&part).for_each(|(sum, part)| *sum += share as f32 * part);
    }
    assert!((mean - loss).abs() < 1e-5, "{mean} {loss}");
    assert!(gradient.iter().any(|value| value.abs() > 1e-3));
    assert!(gradient.iter().zip(&sum).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn guidance_everywhere_keeps_the_cross_entropy_of_the_masked_positions() {
    let (model, batch) = (model(), batch());
    let teacher = MaskedLm::init(&config(), 4, &Device::flex());
    let guided = |positions| {
        let objective = ObjectiveConfig { kd: 0.5, cos: 0.25, positions, ..ObjectiveConfig::default() };
        model.learn(&batch, Some(&teacher), &objective).0
    };
    let alone = model.learn(&batch, None, &ObjectiveConfig::default()).0;
    let (masked, all) = (guided(Positions::Masked), guided(Positions::All));
    for losses in [&masked, &all] {
        assert!((losses.ce - alone.ce).abs() < 1e-5 && losses.kd > 0.0 && losses.cos > 0.0);
        assert!((losses.total - (losses.ce + 0.5 * losses.kd + 0.25 * losses.cos)).abs() < 1e-9);
    }
    assert!((masked.kd - all.kd).abs() > 1e-6, "other positions, other divergence");
    let itself = model.model.valid();
    let objective = ObjectiveConfig { kd: 1.0, cos: 1.0, ..ObjectiveConfig::default() };
    let same = model.learn(&batch, Some(&itself), &objective).0;
    assert!(same.kd.abs() < 1e-5 && same.cos.abs() < 1e-5, "{} {}", same.kd, same.cos);
}

/// Gradients of a batch that is computed in parts.
fn accumulated(rows: usize, teacher: Option<&MaskedLm>, objective: &ObjectiveConfig) -> (Losses, Vec<f32>) {
    let (model, batch) = (model(), batch());
    let teacher = teacher.map_or(Teacher::Nobody, |teacher| Teacher::Model(teacher, None));
    let whole = Counts::of(&batch, teacher, objective);
    let (mut losses, mut sum) = (Losses::default(), Vec::new());
    for part in batch.chunks(rows) {
        let (own, more) = model.learn_part(part, teacher, objective, whole);
        losses = losses.plus(own);
        sum.resize(more.len(), 0.0);
        sum.iter_mut().zip(more).for_each(|(sum, more): (&mut f32, f32)| *sum += more);
    }
    (losses, sum)
}

#[test]
fn accumulation_equals_a_larger_batch() {
    let teacher = MaskedLm::init(&config(), 4, &Device::flex());
    for positions in [Positions::Masked, Positions::All] {
        let objective = ObjectiveConfig {
            ce: 0.7,
            kd: 0.5,
            cos: 0.25,
            hidden: 2.0,
            hidden_layers: vec![[1, 2], [0, 0]],
            positions,
            ..ObjectiveConfig::default()
        };
        let (whole, expected) = accumulated(3, Some(&teacher), &objective);
        for rows in [1, 2] {
            let (losses, found) = accumulated(rows, Some(&teacher), &objective);
            for (a, b) in [
                (losses.ce, whole.ce),
                (losses.kd, whole.kd),
                (losses.cos, whole.cos),
                (losses.hidden, whole.hidden),
                (losses.total, whole.total),
            ] {
                assert!((a - b).abs() < 1e-5 && b > 0.0, "{positions:?} {losses:?} {whole:?}");
            }
            assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}

/// The order of rows is drawn at random; it must not matter.
#[test]
fn the_order_of_rows_changes_nothing() {
    let (model, objective) = (model(), ObjectiveConfig::default());
    let [forth, back] = [batch(), batch().into_iter().rev().collect()].map(|batch| {
        let (losses, gradients) = model.learn(&batch, None, &objective);
        (losses.total, gradients)
    });
    assert!((forth.0 - back.0).abs() < 1e-6);
    assert!(forth.1.iter().zip(&back.1).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn hidden_states_are_compared_layer_by_layer() {
    let (model, batch) = (model(), batch());
    let objective =
        |hidden_layers| ObjectiveConfig { ce: 0.0, hidden: 1.0, hidden_layers, ..ObjectiveConfig::default() };
    let of = |pairs: &[[usize; 2]]| {
        model.learn(&batch, Some(&model.model.valid()), &objective(pairs.to_vec())).0.hidden
    };
    assert!(of(&[[0, 0], [1, 1], [2, 2]]).abs() < 1e-12, "a model is near itself");
    let (near, far) = (of(&[[1, 2]]), of(&[[0, 2]]));
    assert!(near > 0.0 && far > 0.0 && (near - far).abs() > 1e-9);
    assert!((of(&[[1, 2], [0, 2]]) - f64::midpoint(near, far)).abs() < 1e-9, "a mean over pairs");
    let all = ObjectiveConfig { positions: Positions::All, ..objective(vec![[1, 2]]) };
    let everywhere = model.learn(&batch, Some(&model.model.valid()), &all).0.hidden;
    assert!((everywhere - near).abs() > 1e-9);
}

/// A distillation of next to no weight asks the head everywhere.
#[test]
fn without_distillation_the_head_is_asked_where_there_is_a_target() {
    let (student, batch, device) = (model(), batch(), Device::flex().autodiff());
    let teacher = MaskedLm::init(&config(), 4, &Device::flex());
    let guide = Teacher::Model(&teacher, None);
    let learn = |kd: f64| {
        let objective = ObjectiveConfig { kd, ..guided(Positions::All) };
        let whole = Counts::of(&batch, guide, &objective);
        let forward = forward(&student.model, guide, &batch, student.pass(&objective, whole, &device));
        let asked = forward.seen.as_ref().map_or(0, |seen| seen.targets.len());
        (asked, forward.losses, gradients(&student.model, forward))
    };
    let ((some, losses, found), (all, expected, gradient)) = (learn(0.0), learn(1e-30));
    assert_eq!((some, all), (6, 27));
    for (a, b) in [(losses.ce, expected.ce), (losses.cos, expected.cos), (losses.hidden, expected.hidden)] {
        assert!((a - b).abs() < 1e-6 && b > 0.0, "{losses:?} {expected:?}");
    }
    assert!((losses.total - expected.total).abs() < 1e-6);
    assert!(found.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(gradient.iter().any(|value| value.abs() > 1e-3));
}

/// Bodies of student and teacher with and without tensors, all losses, guidance everywhere.
#[test]
fn tensors_give_the_same_losses_and_gradients() {
    let objective = ObjectiveConfig {
        ce: 0.7,
        kd: 0.5,
        cos: 0.25,
        hidden: 2.0,
        hidden_layers: vec![[1, 2], [0, 0]],
        positions: Positions::All,
        ..ObjectiveConfig::default()
    };
    let teacher = MaskedLm::init(&config(), 4, &Device::flex());
    let (tensors, expected) = model().with_tensors().learn(&batch(), Some(&teacher), &objective);
    let body = HostBody::new(&teacher, &config(), Lanes::default());
    let guide = Teacher::Model(&teacher, Some(&body));
    let whole = Counts::of(&batch(), guide, &objective);
    let (host, found) = model().learn_part(&batch(), guide, &objective, whole);
    assert!(model().body.is_some() && (tensors.total - host.total).abs() < 1e-5);
    assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// With all tokens kept, cached targets are the teacher.
#[test]
fn cached_targets_of_all_tokens_are_the_teacher() {
    let model = model();
    let teacher = MaskedLm::init(&config(), 4, &Device::flex());
    let objective = ObjectiveConfig { kd: 0.5, ..ObjectiveConfig::default() };
    let live = model.learn(&batch(), Some(&teacher), &objective);
    let (mut cached, device) = (batch(), Device::flex());
    let reader = Reader::new((&teacher, &config()), &device);
    for row in &mut cached {
        let (hidden, _) = reader.masked_states(std::slice::from_ref(row));
        let Decoder { weight, bias, .. } = decoder(&teacher);
        let logits = hidden.matmul(weight.transpose()) + bias.unsqueeze();
        let n = row.positions.len();
        row.soft = SoftTargets {
            k: 50,
            tokens: (0..n).flat_map(|_| 0..50).collect(),
            logits: logits.into_data().try_into_vec().expect("f32"),
            tail: vec![0.0; n],
        };
    }
    let whole = Counts::of(&cached, Teacher::Cached, &objective);
    let from_cache = model.learn_part(&cached, Teacher::Cached, &objective, whole);
    assert!((from_cache.0.kd - live.0.kd).abs() < 1e-5 && live.0.kd > 1e-3);
    assert!(live.1.iter().zip(&from_cache.1).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// A small model of each family, with what makes it one: shared layers, narrow embeddings, windows, offsets.
pub(super) fn families() -> Vec<EncoderConfig> {
    let narrow = EncoderConfig { embedding_size: Some(8), ..config() };
    let modern = ModernBertConfig {
        global_attn_every_n_layers: 2,
        local_attention: 6,
        initializer_cutoff_factor: Some(2.0),
        ..ModernBertConfig::default()
    };
    let segmentless = EncoderConfig { type_vocab_size: 0, ..config() };
    let offset = EncoderConfig { type_vocab_size: 1, max_position_embeddings: 13, ..config() };
    vec![
        config(),
        EncoderConfig { model_type: Family::MegatronBert, ..config() },
        EncoderConfig { model_type: Family::Roberta, ..offset.clone() },
        EncoderConfig { model_type: Family::XlmRoberta, ..offset },
        EncoderConfig { model_type: Family::DistilBert, ..segmentless.clone() },
        EncoderConfig { model_type: Family::Albert, ..narrow.clone() },
        EncoderConfig { model_type: Family::Electra, ..narrow },
        EncoderConfig { model_type: Family::ModernBert, modernbert: Some(modern), ..segmentless },
    ]
}

/// The gradient's length is the slope along it: ‖g‖ = (L(θ + εd) − L(θ − εd)) / 2ε for d = g / ‖g‖. The error of the
/// central difference is of order ε², that of f32 about 1e-7 · ln V / ε.
#[test]
fn the_gradient_of_each_family_is_the_slope_of_its_loss() {
    for config in families() {
        config.check().expect("a shape");
        let (student, objective) = (Student::new(&config), ObjectiveConfig::default());
        let (losses, gradient) = student.learn(&batch(), None, &objective);
        let guessing = losses.total - 50f64.ln();
        assert!(guessing.abs() < 0.05, "{:?}: {guessing} above ln V", config.model_type);
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let loss = |step: f64| {
            let moved = shifted(student.model.clone(), &gradient, (step / norm) as f32);
            Student::of(moved, &config).learn(&batch(), None, &objective).0.total
        };
        let slope = (loss(1e-3) - loss(-1e-3)) / 2e-3;
        assert!((slope / norm - 1.0).abs() < 0.01, "{:?}: {slope} {norm}", config.model_type);
    }
}

#[test]
fn each_family_learns_a_batch_by_heart() {
    for config in families() {
        let mut model = MaskedLm::init(&config, 3, &Device::flex().autodiff());
        let (batch, objective) = (batch(), ObjectiveConfig::default());
        let device = Device::flex().autodiff();
        let whole = Counts::of(&batch, Teacher::Nobody, &objective);
        let mut optimizer = Optimizer::new(AdamWConfig::default());
        for _ in 0..200 {
            let student = Student::of(model.clone(), &config);
            let forward = forward(&model, Teacher::Nobody, &batch, student.pass(&objective, whole, &device));
            let gradients = Gradients::collect(&model, forward.backward(&model));
            (model, _) = optimizer.step(5e-3, model, gradients).expect("finite");
        }
        let (model, device) = (model.valid(), device.inner());
        let (hidden, targets) = Reader::new((&model, &config), &device).masked_states(&batch);
        let found = evaluate(&hidden, &decoder(&model), &targets);
        assert_eq!((found.hits, found.positions), (6, 6), "{:?}", config.model_type);
        assert!(found.surprisal / 6.0 < 0.1, "{:?}: {}", config.model_type, found.surprisal / 6.0);
    }
}

/// Adds `step` times `direction`, in the order in which [`gradients`] collects.
fn shifted(model: MaskedLm, direction: &[f32], step: f32) -> MaskedLm {
    struct Shift<'a>(&'a [f32], f32);
    impl burn::module::ModuleMapper for Shift<'_> {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            let (own, rest) = self.0.split_at(tensor.shape().num_elements());
            self.0 = rest;
            let data = burn::tensor::TensorData::new(own.to_vec(), tensor.shape());
            let moved = tensor.inner() + Tensor::from_data(data, &Device::flex()).mul_scalar(self.1);
            burn::module::Param::from_mapped_value(id, Tensor::from_inner(moved).require_grad(), mapper)
        }
    }
    model.map(&mut Shift(direction, step))
}
