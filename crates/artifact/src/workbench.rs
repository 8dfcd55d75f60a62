//! A stage at work: the folder's lock, atomic parts, and the manifest at the end.

mod begin;
mod publish;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

use crate::claim;
use crate::clock::{self, Clock};
use crate::digest;
use crate::disk::{remove_leftovers, sync};
use crate::lock::Lock;
use crate::manifest::{MANIFEST, Tool};
use crate::names::{self, STATE, TEMPORARY};
use crate::recipe::{Input, Recipe};
use crate::seal::{self, Seal};
use crate::shard::{self, Shard};
use crate::spec::OutputSpec;
use crate::status::announce;

pub use begin::Begun;

/// An artifact's folder while its stage works on it. Dropping it releases the lock and keeps the finished parts.
#[derive(Debug)]
pub struct Workbench {
    out: PathBuf,
    recipe: Recipe,
    key: String,
    tool: Tool,
    clock: Clock,
    /// What this process makes, if it is not all.
    shard: Option<Shard>,
    lock: Lock,
}

/// An artifact's folder while shards of it are at work, in processes that one has started who has the whole.
#[derive(Debug)]
pub struct Lent {
    _lock: Lock,
}

impl Workbench {
    /// Creates the folder if needed and takes its lock. A stage that has asked for its status before it had the lock goes by
    /// [`Workbench::begin`] instead.
    ///
    /// # Errors
    /// A [`Fault`](entromask_fault::Fault) of class usage if the folder cannot be created or written, is one of the recipe's inputs or
    /// an artifact of another kind; of class busy if another process works on it.
    pub fn open(out: &Path, recipe: Recipe, tool: Tool) -> anyhow::Result<Self> {
        claim::check(out, &recipe)?;
        Self::locked(Lock::alone(out)?, out, recipe, tool, None, "")
    }

    /// [`Workbench::open`] for one of several processes that work on the artifact at once; `device` is noted for the
    /// manifest. Only an exclusive workbench publishes.
    ///
    /// # Errors
    /// As for [`Workbench::open`]; another process is one that works on the same shard or on the whole.
    pub fn open_shard(
        out: &Path,
        recipe: Recipe,
        tool: Tool,
        shard: Shard,
        device: &str,
    ) -> anyhow::Result<Self> {
        claim::check(out, &recipe)?;
        Self::locked(Lock::shard(out, shard)?, out, recipe, tool, Some(shard), device)
    }

    fn locked(
        lock: Lock,
        out: &Path,
        recipe: Recipe,
        tool: Tool,
        shard: Option<Shard>,
        device: &str,
    ) -> anyhow::Result<Self> {
        announce(out, &recipe)?;
        let (out, key) = (out.to_path_buf(), recipe.key());
        remove_leftovers(&out, &temporary(shard));
        let clock = Clock::start(out.join(note_name(&key, shard)), device);
        Ok(Self { out, recipe, key, tool, clock, shard, lock })
    }

    /// Leaves the artifact to its shards: as long as what it returns lives, nobody works on the whole of it.
    pub fn lend(self) -> anyhow::Result<Lent> {
        Ok(Lent { _lock: self.lock.share()? })
    }

    /// The artifact's folder.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The artifact's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether `input`, as it is now, is the one of its role in the recipe.
    pub fn is_made_from(&self, input: &Input) -> bool {
        self.recipe.inputs.iter().any(|before| before.role == input.role && before.content == input.content)
    }

    /// The first eight digits of the key.
    pub fn short_key(&self) -> &str {
        &self.key[..8]
    }

