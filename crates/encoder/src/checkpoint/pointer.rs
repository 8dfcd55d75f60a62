//! What a clone without Git LFS has in place of a large file.

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use entromask_fault::Fault;

/// Begins the text of a pointer: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.
const START: [u8; 42] = *b"version https://git-lfs.github.com/spec/v1";

/// Refuses a file that only points to what is wanted. One that cannot be read is left to who reads it.
pub(super) fn refuse(path: &Path) -> Result<()> {
    let mut start = [0; START.len()];
    let read = fs_err::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    if read.is_err() || start != START {
        return Ok(());
    }
    Err(Fault::input(format!("{}: a pointer of Git LFS, and not the file itself", path.display()))
        .remedy("fetch it with `git lfs pull` in its folder")
        .into())
}
