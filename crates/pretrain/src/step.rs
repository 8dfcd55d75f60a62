//! One training step's forward pass: from rows to the losses.

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use entromask_encoder::{Batch, MaskedLm};
use entromask_fault::Fault;
use entromask_training::{Decoder, HeadLoss, cosine, head_loss};

use crate::config::{ObjectiveConfig, Positions};
use crate::data::Example;

/// The losses of one batch, and what the backward pass needs.
pub(crate) struct Losses {
    pub ce: f64,
    pub kd: f64,
    pub cos: f64,
    /// The losses' weighted sum.
    pub total: f64,
    /// A scalar to call `backward` on; its value means nothing.
    pub scalar: Tensor<1>,
    head: HeadLoss,
}

impl Losses {
    /// The gradients of all parameters.
    pub(crate) fn backward(self) -> burn::tensor::Gradients {
        let mut gradients = self.scalar.backward();
        self.head.add_gradients(&mut gradients);
        gradients
    }
}

/// Rows of a batch and the positions whose hidden states are wanted.
///
/// The last layer is computed at these positions only: `grid` has as many columns as the row with most of them, and
/// `chosen` are the cells of the grid that count, row by row.
struct Wanted {
    grid: Vec<i32>,
    columns: usize,
    chosen: Vec<i32>,
    targets: Vec<Option<u32>>,
}

/// Forward pass of `model`, and of the teacher where `objective` needs one.
///
/// # Errors
/// A [`Fault`] of class failed if the loss is not finite.
pub(crate) fn forward(
    model: &MaskedLm,
    teacher: Option<&MaskedLm>,
    batch: &[Example],
    pad: u32,
    objective: ObjectiveConfig,
    device: &Device,
) -> Result<Losses> {
    let guided = teacher.filter(|_| objective.kd > 0.0 || objective.cos > 0.0);
    let everywhere = guided.is_some() && objective.positions == Positions::All;
    let wanted = if everywhere { Wanted::all(batch) } else { Wanted::masked(batch) };
    let hidden = wanted.hidden(model, batch, pad, device);
    let taught = guided.map(|teacher| Taught::new(teacher, &wanted, batch, pad, device));
    let teacher = taught.as_ref().map(|taught| (&taught.transformed, &taught.decoder));
    let head = head_loss(
        model.transform(hidden.clone()),
        decoder(model),
        &wanted.targets,
        teacher,
        &objective.into(),
    );
    let mut scalar = head.surrogate.clone();
    let mut cos = 0.0;
    if let Some(taught) = taught.filter(|_| objective.cos > 0.0) {
        let distance = cosine(hidden, Tensor::from_inner(taught.hidden));
        cos = distance.clone().into_scalar::<f64>();
        scalar = scalar + distance.mul_scalar(objective.cos);
    }
    let total = objective.ce * head.ce + objective.kd * head.kd + objective.cos * cos;
    if !total.is_finite() {
        return Err(Fault::failed(format!("training diverged: the loss is {total}"))
            .remedy("lower lr or lengthen warmup; the last good checkpoint is kept")
            .into());
    }
    Ok(Losses { ce: head.ce, kd: head.kd, cos, total, scalar, head })
}

/// Hidden states after the head's transform at the masked positions of `batch`, and the targets there.
pub(crate) fn masked_states(
    model: &MaskedLm,
    batch: &[Example],
    pad: u32,
    device: &Device,
) -> (Tensor<2>, Vec<u32>) {
    let wanted = Wanted::masked(batch);
    let hidden = model.transform(wanted.hidden(model, batch, pad, device));
    (hidden, wanted.targets.into_iter().flatten().collect())
}

pub(crate) fn decoder(model: &MaskedLm) -> Decoder {
    let (weight, bias) = model.decoder();
    Decoder { weight, bias }
}

/// What the teacher says at the wanted positions, without autodiff.
struct Taught {
    hidden: Tensor<2>,
    transformed: Tensor<2>,
    decoder: Decoder,
}

impl Taught {
    fn new(teacher: &MaskedLm, wanted: &Wanted, batch: &[Example], pad: u32, device: &Device) -> Self {
        let hidden = wanted.hidden(teacher, batch, pad, &device.clone().inner());
        Self { transformed: teacher.transform(hidden.clone()), hidden, decoder: decoder(teacher) }
    }
}

impl Wanted {
    fn masked(batch: &[Example]) -> Self {
        let columns = batch.iter().map(|row| row.positions.len()).max().unwrap_or(0);
        let mut wanted = Self::empty(columns);
        for row in batch {
            wanted.push(&row.positions, row.targets.iter().map(|&target| Some(target)));
        }
        wanted
    }

    fn all(batch: &[Example]) -> Self {
        let columns = batch.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
        let mut wanted = Self::empty(columns);
        for row in batch {
            let mut targets = vec![None; row.input_ids.len()];
            for (&position, &target) in row.positions.iter().zip(&row.targets) {
                targets[position as usize] = Some(target);
            }
            let positions: Vec<u32> = (0..row.input_ids.len() as u32).collect();
            wanted.push(&positions, targets);
        }
        wanted
    }

    fn empty(columns: usize) -> Self {
        Self { grid: Vec::new(), columns, chosen: Vec::new(), targets: Vec::new() }
    }

