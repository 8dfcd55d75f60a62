//! What writing files safely takes.

use std::path::Path;

use fs_err as fs;

/// Waits until the file, or the folder's entries, are on the disk.
pub(crate) fn sync(path: &Path) -> anyhow::Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
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
