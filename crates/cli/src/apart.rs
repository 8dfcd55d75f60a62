//! What a command reads is never written over.

use std::path::{Path, PathBuf};

use entromask_fault::Fault;

/// Refuses an `--out` that is one of `inputs`, the files and folders that a command reads, or that lies in one of them. Links are
/// followed, as they are in writing.
///
/// # Errors
/// A [`Fault`] of class usage that names both.
pub fn refuse_inputs(out: &Path, inputs: impl IntoIterator<Item: AsRef<Path>>) -> anyhow::Result<()> {
    let place = place(out);
    for input in inputs {
        let input = input.as_ref();
        if let Some((place, read)) = place.as_ref().zip(input.canonicalize().ok())
            && place.starts_with(&read)
        {
            let how = if *place == read && read.is_file() { "this is" } else { "lies in" };
            let found = format!("{}: {how} {}, which is read", out.display(), input.display());
            return Err(Fault::usage(found).remedy("choose another --out").into());
        }
    }
    Ok(())
}

/// What would be written; where nothing is yet, the folder that it would lie in.
fn place(out: &Path) -> Option<PathBuf> {
    let here = |path: &Path| if path.as_os_str().is_empty() { ".".into() } else { path.to_path_buf() };
    out.ancestors().find_map(|path| here(path).canonicalize().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_refused_by_whatever_name() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("model"))?;
        std::fs::write(at("model/config.json"), "")?;
        std::fs::write(at("dev.tsv"), "")?;
        std::os::unix::fs::symlink(at("dev.tsv"), at("link.tsv"))?;
        std::os::unix::fs::symlink(at("model"), at("another"))?;
        let inputs = [at("dev.tsv"), at("model"), at("missing.tsv")];
        let names = ["dev.tsv", "link.tsv", "model/../dev.tsv", "model/config.json", "another/new", "model"];
        for name in names {
            let error = refuse_inputs(&at(name), &inputs).expect_err(name);
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2, "{error}");
            assert!(error.to_string().contains("which is read; choose another --out"), "{error}");
        }
        for name in ["new.tsv", "dev.tsv.new", "models/new", "."] {
            refuse_inputs(&at(name), &inputs)?;
        }
        refuse_inputs(Path::new("new.tsv"), &inputs)
    }
}
