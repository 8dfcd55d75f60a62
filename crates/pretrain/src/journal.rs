//! What is written down while training: metrics, which are the same in every run, and speed, which is not.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use entromask_artifact::peak_memory;
use entromask_training::{Kept, MetricsLog};
use serde::Serialize;

use crate::counters::Counters;
use crate::validation::Score;

/// File names in the run's folder and in the published model.
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const SPEED: &str = "speed.jsonl";

/// A training step in `metrics.jsonl`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StepRow {
    pub step: u64,
    pub epoch: f64,
    pub tokens: u64,
    pub loss: f64,
    pub ce: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cos: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<f64>,
    pub lr: f64,
    pub grad_norm: f64,
    /// Of the scores that masks were chosen by, where the model chooses for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_drift: Option<f64>,
}

#[derive(Serialize)]
struct ValidationRow {
    step: u64,
    epoch: f64,
    tokens: u64,
    /// Operations of this round so far.
    flops: f64,
    valid_loss: f64,
    valid_accuracy: f64,
    valid_perplexity: f64,
}

#[derive(Serialize)]
struct SpeedRow {
    step: u64,
    seconds: f64,
    tokens_per_second: f64,
    flops_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    utilisation: Option<f64>,
    peak_memory_bytes: u64,
}

/// The logs of a run.
pub(crate) struct Journal {
    folder: PathBuf,
    metrics: MetricsLog,
    speed: MetricsLog,
    /// Steps between two lines of `speed.jsonl`.
    every: u64,
    /// Operations a second that the device can make, if known.
    peak_flops: Option<f64>,
    /// When the work of the next line of the speed log began to be counted, and how much had been done.
    since: (Instant, u64, f64),
}

impl Journal {
    /// Opens the logs in `folder` with the rows of the metrics that are `kept`, and as many of the speed log as are there;
    /// `done` are tokens and operations so far.
    pub(crate) fn open(
        folder: &Path,
        kept: Option<Kept>,
        (every, peak_flops): (u64, f64),
        done: (u64, f64),
    ) -> Result<Self> {
        Ok(Self {
            folder: folder.into(),
            metrics: MetricsLog::open(&folder.join(METRICS), kept)?,
            speed: MetricsLog::open(&folder.join(SPEED), kept.map(|kept| Kept { rows: 0, ..kept }))?,
            every: every.max(1),
            peak_flops: (peak_flops > 0.0).then_some(peak_flops),
            since: (Instant::now(), done.0, done.1),
        })
    }

    /// Writes a step down; `flops` are the operations of the run up to it.
    pub(crate) fn step(&mut self, row: &StepRow, flops: f64) -> Result<()> {
        self.metrics.append(row)?;
        if row.step.is_multiple_of(self.every) {
            self.speed_of(row, flops)?;
        }
        Ok(())
    }

    /// Writes a validation down.
    pub(crate) fn validation(&mut self, epoch: f64, counters: &Counters, score: &Score) -> Result<()> {
        let Counters { step, tokens, flops, .. } = *counters;
        let Score { loss: valid_loss, accuracy: valid_accuracy, perplexity: valid_perplexity } = *score;
        tracing::info!(
            "step {step} validation loss {valid_loss:.4} accuracy {:.2} %",
            100.0 * valid_accuracy
        );
        self.metrics.append(&ValidationRow {
            step,
            epoch,
            tokens,
            flops,
            valid_loss,
            valid_accuracy,
            valid_perplexity,
        })
    }

    /// Time that was not spent on training.
    pub(crate) fn pause(&mut self, time: Duration) {
        self.since.0 += time;
    }

    /// Waits until all rows are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.metrics.sync()?;
        self.speed.sync()
    }

    /// Rows of the metrics.
    pub(crate) fn rows(&self) -> u64 {
        self.metrics.rows()
    }

    /// Where the metrics and the speeds lie.
    pub(crate) fn paths(&self) -> [PathBuf; 2] {
        [METRICS, SPEED].map(|name| self.folder.join(name))
    }

    fn speed_of(&mut self, row: &StepRow, flops: f64) -> Result<()> {
        let seconds = self.since.0.elapsed().as_secs_f64();
        let per_second = |amount: f64| amount / seconds.max(1e-9);
        let tokens_per_second = per_second((row.tokens - self.since.1) as f64);
        let flops_per_second = per_second(flops - self.since.2);
        self.speed.append(&SpeedRow {
            step: row.step,
            seconds,
            tokens_per_second,
            flops_per_second,
            utilisation: self.peak_flops.map(|peak| flops_per_second / peak),
            peak_memory_bytes: peak_memory(),
        })?;
        self.since = (Instant::now(), row.tokens, flops);
        tracing::info!(
            "step {} loss {:.4} lr {:.2e} norm {:.2} {:.1} k tokens/s",
            row.step,
            row.loss,
            row.lr,
            row.grad_norm,
            tokens_per_second / 1e3
        );
        Ok(())
    }
}
