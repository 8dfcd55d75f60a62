//! One training step's forward pass: from rows to the losses.

mod host;
mod wanted;

#[cfg(test)]
mod devices;
#[cfg(test)]
mod mixed;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod trace;

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Dropout, EncoderConfig, Filling, Lanes, MaskedLm};
use entromask_fault::Fault;
use entromask_training::{
    Decoder, Guide, HeadLoss, Objective, SoftTargets, cosine, diverged, head_loss, read_scalars,
    squared_distance,
};

use crate::config::{ObjectiveConfig, Positions};
use crate::data::Example;
use host::Back;
pub(crate) use host::HostBody;
use wanted::{States, Wanted};

/// The losses of one batch, or of a part of one: what it adds to the means over the positions of the batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub ce: f64,
    pub kd: f64,
    pub cos: f64,
    pub hidden: f64,
    /// The losses' weighted sum.
    pub total: f64,
}

/// The losses, and what the backward pass needs.
pub(crate) struct Forward<'a> {
    pub losses: Losses,
    /// What the decoder saw, without autodiff; whoever wants it takes it.
    pub seen: Option<Seen>,
    /// A scalar to call `backward` on; its value means nothing.
    scalar: Tensor<1>,
    head: HeadLoss,
    /// Through the body, where automatic differentiation began behind it.
    back: Option<Back<'a>>,
}

/// Positions that the head was asked at, of which those with a target are masked.
pub(crate) struct Seen {
    /// Hidden states after the head's transform, `[n, embedding_size]`.
    states: Tensor<2>,
    targets: Vec<Option<u32>>,
}

/// Who guides the student.
#[derive(Clone, Copy)]
pub(crate) enum Teacher<'a> {
    Nobody,
    /// A model, on a device without autodiff, and its body where that is computed without tensors.
    Model(&'a MaskedLm, Option<&'a HostBody>),
    /// What a model said when it was asked; it is in the examples.
    Cached,
}

/// Positions of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Masked ones.
    pub masked: usize,
    /// Those where a teacher guides.
    pub guided: usize,
}

/// How a forward pass is made.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub objective: &'a ObjectiveConfig,
    /// Of the whole batch, of which the rows may be a part.
    pub whole: Counts,
    /// For what is computed with tensors.
    pub filling: Filling,
    pub device: &'a Device,
    /// The student's body, where it is computed without tensors.
    pub body: Option<&'a HostBody>,
    /// What the student's body drops there; elsewhere the device draws.
    pub dropout: Dropout,
}

impl Losses {
    /// With those of another part of the batch.
    pub(crate) fn plus(self, more: Self) -> Self {
        Self {
            ce: self.ce + more.ce,
            kd: self.kd + more.kd,
            cos: self.cos + more.cos,
            hidden: self.hidden + more.hidden,
            total: self.total + more.total,
        }
    }

    /// # Errors
    /// A [`Fault`] of class failed if the loss is not finite, of class input if that is so because of what the teacher says.
    pub(crate) fn check(&self) -> Result<()> {
        if self.total.is_finite() {
            return Ok(());
        }
        let guidance = [("kd", self.kd), ("cos", self.cos), ("hidden", self.hidden)];
        match guidance.iter().find(|(_, loss)| !loss.is_finite()) {
            Some((name, loss)) if self.ce.is_finite() => Err(Fault::input(format!(
                "the teacher computes what is no number: {name} is {loss}, the cross-entropy {:.2}",
                self.ce
            ))
            .remedy("take another, or look whether its file is damaged")
            .into()),
            _ => Err(diverged(&format!("the loss is {}", self.total), "")),
        }
    }
}

impl Forward<'_> {
    /// The gradients of all parameters of `model`, which made the forward pass.
    pub(crate) fn backward(self, model: &MaskedLm) -> burn::tensor::Gradients {
        let mut gradients = self.scalar.backward();
        self.head.add_gradients(&mut gradients);
        if let Some(back) = self.back {
            back.add_gradients(model, &mut gradients);
        }
        gradients
    }
}

impl Seen {
    /// The states at the masked positions, `[n, embedding_size]`.
    pub(crate) fn masked(self) -> Tensor<2> {
        at_targets(self.states, &self.targets)
    }
}