    fn push(&mut self, positions: &[u32], targets: impl IntoIterator<Item = Option<u32>>) {
        let start = self.grid.len();
        self.grid.extend(positions.iter().map(|&position| position as i32));
        self.grid.resize(start + self.columns, 0);
        self.chosen.extend((start..start + positions.len()).map(|cell| cell as i32));
        self.targets.extend(targets);
    }

    /// Hidden states of the last layer, `[n, hidden_size]`.
    fn hidden(&self, model: &MaskedLm, batch: &[Example], pad: u32, device: &Device) -> Tensor<2> {
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.input_ids.as_slice()).collect();
        let input = Batch::from_rows(&rows, pad, device);
        let grid = TensorData::new(self.grid.clone(), [rows.len(), self.columns]);
        let hidden = model.encoder.forward_at(&input, &Tensor::from_data(grid, device));
        let chosen = TensorData::new(self.chosen.clone(), [self.chosen.len()]);
        model.hidden_at(hidden, Tensor::<1, Int>::from_data(chosen, device))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use entromask_encoder::EncoderConfig;
    use entromask_training::{AdamW, AdamWConfig, Gradients, evaluate};

    use super::*;

    const PAD: u32 = 0;

    /// Without dropout, whose generator is one for the whole process.
    fn config() -> EncoderConfig {
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

    fn model() -> MaskedLm {
        MaskedLm::init(&config(), 3, &Device::flex().autodiff())
    }

    fn batch() -> Vec<Example> {
        let row = |length: u32, positions: &[u32]| {
            let ids: Vec<u32> = (0..length).map(|i| 5 + (i * 7 + length * 3) % 45).collect();
            Example::masked(&ids, positions.iter().copied(), std::iter::repeat(4)).expect("inside")
        };
        vec![row(9, &[1, 4, 5]), row(6, &[2]), row(12, &[0, 7])]
    }

    fn losses(
        model: &MaskedLm,
        batch: &[Example],
        teacher: Option<&MaskedLm>,
        objective: ObjectiveConfig,
    ) -> Losses {
        forward(model, teacher, batch, PAD, objective, &Device::flex().autodiff()).expect("finite")
    }

    fn gradients(model: &MaskedLm, losses: Losses) -> Vec<f32> {
        struct Collect<'a>(burn::tensor::Gradients, &'a mut Vec<f32>);
        impl burn::module::ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
                let gradient =
                    param.val().grad_remove(&mut self.0).unwrap_or_else(|| param.val().inner().zeros_like());
                self.1.extend(gradient.into_data().iter::<f32>());
            }
        }
        let mut values = Vec::new();
        model.visit(&mut Collect(losses.backward(), &mut values));
        values
    }

    #[test]
    fn an_untrained_model_is_uniform() {
        let loss = losses(&model(), &batch(), None, ObjectiveConfig::default()).total;
        assert!((loss - 50f64.ln()).abs() < 0.05, "{loss}");
    }

    /// A batch's loss and gradient are the means of its rows', weighted by their masked positions, so that padding
    /// changes nothing.
    #[test]
    fn a_padded_batch_is_the_mean_of_its_rows() {
        let (model, batch, objective) = (model(), batch(), ObjectiveConfig::default());
        let together = losses(&model, &batch, None, objective);
        let loss = together.ce;
        let gradient = gradients(&model, together);
        let (mut mean, mut sum) = (0.0, vec![0.0; gradient.len()]);
        for row in &batch {
            let share = row.positions.len() as f64 / 6.0;
            let alone = losses(&model, std::slice::from_ref(row), None, objective);
            mean += share * alone.ce;
            let part = gradients(&model, alone);
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
            losses(&model, &batch, Some(&teacher), objective)
        };
        let alone = losses(&model, &batch, None, ObjectiveConfig::default());
        let (masked, all) = (guided(Positions::Masked), guided(Positions::All));
        for losses in [&masked, &all] {
            assert!((losses.ce - alone.ce).abs() < 1e-5 && losses.kd > 0.0 && losses.cos > 0.0);
            assert!((losses.total - (losses.ce + 0.5 * losses.kd + 0.25 * losses.cos)).abs() < 1e-9);
        }
        assert!((masked.kd - all.kd).abs() > 1e-6, "other positions, other divergence");
        let itself = model.valid();
        let objective = ObjectiveConfig { kd: 1.0, cos: 1.0, ..ObjectiveConfig::default() };
        let same = losses(&model, &batch, Some(&itself), objective);
        assert!(same.kd.abs() < 1e-5 && same.cos.abs() < 1e-5, "{} {}", same.kd, same.cos);
    }

    #[test]
    fn one_batch_can_be_learnt_by_heart() {
        let (mut model, batch) = (model(), batch());
        let mut optimizer = AdamW::new(AdamWConfig::default());
        for _ in 0..80 {
            let losses = losses(&model, &batch, None, ObjectiveConfig::default());
            let gradients = Gradients::collect(&model, losses.backward());
            (model, _) = optimizer.step(1e-2, model, gradients).expect("finite");
        }
        let (hidden, targets) = masked_states(&model.valid(), &batch, PAD, &Device::flex());
        let found = evaluate(&hidden, &decoder(&model.valid()), &targets);
        assert_eq!((found.hits, found.positions), (6, 6));
        assert!(found.surprisal / 6.0 < 0.1, "{}", found.surprisal / 6.0);
    }
}
