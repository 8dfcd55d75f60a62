//! What a body says about rows. Of a frozen one it is computed once for a task, and read by every epoch and seed.

use burn::tensor::{Device, Tensor, TensorData};
use entromask_cli::{Progress, check_interrupt};
use entromask_encoder::{Buffers, CpuEncoder, EncoderConfig, SequenceClassifier};
use rayon::prelude::*;

use crate::batches::eval_batches;
use crate::finetune::TaskData;
use crate::rows::Tokenized;

/// Tokens of a batch on the CPU: its activations stay in the caches, and there are batches for all cores.
const CPU_BATCH_TOKENS: usize = 256;

/// Batches on the CPU between two looks at whether the user wants to stop.
const CPU_BATCHES: usize = 32;

/// What the classifier reads of each row, `[rows, hidden_size]`.
#[derive(Clone, Debug, Default)]
pub struct Features {
    values: Vec<f32>,
    width: usize,
}

/// The features of all splits of a task, in the order of [`TaskData`].
#[derive(Clone, Debug)]
pub struct TaskFeatures {
    /// Training rows.
    pub train: Features,
    /// Rows to choose on.
    pub choose: Vec<Features>,
    /// Rows to report.
    pub dev: Vec<Features>,
}

/// The body of a classifier, which does not learn.
pub struct Body<'a> {
    /// For inference.
    pub model: &'a SequenceClassifier,
    /// Shape of the model.
    pub config: &'a EncoderConfig,
    /// Rows of a forward pass on a GPU.
    pub batch_size: usize,
    /// Where to compute, without automatic differentiation.
    pub device: &'a Device,
    /// Counts tokens.
    pub progress: &'a Progress,
}

impl Features {
    /// The features of the rows numbered `batch`, `[batch_size, hidden_size]`.
    pub fn batch(&self, batch: &[usize], device: &Device) -> Tensor<2> {
        let rows = batch.iter().flat_map(|&row| &self.values[row * self.width..][..self.width]);
        let values = rows.copied().collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(values, [batch.len(), self.width]), device)
    }
}

impl TaskFeatures {
    /// Runs `body` once on each row of the task.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class interrupted if the user asks to stop.
    pub fn of(body: &Body, data: &TaskData) -> anyhow::Result<Self> {
        let is_pair = data.task.is_pair();
        let one = |split: &Tokenized| body.features(split, is_pair);
        Ok(Self {
            train: one(&data.train)?,
            choose: data.choose.iter().map(one).collect::<anyhow::Result<_>>()?,
            dev: data.dev.iter().map(one).collect::<anyhow::Result<_>>()?,
        })
    }
}

impl Body<'_> {
    /// Hands over what the body says about the rows of `split`, some rows at a time: their numbers, and
    /// `[rows, hidden_size]`, row-major.
    ///
    /// # Errors
    /// Those of `take`, and as [`TaskFeatures::of`].
    pub fn each(
        &self,
        split: &Tokenized,
        is_pair: bool,
        mut take: impl FnMut(&[usize], Vec<f32>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if entromask_device::is_cpu(self.device) {
            return self.each_on_cpu(split, is_pair, take);
        }
        for batch in eval_batches(&split.lengths(), self.batch_size) {
            check_interrupt()?;
            let features = self.model.features(&split.batch(&batch, is_pair, self.config, self.device));
            take(&batch, features.try_into_vec_as::<f32>()?)?;
            self.progress.inc(tokens(split, &batch));
        }
        Ok(())
    }

    /// Without tensors; batches side by side on all cores, since each is computed on one.
    fn each_on_cpu(
        &self,
        split: &Tokenized,
        is_pair: bool,
        mut take: impl FnMut(&[usize], Vec<f32>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let encoder = CpuEncoder::new(&self.model.encoder, self.config);
        let pooling = self.model.pooling();
        for some in by_tokens(&split.lengths()).chunks(CPU_BATCHES) {
            check_interrupt()?;
            let found = some.par_iter().map_init(Buffers::default, |buffers, batch| {
                encoder.pooled(&split.sentences(batch, is_pair, self.config), pooling, buffers)
            });
            take(&some.concat(), found.collect::<Vec<_>>().concat())?;
            self.progress.inc(some.iter().map(|batch| tokens(split, batch)).sum());
        }
        Ok(())
    }

    fn features(&self, split: &Tokenized, is_pair: bool) -> anyhow::Result<Features> {
        let width = self.config.hidden_size;
        let mut values = vec![0.0; split.rows.len() * width];
        self.each(split, is_pair, |rows, features| {
            for (&row, features) in rows.iter().zip(features.chunks_exact(width)) {
                values[row * width..][..width].copy_from_slice(features);
            }
            Ok(())
        })?;
        Ok(Features { values, width })
    }
}

/// All rows, by length, in batches of about [`CPU_BATCH_TOKENS`].
fn by_tokens(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for row in eval_batches(lengths, lengths.len().max(1)).concat() {
        if lengths[row] > room {
            batches.push(Vec::new());
            room = CPU_BATCH_TOKENS.max(lengths[row]);
        }
        room -= lengths[row];
        batches.last_mut().expect("one was pushed").push(row);
    }
    batches
}

fn tokens(split: &Tokenized, batch: &[usize]) -> u64 {
    batch.iter().map(|&row| split.rows[row].ids.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_each_row_once_and_few_tokens() {
        let lengths: Vec<usize> = (0..500).map(|row| 1 + row * 7 % 90).chain([400, 300]).collect();
        let batches = by_tokens(&lengths);
        let sizes = batches.iter().map(|batch| batch.iter().map(|&row| lengths[row]).sum::<usize>());
        assert!(sizes.zip(&batches).all(|(size, batch)| size <= CPU_BATCH_TOKENS || batch.len() == 1));
        let mut rows = batches.concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..502).collect::<Vec<_>>());
        assert!(batches.len() < 110, "{} batches for about 92 times 256 tokens", batches.len());
        assert!(by_tokens(&[]).is_empty());
    }
}