impl Counts {
    pub(crate) fn of(batch: &[Example], teacher: Teacher, objective: &ObjectiveConfig) -> Self {
        let masked = batch.iter().map(|row| row.positions.len()).sum();
        if !everywhere(teacher, objective) {
            return Self { masked, guided: masked };
        }
        Self { masked, guided: batch.iter().map(|row| row.input_ids.len()).sum() }
    }
}

/// Forward pass of `model`, and of the teacher where the objective needs one.
pub(crate) fn forward<'a>(
    model: &MaskedLm,
    teacher: Teacher,
    batch: &[Example],
    pass: Pass<'a>,
) -> Forward<'a> {
    let objective = pass.objective;
    let wanted = if everywhere(teacher, objective) { Wanted::all(batch) } else { Wanted::masked(batch) };
    let depths = depths(objective, 0);
    let (states, back) = match pass.body {
        None => (wanted.states(model, batch, &depths, pass.filling, pass.device), None),
        Some(body) => {
            let (states, back) = body.tracked(&wanted, batch, &depths, pass.dropout);
            (states, Some(back))
        }
    };
    let taught = Taught::by(teacher, &wanted, batch, pass);
    let soft = cached(teacher, batch);
    let guide = match (&taught, &soft) {
        (Some(Taught { head: Some((transformed, decoder)), .. }), _) => Guide::Model(transformed, decoder),
        (None, Some(soft)) => Guide::Soft(soft),
        _ => Guide::Nobody,
    };
    let (masked, guided) = pass.shares(Counts::of(batch, teacher, objective));
    let weights = Objective { ce: objective.ce * masked, kd: objective.kd * guided, ..objective.into() };
    let (last, targets) = before_head(&states.last, &wanted.targets, objective);
    let transformed = model.transform(last);
    let head = head_loss(transformed.clone(), decoder(model), &targets, guide, &weights);
    let seen = Some(Seen { states: transformed.inner(), targets });
    let (cos, hidden, more) = match taught {
        Some(taught) => distances(states, taught.states, objective, guided),
        None => (0.0, 0.0, None),
    };
    let scalar = more.map_or(head.surrogate.clone(), |more| head.surrogate.clone() + more);
    let (ce, kd) = (head.ce * masked, head.kd * guided);
    let total = objective.ce * ce + objective.kd * kd + objective.cos * cos + objective.hidden * hidden;
    Forward { losses: Losses { ce, kd, cos, hidden, total }, seen, scalar, head, back }
}

/// A model without autodiff that reads batches and does not learn.
pub(crate) struct Reader<'a> {
    model: &'a MaskedLm,
    filling: Filling,
    device: &'a Device,
    body: Option<HostBody>,
}

impl<'a> Reader<'a> {
    /// `model` is on `device`.
    pub(crate) fn new((model, config): (&'a MaskedLm, &EncoderConfig), device: &'a Device) -> Self {
        let body = HostBody::serves(model).then(|| HostBody::new(model, config, Lanes::default()));
        Self { model, filling: Filling::of(config, entromask_device::is_cpu(device)), device, body }
    }

    /// Hidden states after the head's transform at the masked positions of `batch`, and the targets there.
    pub(crate) fn masked_states(&self, batch: &[Example]) -> (Tensor<2>, Vec<u32>) {
        let wanted = Wanted::masked(batch);
        let states = match &self.body {
            Some(body) => body.states(&wanted, batch, &[]),
            None => wanted.states(self.model, batch, &[], self.filling, self.device),
        };
        (self.model.transform(states.last), wanted.targets.into_iter().flatten().collect())
    }
}

pub(crate) fn decoder(model: &MaskedLm) -> Decoder {
    let (weight, bias) = model.decoder();
    Decoder { weight, bias, products: model.products() }
}

/// What a teacher says at the wanted positions, without autodiff.
struct Taught {
    states: States,
    /// What its decoder sees, and the decoder, where its distribution is wanted.
    head: Option<(Tensor<2>, Decoder)>,
}

impl Taught {
    /// What `teacher` says, if it is a model and is asked.
    fn by(teacher: Teacher, wanted: &Wanted, batch: &[Example], pass: Pass) -> Option<Self> {
        let Teacher::Model(teacher, body) = teacher else { return None };
        if !pass.objective.needs_teacher() {
            return None;
        }
        let (depths, device) = (depths(pass.objective, 1), pass.device.clone().inner());
        let states = match body {
            None => wanted.states(teacher, batch, &depths, pass.filling, &device),
            Some(body) => body.states(wanted, batch, &depths),
        };
        let distils = pass.objective.kd > 0.0;
        let head = distils.then(|| (teacher.transform(states.last.clone()), decoder(teacher)));
        Some(Self { states, head })
    }
}

impl Pass<'_> {
    /// What the masked and the guided positions of a part are of those of the batch.
    fn shares(&self, part: Counts) -> (f64, f64) {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        (share(part.masked, self.whole.masked), share(part.guided, self.whole.guided))
    }
}

