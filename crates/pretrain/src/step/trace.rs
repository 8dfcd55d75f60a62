//! 300 steps beside `PyTorch`: same weights, same batches; `tests/parity/export_trace.py` wrote the reference.

use std::path::{Path, PathBuf};

use entromask_encoder::Lanes;
use entromask_training::{AdamWConfig, Decay, Gradients, Optimizer, Schedule};
use safetensors::SafeTensors;

use super::tests::DROPOUT;
use super::*;

const STEPS: usize = 300;
const ROWS: usize = 8;
const LENGTH: usize = 12;
const MASKED: usize = 2;
const MASK: u32 = 4;

/// Largest relative difference of a loss. Sums are made in another order, and training amplifies what that does.
const TOLERANCE: f64 = 1e-3;

#[test]
fn masked_language_modelling_follows_torch() -> Result<()> {
    follow("mlm", None, &ObjectiveConfig::default())
}

#[test]
fn distillation_follows_torch() -> Result<()> {
    let (teacher, _) = MaskedLm::from_pretrained(&fixtures().join("teacher"), &Device::flex())?;
    let objective = ObjectiveConfig { ce: 0.5, kd: 0.5, ..ObjectiveConfig::default() };
    follow("kd", Some(&teacher), &objective)
}

fn follow(name: &str, teacher: Option<&MaskedLm>, objective: &ObjectiveConfig) -> Result<()> {
    let (trace, device) = (Trace::read(name)?, Device::flex().autodiff());
    let (mut model, config) = MaskedLm::from_pretrained(&fixtures().join("student"), &device)?;
    let mut optimizer = Optimizer::new(AdamWConfig::default());
    let schedule = Schedule::new(5e-3, 0.06, Decay::Linear, STEPS as u64);
    let teacher = teacher.map_or(Teacher::Nobody, |teacher| Teacher::Model(teacher, None));
    let mut lanes = Lanes::default();
    for (step, &expected) in trace.losses.iter().enumerate() {
        let batch = trace.batch(step);
        let whole = Counts::of(&batch, teacher, objective);
        let body = HostBody::new(&model, &config, lanes);
        let pass = Pass {
            objective,
            whole,
            filling: Filling::tight(0),
            device: &device,
            body: Some(&body),
            dropout: DROPOUT,
        };
        let forward = forward(&model, teacher, &batch, pass);
        let found = forward.losses.total;
        let relative = (found / expected - 1.0).abs();
        assert!(relative < TOLERANCE, "{name} step {step}: {found} is not {expected}");
        let gradients = Gradients::collect(&model, forward.backward(&model));
        lanes = body.into_lanes();
        (model, _) = optimizer.step(schedule.rate(step as u64), model, gradients)?;
    }
    let (first, last) = (trace.losses[0], trace.losses[STEPS - 1]);
    assert!(last < first - 0.25, "{name}: something was learned, {first} to {last}");
    Ok(())
}

struct Trace {
    ids: Vec<u8>,
    lengths: Vec<u8>,
    positions: Vec<u8>,
    losses: Vec<f64>,
}

impl Trace {
    fn read(name: &str) -> Result<Self> {
        let bytes = fs_err::read(fixtures().join("trace.safetensors"))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let column = |name: &str| file.tensor(name).map(|tensor| tensor.data().to_vec());
        let losses = column(name)?;
        let losses: Vec<f64> = losses.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect();
        assert_eq!(losses.len(), STEPS);
        let (ids, lengths, positions) = (column("ids")?, column("lengths")?, column("positions")?);
        Ok(Self { ids, lengths, positions, losses })
    }

    fn batch(&self, step: usize) -> Vec<Example> {
        let row = |row: usize| {
            let ids = &self.ids[row * LENGTH..row * LENGTH + usize::from(self.lengths[row])];
            let ids: Vec<u32> = ids.iter().map(|&id| u32::from(id)).collect();
            let positions = &self.positions[row * MASKED..(row + 1) * MASKED];
            let positions = positions.iter().map(|&position| u32::from(position));
            Example::masked(&ids, positions, std::iter::repeat(MASK)).expect("inside")
        };
        (step * ROWS..(step + 1) * ROWS).map(row).collect()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trace")
}
