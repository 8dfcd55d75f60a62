//! Checkpoints: folders that are complete or not there, checked by digest before use.
//!
//! ```text
//! step-00000123/
//!   model.safetensors, optimizer.safetensors, …   whatever the stage writes
//!   trainer.json                                  step, digests of the other files, the stage's own state
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use entromask_fault::Fault;
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const STATE_FILE: &str = "trainer.json";
/// How the names of checkpoints begin, and of those that were found damaged.
const NAME: &str = "step-";
const DAMAGED: &str = "damaged-step-";
/// Names the best checkpoint.
const BEST_FILE: &str = "best";

/// The checkpoints of one run, the newest few of which are kept, and the best.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// A checkpoint whose digests were right when it was opened.
#[derive(Clone, Debug)]
pub struct Checkpoint<S> {
    /// The folder with the stage's files.
    pub folder: PathBuf,
    /// Steps made.
    pub step: u64,
    /// The stage's own state.
    pub state: S,
}

#[derive(Serialize, Deserialize)]
struct StateFile<S> {
    step: u64,
    files: BTreeMap<String, String>,
    state: S,
}

impl Checkpoints {
    /// Checkpoints below `folder`, of which the newest `keep` (at least 1) stay.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1) }
    }

    /// Where the checkpoint of `step` is, if there is one.
    pub fn folder_of(&self, step: u64) -> PathBuf {
        self.folder.join(folder_name(step))
    }

    /// Lets `write` fill a folder, adds `trainer.json` with digests and `state`, makes it the checkpoint of `step` and
    /// removes the oldest ones.
    pub fn save(
        &self,
        step: u64,
        state: &impl Serialize,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let beside = self.folder.join(".tmp-checkpoint");
        remove_folder(&beside)?;
        fs::create_dir_all(&beside)?;
        // On a full disk half of one would keep it full.
        write(&beside)
            .and_then(|()| seal(&beside, step, state))
            .inspect_err(|_| drop(remove_folder(&beside)))?;
        let target = self.folder_of(step);
        remove_folder(&target)?;
        fs::rename(&beside, &target)?;
        sync(&self.folder)?;
        self.prune()
    }

    /// From now on the checkpoint of `step` is the best one, which is kept until another is.
    pub fn mark_best(&self, step: u64) -> anyhow::Result<()> {
        let beside = self.folder.join(".tmp-best");
        fs::write(&beside, folder_name(step))?;
        sync(&beside)?;
        fs::rename(&beside, self.folder.join(BEST_FILE))?;
        self.prune()
    }

    /// The newest checkpoint whose files are whole; none if there are no checkpoints. Newer ones, which are damaged, are
    /// put aside with a warning.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there are checkpoints and none is whole: nobody asked to begin anew. What cannot be
    /// read at this moment is an error, too, and stays.
    pub fn latest<S: DeserializeOwned>(&self) -> anyhow::Result<Option<Checkpoint<S>>> {
        let mut damaged: Vec<(PathBuf, anyhow::Error)> = Vec::new();
        for folder in self.folders(NAME)?.into_iter().rev() {
            match Checkpoint::open(&folder) {
                Ok(checkpoint) => {
                    damaged.iter().try_for_each(|(folder, error)| put_aside(folder, error))?;
                    return Ok(Some(checkpoint));
                }
                Err(error) if error.is::<Fault>() => damaged.push((folder, error)),
                Err(error) => return Err(error),
            }
        }
        match damaged.pop() {
            None => Ok(None),
            Some((_, error)) => Err(Fault::input(format!("{error:#}, and so are all after it"))
                .remedy(format!("delete {} to begin anew", self.folder.display()))
                .into()),
        }
    }

    /// Removes all but the checkpoint of `step`.
    pub fn keep_only(&self, step: u64) -> anyhow::Result<()> {
        let kept = self.folder_of(step);
        self.folders(NAME)?
            .iter()
            .filter(|folder| **folder != kept)
            .try_for_each(|folder| remove_folder(folder))
    }

    /// Removes all of them.
    pub fn clear(&self) -> anyhow::Result<()> {
        let all = [self.folders(NAME)?, self.folders(DAMAGED)?].concat();
        all.iter().try_for_each(|folder| remove_folder(folder))?;
        match fs::remove_file(self.folder.join(BEST_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn prune(&self) -> anyhow::Result<()> {
        let (folders, best) = (self.folders(NAME)?, fs::read_to_string(self.folder.join(BEST_FILE)).ok());
        let surplus = folders.len().saturating_sub(self.keep);
        let is_best = |folder: &Path| folder.file_name().and_then(|name| name.to_str()) == best.as_deref();
        let old = folders[..surplus].iter().filter(|folder| !is_best(folder));
        old.into_iter().try_for_each(|folder| remove_folder(folder))
    }

    /// From the oldest to the newest: the step has a fixed number of digits.
    fn folders(&self, start: &str) -> anyhow::Result<Vec<PathBuf>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(start) {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

impl<S: DeserializeOwned> Checkpoint<S> {
    /// Opens the checkpoint in `folder` and compares its files with their digests.
    ///
    /// # Errors
    /// A [`Fault`] of class input that names the damaged or missing file; an error of input and output where one could not
    /// be read.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let file: StateFile<S> = serde_json::from_slice(&fs::read(folder.join(STATE_FILE))?)
                .with_context(|| format!("{STATE_FILE} cannot be read"))?;
            for (name, expected) in &file.files {
                let found = digest(&folder.join(name))?;
                ensure!(found == *expected, "{name} has digest {found}, {STATE_FILE} says {expected}");
            }
            Ok(Self { folder: folder.into(), step: file.step, state: file.state })
        };
        read().map_err(|error| match error.downcast_ref::<std::io::Error>() {
            Some(io) if io.kind() != ErrorKind::NotFound => error,
            _ => Fault::input(format!("{}: damaged checkpoint: {error:#}", folder.display())).into(),
        })
    }
}

fn folder_name(step: u64) -> String {
    format!("{NAME}{step:08}")
}

/// Keeps what somebody may want to look at, under a name that is no checkpoint's.
fn put_aside(folder: &Path, error: &anyhow::Error) -> anyhow::Result<()> {
    tracing::warn!("{error:#}; going on from the checkpoint before it");
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(name.replacen(NAME, DAMAGED, 1));
    remove_folder(&aside)?;
    Ok(fs::rename(folder, aside)?)
}

/// Writes `trainer.json` for the files that are in `folder` and syncs all of them.
fn seal(folder: &Path, step: u64, state: &impl Serialize) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sync(&entry.path())?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), digest(&entry.path())?);
    }
    let file = folder.join(STATE_FILE);
    fs::write(&file, serde_json::to_vec_pretty(&StateFile { step, files, state })?)?;
    sync(&file)?;
    sync(folder)
}