/// Depths whose hidden states are compared: of the student (0) or of the teacher (1).
fn depths(objective: &ObjectiveConfig, side: usize) -> Vec<usize> {
    let pairs = objective.hidden_layers.iter().filter(|_| objective.hidden > 0.0);
    pairs.map(|pair| pair[side]).collect()
}

/// Whether the teacher guides at all positions.
fn everywhere(teacher: Teacher, objective: &ObjectiveConfig) -> bool {
    let asked = matches!(teacher, Teacher::Model(..)) && objective.needs_teacher();
    asked && objective.positions == Positions::All
}

/// The states that the head is asked about, of those at all wanted positions, and the targets there: without distillation it
/// has nothing to say where there is no target.
fn before_head(
    states: &Tensor<2>,
    targets: &[Option<u32>],
    objective: &ObjectiveConfig,
) -> (Tensor<2>, Vec<Option<u32>>) {
    let known: Vec<_> = targets.iter().flatten().map(|&target| Some(target)).collect();
    // No operation likes a tensor without rows.
    if objective.kd > 0.0 || known.is_empty() {
        return (states.clone(), targets.to_vec());
    }
    (at_targets(states.clone(), targets), known)
}

/// Those of `states` where there is a target.
fn at_targets(states: Tensor<2>, targets: &[Option<u32>]) -> Tensor<2> {
    let places: Vec<i64> =
        (0..).zip(targets).filter(|(_, target)| target.is_some()).map(|(place, _)| place).collect();
    if places.len() == targets.len() {
        return states;
    }
    let (device, shape) = (states.device(), [places.len()]);
    states.select(0, Tensor::<1, Int>::from_data(TensorData::new(places, shape), &device))
}

fn cached(teacher: Teacher, batch: &[Example]) -> Option<SoftTargets> {
    matches!(teacher, Teacher::Cached).then(|| {
        let mut all = SoftTargets::default();
        batch.iter().filter(|row| !row.positions.is_empty()).for_each(|row| all.extend(&row.soft));
        all
    })
}

/// The distances of hidden states as shares of the batch's means, and their weighted sum to call `backward` on.
fn distances(
    student: States,
    teacher: States,
    objective: &ObjectiveConfig,
    share: f64,
) -> (f64, f64, Option<Tensor<1>>) {
    let pairs = student.layers.len() as f64;
    let cos = (objective.cos > 0.0)
        .then(|| (cosine(student.last, Tensor::from_inner(teacher.last)), objective.cos));
    let layers = student.layers.into_iter().zip(teacher.layers).map(|(student, teacher)| {
        (squared_distance(student, Tensor::from_inner(teacher)).div_scalar(pairs), objective.hidden)
    });
    let all: Vec<(Tensor<1>, f64)> = cos.into_iter().chain(layers).collect();
    let values = read_scalars(all.iter().map(|(distance, _)| distance.clone().inner()));
    let (cos, hidden) = values.split_at(usize::from(objective.cos > 0.0));
    let shared = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value * share);
    let weighted = all.into_iter().map(|(distance, weight)| distance.mul_scalar(weight * share));
    (shared(cos), shared(hidden), weighted.reduce(|sum, more| sum + more))
}
