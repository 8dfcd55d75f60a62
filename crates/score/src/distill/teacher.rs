//! A model that is asked for logits: laid out for the CPU, or on a device.

use std::cell::RefCell;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use entromask_encoder::{Buffers, CpuMaskedLm, EncoderConfig, Filling, MaskedLm, Wanted};
use entromask_kernels::{Linear, Matrix, Products};
use rayon::prelude::*;

use crate::batches::{CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, batches, chunk_positions};
use crate::predictor::LaidOut;
use crate::watch::Watch;

/// Positions whose logits a thread has in memory at once, at most: the decoder is read once for all of them.
const TILE: usize = 96;

/// Logits that a thread has in memory at once: 16 MB.
const TILE_LOGITS: usize = 1 << 22;

thread_local! {
    /// Kept from tile to tile: the system gets no block as large back while what is kept lies between such blocks.
    static LOGITS: RefCell<Matrix> = RefCell::default();
}

/// Logits that are in memory at once on a device: 128 MB.
const CHUNK_LOGITS: usize = 1 << 25;

/// A masked language model.
pub(super) enum Teacher {
    Cpu(Box<OnCpu>),
    Device(Box<OnDevice>),
}

/// The model laid out for the CPU.
pub(super) struct OnCpu {
    model: CpuMaskedLm,
    decoder: Linear,
    filling: Filling,
}

/// The model in tensors.
pub(super) struct OnDevice {
    model: MaskedLm,
    device: Device,
    filling: Filling,
}

impl Teacher {
    pub(super) fn new(model: MaskedLm, shape: &EncoderConfig, device: Device) -> Self {
        let is_cpu = entromask_device::is_cpu(&device);
        let filling = Filling::of(shape, is_cpu);
        if !is_cpu {
            return Self::Device(Box::new(OnDevice { model, device, filling }));
        }
        let products = model.products();
        let laid_out = LaidOut::new(model, shape);
        let decoder = Linear::from_columns(laid_out.decoder(), &laid_out.bias, products);
        Self::Cpu(Box::new(OnCpu { model: laid_out.model, decoder, filling }))
    }

    /// What `keep` keeps of the logits, `[vocab_size]`, of each wanted position, in order. `watch` is told the tokens of each
    /// batch, and may end the work.
    pub(super) fn ask<K: Send>(
        &self,
        rows: &[Wanted<'_>],
        keep: impl Fn(&[f32]) -> K + Sync,
        watch: &impl Watch,
    ) -> Result<Vec<K>> {
        let count =
            |batch: &[Wanted<'_>]| watch.count(batch.iter().map(|row| row.input_ids.len() as u64).sum());
        match self {
            Self::Cpu(model) => model.ask(rows, keep, count),
            Self::Device(model) => model.ask(rows, keep, count),
        }
    }

    /// Positions that are asked for at once where a row has up to `longest`: on the CPU their states are in memory meanwhile, and twice
    /// while they are put together.
    pub(super) fn chunk_positions(&self, longest: usize) -> usize {
        match self {
            Self::Cpu(model) => chunk_positions(longest, model.decoder.inputs()),
            // Batches are cut by the part alone, since the last bits of a product depend on the number of its rows.
            Self::Device(_) => usize::MAX,
        }
    }
}

impl OnCpu {
    /// Batches side by side, since each is computed on one core, and then the logits.
    fn ask<K: Send>(
        &self,
        rows: &[Wanted<'_>],
        keep: impl Fn(&[f32]) -> K + Sync,
        count: impl Fn(&[Wanted<'_>]) -> Result<()> + Sync,
    ) -> Result<Vec<K>> {
        let batches = batches(rows, |row| row.input_ids.len(), CPU_BATCH_TOKENS, self.filling);
        let projected = self.model.project(rows);
        let states = batches.par_iter().map_init(Buffers::default, |buffers, batch| {
            count(batch)?;
            Ok(self.model.states_from(projected.as_ref(), batch, buffers))
        });
        let states: Vec<f32> = states.collect::<Result<Vec<_>>>()?.concat();
        let width = self.decoder.inputs();
        let tile = (TILE_LOGITS / self.decoder.outputs()).clamp(1, TILE);
        let tiles = states.par_chunks(tile * width).map(|tile| {
            let mut logits = LOGITS.take();
            self.decoder.forward(&Matrix::from_rows(tile, width), &mut logits);
            let kept: Vec<K> = (0..logits.rows()).map(|row| keep(logits.row(row))).collect();
            LOGITS.set(logits);
            kept
        });
        Ok(tiles.flatten_iter().collect())
    }
}

impl OnDevice {
    fn ask<K: Send>(
        &self,
        rows: &[Wanted<'_>],
        keep: impl Fn(&[f32]) -> K + Sync,
        count: impl Fn(&[Wanted<'_>]) -> Result<()>,
    ) -> Result<Vec<K>> {
        let mut kept = Vec::new();
        for batch in batches(rows, |row| row.input_ids.len(), GPU_BATCH_TOKENS, self.filling) {
            let hidden = self.model.transform(self.model.states_at(batch, self.filling, &self.device));
            let ([n, _], [vocab_size, _]) = (hidden.dims(), self.model.decoder().0.dims());
            let at_once = (CHUNK_LOGITS / vocab_size).max(1);
            for start in (0..n).step_by(at_once) {
                let logits = self.logits(hidden.clone().narrow(0, start, at_once.min(n - start)))?;
                kept.par_extend(logits.par_chunks(vocab_size).map(&keep));
            }
            count(batch)?;
        }
        Ok(kept)
    }

    /// `[n, hidden_size]` to `[n * vocab_size]`.
    fn logits(&self, hidden: Tensor<2>) -> Result<Vec<f32>> {
        let (weight, bias) = self.model.decoder();
        let logits = Products::AsTensors.matmul(hidden, weight.transpose()) + bias.unsqueeze();
        Ok(logits.try_into_vec_as()?)
    }
}
