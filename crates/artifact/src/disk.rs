//! What writing files safely takes.

use std::io::ErrorKind;
use std::path::Path;

use entromask_fault::Fault;
use fs_err as fs;

/// Waits until the file, or the folder's entries, are on the disk.
pub(crate) fn sync(path: &Path) -> anyhow::Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
}

/// Names the file and, for a full disk, the remedy.
pub(crate) fn explain(error: anyhow::Error, target: &Path) -> anyhow::Error {
    let full = error.chain().any(|link| {
        link.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::StorageFull)
            || link.to_string().contains("No space left on device")
    });
    if full {
        return Fault::failed(format!("{}: no space left on the disk", target.display()))
            .remedy("free some space and run the same command again: what is finished is kept")
            .into();
    }
    error.context(format!("failed to write {}", target.display()))
}

/// Temporary files of a killed run; the lock is ours, so nobody is writing them.
pub(crate) fn remove_leftovers(out: &Path, temporary: &str) {
    let Ok(entries) = fs::read_dir(out) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(temporary) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
