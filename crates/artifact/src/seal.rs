//! What is noted beside a finished part: its digest, since that a part can be read does not say
//! that it is what was written, and what its stage wants to know of it without making it again.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::{MANIFEST, Manifest};

/// The note of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seal {
    /// BLAKE3 digest of the file, in hexadecimal.
    pub(crate) blake3: String,
    /// The stage's own.
    pub(crate) facts: Value,
}

/// How the names of the notes of a recipe begin.
pub(crate) fn prefix(short_key: &str) -> String {
    format!(".digest-{short_key}-")
}

/// Notes what there is to know of `file`.
pub(crate) fn note(out: &Path, short_key: &str, file: &str, seal: &Seal) -> anyhow::Result<()> {
    Ok(fs::write(path(out, short_key, file), serde_json::to_vec(seal)?)?)
}

/// Removes what was noted of `file`.
pub(crate) fn forget(out: &Path, short_key: &str, file: &str) {
    let _ = fs::remove_file(path(out, short_key, file));
}

/// What was noted for `file`. A note that was cut short says nothing.
pub(crate) fn noted(out: &Path, short_key: &str, file: &str) -> Option<Seal> {
    serde_json::from_slice(&fs::read(path(out, short_key, file)).ok()?).ok()
}

/// The digest of `file` by its note, or by a manifest of the same recipe.
pub(crate) fn digest(out: &Path, short_key: &str, file: &str) -> Option<String> {
    noted(out, short_key, file).map(|seal| seal.blake3).or_else(|| {
        let manifest = out.join(MANIFEST).exists().then(|| Manifest::load_any(out).ok()).flatten()?;
        let ours = manifest.short_key() == short_key;
        manifest.output(file).filter(|_| ours).map(|output| output.blake3.clone())
    })
}

fn path(out: &Path, short_key: &str, file: &str) -> PathBuf {
    out.join(format!("{}{}.json", prefix(short_key), file.replace('/', "-")))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use serde_json::{Value, json};

    use crate::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};

    #[test]
    fn a_part_that_was_changed_is_not_finished() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let open = || {
            let recipe = Recipe { kind: Kind::Masks, config: Value::Null, inputs: vec![] };
            Workbench::open(folder.path(), recipe, tool("test", "0", &[]))
        };
        let bench = open()?;
        let part = bench.part_name("part", 0);
        bench.write_noting(&part, json!({"tokens": 7}), |path| Ok(fs::write(path, b"0.15")?))?;
        assert!(bench.finished(&part).is_some());
        assert_eq!(bench.noted(&part), Some(json!({"tokens": 7})));
        fs::write(folder.path().join(&part), b"0.16")?;
        assert!(bench.finished(&part).is_none(), "before there is a manifest");
        let error = bench.publish(vec![OutputSpec::part(part.clone(), 1)], Value::Null, Cost::default());
        assert!(error.expect_err("is changed").to_string().contains("not what was written"));
        let bench = open()?;
        bench.write_bytes(&part, b"0.15")?;
        bench.publish(vec![OutputSpec::part(part.clone(), 1)], Value::Null, Cost::default())?;
        let again = open()?;
        assert!(again.finished(&part).is_some());
        fs::write(folder.path().join(&part), b"0.16")?;
        assert!(again.finished(&part).is_none(), "by the manifest");
        fs::remove_file(folder.path().join(crate::MANIFEST))?;
        assert!(again.finished(&part).is_none(), "by nothing");
        Ok(())
    }
}
