//! Who may work on an artifact's folder.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use entromask_fault::Fault;
use fs_err as fs;

use crate::Shard;

/// The lock of an artifact; stays in its folder.
pub(crate) const LOCK: &str = ".lock";

/// How the names of the shards' own locks begin.
pub(crate) const SHARD: &str = ".lock-";

/// How often, and after which pauses, a lock that somebody has is tried again: a fifth of a second.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Held while a stage writes. Dropping it lets others in.
#[derive(Debug)]
pub(crate) struct Lock {
    files: Vec<File>,
}

impl Lock {
    /// Nobody else works on the artifact.
    pub(crate) fn alone(out: &Path) -> anyhow::Result<Self> {
        let file = create(out, LOCK)?;
        taken(out, || file.try_lock(), "this artifact")?;
        Ok(Self { files: vec![file] })
    }

    /// From now on shards may work on the artifact, too.
    pub(crate) fn share(self) -> anyhow::Result<Self> {
        self.files.iter().try_for_each(File::try_lock_shared).context("failed to share a lock")?;
        Ok(self)
    }

    /// Only other shards work on the artifact.
    pub(crate) fn shard(out: &Path, shard: Shard) -> anyhow::Result<Self> {
        let all = create(out, LOCK)?;
        taken(out, || all.try_lock_shared(), "this artifact")?;
        // Only now: who holds the other lock alone may remove this one.
        let own = create(out, &format!("{SHARD}{}", shard.label()))?;
        taken(out, || own.try_lock(), &format!("shard {shard}"))?;
        Ok(Self { files: vec![all, own] })
    }
}

/// Whether a process works on the artifact in `out`, or on a shard of it.
pub fn is_held(out: &Path) -> bool {
    let lock = File::open(out.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn create(out: &Path, name: &str) -> anyhow::Result<File> {
    // What is in a file of that name is somebody's.
    let open = |()| fs::OpenOptions::new().append(true).create(true).open(out.join(name));
    let made = fs::create_dir_all(out).and_then(open);
    let file = made.map_err(|error| {
        Fault::usage(format!("cannot write to the output folder: {error}")).remedy("choose another --out")
    })?;
    Ok(file.into_file())
}

/// Tries again for a moment: a program that some thread of the last holder is just starting shares its lock until it runs.
fn taken(out: &Path, lock: impl Fn() -> Result<(), TryLockError>, what: &str) -> anyhow::Result<()> {
    let mut outcome = lock();
    for _ in 0..TRIES {
        if !matches!(outcome, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(PAUSE);
        outcome = lock();
    }
    match outcome {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Fault::busy(format!("{}: another process is working on {what}", out.display()))
                .remedy("wait for it, as --wait does, or stop it")
                .into())
        }
        Err(TryLockError::Error(error)) => Err(error).context(format!("failed to lock {}", out.display())),
    }
}
