//! Which files a list of paths and globs means.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use entromask_fault::Fault;

use super::open::missing;

/// The files that `patterns` name, in the given order, those of a glob sorted. One that several name is read once.
pub(super) fn find(patterns: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pattern in patterns {
        // A file may have brackets in its name, so that a path goes before a glob.
        if Path::new(pattern).exists() || !pattern.contains(['*', '?', '[']) {
            files.push(existing(pattern)?);
        } else {
            files.extend(matching(pattern)?);
        }
    }
    let mut known = HashSet::new();
    // What has no canonical path is named when it is opened.
    files.retain(|file| known.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    Ok(files)
}

fn existing(path: &str) -> anyhow::Result<PathBuf> {
    let fault = match fs_err::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(path.into()),
        Ok(_) => {
            Fault::input(format!("{path}: not a file")).remedy("name its files, e.g. by a glob, in `files`")
        }
        Err(error) => missing(Path::new(path), &error),
    };
    Err(fault.into())
}

fn matching(pattern: &str) -> anyhow::Result<Vec<PathBuf>> {
    let malformed =
        |error: glob::PatternError| Fault::usage(format!("files: {pattern}: not a glob: {error}"));
    let paths: Result<Vec<_>, _> = glob::glob(pattern).map_err(malformed)?.collect();
    let mut files = paths.map_err(|error| Fault::input(error.to_string()))?;
    // A part of the pattern with a dot in front matches a hidden name only; what is hidden besides was met by a wildcard.
    files.retain(|path| path.is_file() && hidden(path) == hidden(Path::new(pattern)));
    files.sort();
    if files.is_empty() {
        return Err(Fault::input(format!("{pattern}: no file matches"))
            .remedy("check `files` in the corpus config; globs are relative to the working folder")
            .into());
    }
    Ok(files)
}

/// How many names in a path are hidden.
fn hidden(path: &Path) -> usize {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    names.filter(|name| name.as_os_str().as_encoded_bytes().starts_with(b".")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_as_given_and_sorted_within_a_glob() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(".old"))?;
        for name in ["b.txt", "a.txt", "c[1].txt", "z.md", ".c.txt", ".old/d.txt"] {
            std::fs::write(folder.path().join(name), "")?;
        }
        let path = |name: &str| folder.path().join(name).display().to_string();
        let names = |patterns: &[&str]| -> anyhow::Result<Vec<String>> {
            let found = find(&patterns.iter().map(|name| path(name)).collect::<Vec<_>>())?;
            Ok(found.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect())
        };
        assert_eq!(names(&["z.md", "?.txt", "c[1].txt"])?, ["z.md", "a.txt", "b.txt", "c[1].txt"]);
        assert_eq!(names(&["*.txt"])?, ["a.txt", "b.txt", "c[1].txt"], "none that is hidden");
        assert_eq!(names(&["**/*.txt"])?, ["a.txt", "b.txt", "c[1].txt"], "nor in what is hidden");
        assert_eq!(names(&[".*.txt", ".old/*", ".c.txt"])?, [".c.txt", "d.txt"], "unless it is said");
        assert_eq!(names(&["b.txt", "*.txt", ".old/../b.txt"])?, ["b.txt", "a.txt", "c[1].txt"], "each once");
        Ok(())
    }

    #[test]
    fn what_is_not_there_is_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        for (pattern, message) in [
            ("none.txt", "none.txt: no such file; check `files`"),
            ("*.txt", "no file matches"),
            ("", "not a file"),
        ] {
            let pattern = folder.path().join(pattern).display().to_string();
            let error = find(std::slice::from_ref(&pattern)).unwrap_err();
            assert!(error.to_string().contains(message) && error.to_string().contains(&pattern), "{error}");
            assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        }
        Ok(())
    }
}
