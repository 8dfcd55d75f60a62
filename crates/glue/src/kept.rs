//! What a run keeps of itself while it trains, so that it goes on there when its process is interrupted.
//!
//! ```text
//! state/<key of the run>/step-00000123/        weights, optimizer, trainer.json
//! state/<key of the run>/best/step-00000002/   weights after the best epoch, where another one is at work
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::module::Module;
use entromask_encoder::{EncoderConfig, SequenceClassifier};
use entromask_fault::Fault;
use entromask_training::{AdamWConfig, Checkpoint, Checkpoints, Optimizer};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::train::Reached;

/// How long a run works between two checkpoints: what a crash costs at most.
const PAUSE: Duration = Duration::from_mins(5);

const OPTIMIZER: &str = "optimizer.safetensors";

/// The checkpoints of one run, and its clock.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    saved: Instant,
    began: Instant,
    /// Seconds of earlier processes.
    earlier: f64,
}

#[derive(Serialize, Deserialize)]
struct State {
    seconds: f64,
    reached: Reached,
}

impl Kept {
    /// Of the run whose checkpoints lie in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let now = Instant::now();
        Self { folder, saved: now, began: now, earlier: 0.0 }
    }

    /// Wall-clock seconds that the run has taken, to its last checkpoint those of earlier processes.
    pub(crate) fn seconds(&self) -> f64 {
        self.earlier + self.began.elapsed().as_secs_f64()
    }

    /// Whether there is a checkpoint, whole or not.
    pub(crate) fn exists(&self) -> bool {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
    }

    pub(crate) fn is_due(&self) -> bool {
        self.saved.elapsed() >= PAUSE
    }

    /// Keeps a model in training, and that of the `best` epoch so far. What is kept at last stays where this fails.
    pub(crate) fn save(
        &mut self,
        (model, config): (&SequenceClassifier, &EncoderConfig),
        optimizer: &Optimizer,
        best: Option<&SequenceClassifier>,
        reached: &Reached,
    ) -> anyhow::Result<()> {
        // Not at once again, whatever becomes of it.
        self.saved = Instant::now();
        let best = best.zip(reached.best_epoch);
        if let Some((best, epoch)) = best.filter(|(_, epoch)| !self.best_store().folder_of(*epoch).exists()) {
            self.best_store().save(epoch, &(), |folder| best.save_pretrained(config, folder, &[]))?;
        }
        let state = State { seconds: self.seconds(), reached: reached.clone() };
        self.store().save(optimizer.steps(), &state, |folder| {
            model.save_pretrained(config, folder, &[])?;
            optimizer.save(&folder.join(OPTIMIZER))
        })?;
        best.map_or(Ok(()), |(_, epoch)| self.best_store().keep_only(epoch))
    }

    /// The newest checkpoint, if there is one.
    pub(crate) fn latest(&mut self) -> anyhow::Result<Option<Checkpoint<Reached>>> {
        let Some(Checkpoint { folder, step, state }) = self.store().latest::<State>()? else {
            return Ok(None);
        };
        self.earlier = state.seconds;
        Ok(Some(Checkpoint { folder, step, state: state.reached }))
    }

    pub(crate) fn optimizer(config: AdamWConfig, folder: &Path) -> anyhow::Result<Optimizer> {
        Optimizer::load(config, &folder.join(OPTIMIZER))
    }

    /// The model of the best epoch that is noted in `reached`, for inference; `model` is one like it, in training.
    pub(crate) fn best(
        &self,
        reached: &Reached,
        model: &SequenceClassifier,
        config: &EncoderConfig,
    ) -> anyhow::Result<Option<SequenceClassifier>> {
        let Some(epoch) = reached.best_epoch else { return Ok(None) };
        let opened = Checkpoint::<()>::open(&self.best_store().folder_of(epoch));
        let folder = opened.map_err(|error| self.cannot_go_on(&error))?.folder;
        Ok(Some(model.clone().with_weights_in(&folder, config)?.valid()))
    }

    /// Removes all of it: the run is done.
    pub(crate) fn clear(self) {
        // What stays by accident does no harm.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = self.folder.parent().map(fs::remove_dir);
    }

    fn cannot_go_on(&self, error: &anyhow::Error) -> Fault {
        Fault::input(format!("{error:#}"))
            .remedy(format!("delete {} to begin this run anew", self.folder.display()))
    }

    fn store(&self) -> Checkpoints {
        Checkpoints::new(&self.folder, 1)
    }

    /// What the newest checkpoint does not name is removed when that is there.
    fn best_store(&self) -> Checkpoints {
        Checkpoints::new(&self.folder.join("best"), usize::MAX)
    }
}