fn digest(path: &Path) -> anyhow::Result<String> {
    Ok(blake3::hash(&fs::read(path)?).to_hex().to_string())
}

fn sync(path: &Path) -> anyhow::Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(checkpoints: &Checkpoints, step: u64) -> anyhow::Result<()> {
        checkpoints.save(step, &format!("state {step}"), |folder| {
            Ok(fs::write(folder.join("model.safetensors"), format!("weights {step}"))?)
        })
    }

    fn latest(checkpoints: &Checkpoints) -> Option<(u64, String)> {
        let checkpoint = checkpoints.latest::<String>().expect("readable");
        checkpoint.map(|checkpoint| (checkpoint.step, checkpoint.state))
    }

    #[test]
    fn the_last_ones_are_kept() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoints = Checkpoints::new(&folder.path().join("state"), 2);
        assert_eq!(latest(&checkpoints), None);
        for step in [5, 10, 100] {
            save(&checkpoints, step)?;
        }
        let names: Vec<_> =
            checkpoints.folders(NAME)?.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["step-00000010", "step-00000100"]);
        assert_eq!(latest(&checkpoints), Some((100, "state 100".into())));
        checkpoints.clear()?;
        assert_eq!(latest(&checkpoints), None);
        Ok(())
    }

    #[test]
    fn the_best_one_is_kept_besides() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoints = Checkpoints::new(folder.path(), 2);
        let steps = || -> anyhow::Result<Vec<_>> {
            Ok(checkpoints.folders(NAME)?.iter().map(|path| path.file_name().unwrap().to_owned()).collect())
        };
        save(&checkpoints, 1)?;
        checkpoints.mark_best(1)?;
        for step in 2..=4 {
            save(&checkpoints, step)?;
        }
        assert_eq!(steps()?, ["step-00000001", "step-00000003", "step-00000004"]);
        assert_eq!(latest(&checkpoints), Some((4, "state 4".into())));
        checkpoints.mark_best(4)?;
        assert_eq!(steps()?, ["step-00000003", "step-00000004"]);
        checkpoints.clear()?;
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn damage_falls_back_to_the_one_before() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoints = Checkpoints::new(folder.path(), 3);
        for step in 1..=3 {
            save(&checkpoints, step)?;
        }
        fs::write(folder.path().join("step-00000003/model.safetensors"), "weig")?;
        fs::write(folder.path().join("step-00000002/trainer.json"), "{")?;
        assert_eq!(latest(&checkpoints), Some((1, "state 1".into())));
        assert!(folder.path().join("damaged-step-00000003/trainer.json").exists(), "nothing is thrown away");
        save(&checkpoints, 3)?;
        assert_eq!(latest(&checkpoints), Some((3, "state 3".into())), "a damaged one is replaced");
        checkpoints.clear()?;
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoints = Checkpoints::new(folder.path(), 3);
        for step in 1..=2 {
            save(&checkpoints, step)?;
            // As another version may have written it.
            let file = folder.path().join(format!("step-0000000{step}/trainer.json"));
            fs::write(&file, fs::read_to_string(&file)?.replace("state", "situation"))?;
        }
        for _ in 0..2 {
            let error = checkpoints.latest::<String>().map(drop).unwrap_err();
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
            assert!(
                error.to_string().contains("step-00000001") && error.to_string().contains("delete"),
                "{error}"
            );
        }
        assert_eq!(checkpoints.folders(NAME)?.len(), 2);
        Ok(())
    }

    #[test]
    fn a_writer_that_fails_leaves_the_earlier_checkpoint() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let checkpoints = Checkpoints::new(folder.path(), 1);
        save(&checkpoints, 1)?;
        let result = checkpoints.save(2, &(), |folder| {
            fs::write(folder.join("half"), "")?;
            anyhow::bail!("disk full")
        });
        assert!(result.is_err());
        assert_eq!(latest(&checkpoints), Some((1, "state 1".into())));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1, "nothing lies beside it");
        for step in [2, 3] {
            Checkpoints::new(folder.path(), usize::MAX).save(step, &"", |_| Ok(()))?;
        }
        checkpoints.keep_only(2)?;
        assert_eq!(latest(&checkpoints), Some((2, String::new())));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }
}
