//! Whether a file is what it was when it was looked at, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use serde::{Deserialize, Serialize};

/// A file changed this recently may change again within the resolution of its time stamp.
const RACY: Duration = Duration::from_secs(2);

/// What a file system says of a file, and what changes with its bytes.
///
/// Its own time stamp is not enough: `cp -p`, `rsync` and archives set it, and checkpoints of one shape are of one size.
/// Nobody sets the time of its last change of status, and a file that is moved here has another number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    bytes: u64,
    inode: u64,
    /// Seconds and nanoseconds since 1970: of the last change of its bytes, and of its bytes or status.
    modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            bytes: file.len(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether the file has been left alone for so long that another change would show.
    pub(crate) fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > RACY)
    }
}

/// Files as they were when they were looked at, to tell later whether somebody has written to them.
#[derive(Debug)]
pub struct Untouched(Vec<(PathBuf, Stamp)>);

impl Untouched {
    /// Looks at `files`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if one is not there.
    pub fn of(files: &[PathBuf]) -> anyhow::Result<Self> {
        let looked_at = files.iter().map(|file| Ok((file.clone(), Stamp::of(&metadata(file)?))));
        Ok(Self(looked_at.collect::<anyhow::Result<_>>()?))
    }

    /// The first of them that is gone or has another stamp now. Its bytes may still be the same.
    pub fn touched(&self) -> Option<&Path> {
        let is_another = |(file, stamp): &&(PathBuf, Stamp)| {
            fs::metadata(file).map_or(true, |metadata| Stamp::of(&metadata) != *stamp)
        };
        self.0.iter().find(is_another).map(|(file, _)| file.as_path())
    }
}

pub(crate) fn metadata(file: &Path) -> anyhow::Result<Metadata> {
    Ok(fs::metadata(file).map_err(|error| Fault::input(unreadable(file, &error)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_to_a_file_is_noticed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("growing.txt");
        fs::write(&file, "text")?;
        let untouched = Untouched::of(std::slice::from_ref(&file))?;
        assert_eq!(untouched.touched(), None);
        fs::write(&file, "text and more")?;
        assert_eq!(untouched.touched(), Some(file.as_path()));
        assert!(Untouched::of(&[folder.path().join("none")]).is_err());
        Ok(())
    }
}