    /// `<prefix>-<short key>-<index>.parquet`.
    pub fn part_name(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}-{}-{index:05}.parquet", self.short_key())
    }

    /// The path of `file` if an earlier, killed run of the same recipe has finished it, and it is what that run wrote.
    ///
    /// Only for names that carry the key: they are complete once they exist.
    pub fn finished(&self, file: &str) -> Option<PathBuf> {
        let path = self.out.join(file);
        (file.contains(self.short_key()) && path.exists() && self.is_intact(file)).then_some(path)
    }

    /// Without a noted digest it may be anything.
    fn is_intact(&self, file: &str) -> bool {
        let found = || digest::of_file(&self.out.join(file)).ok();
        seal::digest(&self.out, self.short_key(), file).is_some_and(|noted| Some(noted) == found())
    }

    /// What [`Workbench::write_noting`] noted of `file`.
    pub fn noted(&self, file: &str) -> Option<Value> {
        seal::noted(&self.out, self.short_key(), file).map(|seal| seal.facts)
    }

    /// The path of what [`Workbench::write_draft`] has kept of the part `file`, if it is what was written.
    pub fn draft(&self, file: &str) -> Option<PathBuf> {
        self.finished(&names::draft(file))
    }

    /// Keeps by `write` what there is of the part `file`, for the run that goes on where this one is killed. It goes when the
    /// part is written.
    pub fn write_draft(
        &self,
        file: &str,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.write(&names::draft(file), write)
    }

    /// Lets `write` fill a temporary file, then renames it to `file`. On failure nothing is left behind.
    ///
    /// A file whose name does not carry the key invalidates the artifact until it is published again.
    pub fn write(&self, file: &str, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.write_noting(file, Value::Null, write)
    }

    /// [`Workbench::write`] for a part, of which a later run wants to know `facts` that would be dear to find again.
    pub fn write_noting(
        &self,
        file: &str,
        facts: Value,
        write: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let target = self.out.join(file);
        let beside = self.out.join(format!("{}{}", temporary(self.shard), file.replace('/', "-")));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let written =
            write(&beside).and_then(|()| sync(&beside)).and_then(|()| self.place(&beside, file, facts));
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            error.context(format!("failed to write {}", target.display()))
        })
    }

    /// Notes what there is to know of a file that is written `beside` its place, and moves it there.
    fn place(&self, beside: &Path, file: &str, facts: Value) -> anyhow::Result<()> {
        if file.contains(self.short_key()) {
            let seal = Seal { blake3: digest::of_file(beside)?, facts };
            seal::note(&self.out, self.short_key(), file, &seal)?;
        } else {
            self.invalidate()?;
        }
        fs::rename(beside, self.out.join(file))?;
        if names::is_part(file) {
            self.forget(&names::draft(file));
        }
        sync(&self.out)
    }

    /// Removes a file whose name carries the key, if it is there, and what was noted of it.
    fn forget(&self, file: &str) {
        let _ = fs::remove_file(self.out.join(file));
        seal::forget(&self.out, self.short_key(), file);
    }

    /// [`Workbench::write`] for a file whose bytes are at hand.
    pub fn write_bytes(&self, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.write(file, |path| Ok(fs::File::create(path)?.write_all(bytes)?))
    }

    /// Removes a file or a folder, if it is there, that is to be made again: the artifact is none until it is published.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.out.join(name);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.invalidate()?;
        Ok(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }?)
    }

    /// What every part says about itself: key, kind, format and configuration.
    pub fn footer(&self) -> Vec<(String, String)> {
        [
            ("entromask.key", self.key.clone()),
            ("entromask.kind", self.recipe.kind.to_string()),
            ("entromask.format", self.recipe.kind.format().to_string()),
            ("entromask.config", self.recipe.config.to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }

    /// Where checkpoints of this recipe are kept.
    pub fn state_dir(&self) -> PathBuf {
        self.state_of(self.short_key())
    }

    /// Where checkpoints of a part are kept that has a short key of its own.
    pub fn state_of(&self, short_key: &str) -> PathBuf {
        self.out.join(STATE).join(short_key)
    }

    /// Wall-clock seconds spent on this recipe, interrupted and killed runs included (the latter to the second).
    pub fn seconds(&self) -> f64 {
        self.clock.seconds()
    }

    /// Removes the parts in `outputs`, of which no artifact can be made.
    pub fn discard(self, outputs: &[OutputSpec]) {
        for output in outputs.iter().filter(|output| output.file.contains(self.short_key())) {
            self.forget(&output.file);
            self.forget(&names::draft(&output.file));
        }
        shard::tidy(&self.out, self.short_key());
        self.clock.forget();
    }

    /// [`Workbench::discard`] of all parts of this recipe.
    pub fn discard_all(self) {
        let is_ours = |name: &String| names::is_part(name) && name.contains(self.short_key());
        let parts: Vec<OutputSpec> = names::entries(&self.out)
            .into_iter()
            .filter(is_ours)
            .map(|file| OutputSpec::part(file, 0))
            .collect();
        self.discard(&parts);
    }

    /// Removes the manifest, so that a crash from here on cannot leave it with files of another key.
    fn invalidate(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.out.join(MANIFEST)) {
            Ok(()) => sync(&self.out),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// How the names of a process's temporary files begin: those of a whole run like those of all shards.
fn temporary(shard: Option<Shard>) -> String {
    shard.map_or_else(|| TEMPORARY.into(), |shard| format!("{TEMPORARY}{}-", shard.label()))
}

/// Where the time is noted.
fn note_name(key: &str, shard: Option<Shard>) -> String {
    let short = &key[..8];
    shard.map_or_else(|| clock::note_name(short), |shard| shard::note_name(short, shard))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Note;
    use crate::manifest::{Cost, Manifest};
    use crate::{Kind, Status, status, tool};

    fn recipe(rate: f64) -> Recipe {
        Recipe { kind: Kind::Masks, config: json!({"rate": rate}), inputs: vec![] }
    }

    fn open(out: &Path, rate: f64) -> anyhow::Result<Workbench> {
        Workbench::open(out, recipe(rate), tool("test", "0", &[]))
    }

    fn make(out: &Path, rate: f64) -> anyhow::Result<Manifest> {
        let bench = open(out, rate)?;
        let part = bench.part_name("part", 0);
        bench.write_bytes(&part, rate.to_string().as_bytes())?;
        bench.publish(vec![OutputSpec::part(part, 1)], Value::Null, Cost::default())
    }

    #[test]
    fn swapping_back_after_a_crash_finds_the_right_parts() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = make(folder.path(), 0.15)?;
        let crashed = open(folder.path(), 0.3)?;
        crashed.write_bytes(&crashed.part_name("part", 0), b"of another configuration")?;
        drop(crashed);
        let Status::UpToDate(again) = status(folder.path(), &recipe(0.15))? else { panic!("not up to date") };
        assert_eq!(*again, first);
        again.verify(folder.path())
    }

    #[test]
    fn replacing_a_file_with_a_fixed_name_invalidates_the_artifact_first() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        make(folder.path(), 0.15)?;
        open(folder.path(), 0.3)?.write_bytes("model.safetensors", b"x")?;
        assert_eq!(status(folder.path(), &recipe(0.15))?, Status::Missing);
        Ok(())
    }

    #[test]
    fn a_failing_writer_leaves_nothing() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let bench = open(folder.path(), 0.15)?;
        let part = bench.part_name("part", 0);
        let result = bench.write(&part, |path| {
            std::fs::write(path, b"half")?;
            anyhow::bail!("broke off")
        });
        assert!(format!("{:#}", result.unwrap_err()).contains(&part));
        let left: Vec<_> =
            std::fs::read_dir(folder.path())?.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
        Ok(())
    }

    #[test]
    fn discarding_leaves_the_artifact_that_was_there() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = make(folder.path(), 0.15)?;
        let before = std::fs::read_dir(folder.path())?.count();
        let vain = open(folder.path(), 0.3)?;
        let part = vain.part_name("part", 0);
        vain.write_bytes(&part, b"of no use")?;
        vain.discard(&[OutputSpec::part(part, 1), OutputSpec::part(first.outputs[0].file.clone(), 1)]);
        assert_eq!(std::fs::read_dir(folder.path())?.count(), before);
        let vain = open(folder.path(), 0.3)?;
        vain.write_bytes(&vain.part_name("part", 7), b"of no use")?;
        vain.discard_all();
        assert_eq!(std::fs::read_dir(folder.path())?.count(), before);
        first.verify(folder.path())
    }

    #[test]
    fn a_draft_is_there_until_its_part_is() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let bench = open(folder.path(), 0.15)?;
        let part = bench.part_name("part", 0);
        assert_eq!(bench.draft(&part), None);
        bench.write_draft(&part, |path| Ok(fs::write(path, b"half of it")?))?;
        drop(bench);
        let bench = open(folder.path(), 0.15)?;
        let draft = bench.draft(&part).expect("is kept");
        assert_eq!(fs::read(&draft)?, b"half of it");
        assert_eq!(bench.finished(&part), None);
        fs::write(&draft, b"something else")?;
        assert_eq!(bench.draft(&part), None, "not what was written");
        bench.write_bytes(&part, b"all of it")?;
        bench.publish(vec![OutputSpec::part(part, 1)], Value::Null, Cost::default())?;
        let drafts = names::entries(folder.path()).into_iter().filter(|name| name.contains(".draft-"));
        assert_eq!(drafts.count(), 0, "neither it nor its note");
        Ok(())
    }

    #[test]
    fn two_processes_cannot_work_on_one_artifact() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = open(folder.path(), 0.15)?;
        assert!(open(folder.path(), 0.15).is_err());
        drop(first);
        open(folder.path(), 0.15).map(drop)
    }

    #[test]
    fn nobody_is_let_in_before_all_is_cleared() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let bench = open(folder.path(), 0.15)?;
        let clear = || {
            assert!(matches!(status(folder.path(), &recipe(0.15))?, Status::UpToDate(_)));
            assert!(open(folder.path(), 0.15).is_err(), "it still is at work");
            Ok(())
        };
        bench.publish_then(vec![], Value::Null, Cost::default(), clear)?;
        open(folder.path(), 0.15).map(drop)
    }

    #[test]
    fn damage_is_named_with_both_sides() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let manifest = make(folder.path(), 0.15)?;
        let part = folder.path().join(&manifest.outputs[0].file);
        fs::write(&part, b"9.99")?;
        let error = manifest.verify(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&manifest.outputs[0].blake3) && error.contains("delete it"), "{error}");
        fs::write(&part, b"short")?;
        assert!(matches!(status(folder.path(), &recipe(0.15))?, Status::Changed(_)));
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_usage_error() {
        let error = open(Path::new("/dev/null/below"), 0.15).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
    }

    #[test]
    fn seconds_of_interrupted_runs_are_added() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let note = folder.path().join(format!(".elapsed-{}", &recipe(0.15).key()[..8]));
        Note { seconds: 100.0, ..Note::default() }.write(&note);
        drop(open(folder.path(), 0.15)?);
        assert!(make(folder.path(), 0.15)?.cost.seconds > 100.0);
        assert!(!note.exists());
        Ok(())
    }
}
