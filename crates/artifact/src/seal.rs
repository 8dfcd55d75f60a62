//! Digests of finished parts, noted beside them until the manifest has them: that a part can be read does not say that it
//! is what was written.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::manifest::{MANIFEST, Manifest};

/// Length of a digest in hexadecimal.
const DIGITS: usize = 64;

/// How the names of the notes of a recipe begin.
pub(crate) fn prefix(short_key: &str) -> String {
    format!(".digest-{short_key}-")
}

/// Notes the digest of `file`.
pub(crate) fn note(out: &Path, short_key: &str, file: &str, digest: &str) -> anyhow::Result<()> {
    Ok(fs::write(path(out, short_key, file), digest)?)
}

/// What was noted for `file`, or what a manifest of the same recipe says. A note that was cut short says nothing.
pub(crate) fn noted(out: &Path, short_key: &str, file: &str) -> Option<String> {
    let note = fs::read_to_string(path(out, short_key, file)).ok().filter(|note| note.len() == DIGITS);
    note.or_else(|| {
        let manifest = out.join(MANIFEST).exists().then(|| Manifest::load_any(out).ok()).flatten()?;
        let ours = manifest.short_key() == short_key;
        manifest.output(file).filter(|_| ours).map(|output| output.blake3.clone())
    })
}

fn path(out: &Path, short_key: &str, file: &str) -> PathBuf {
    out.join(format!("{}{}.blake3", prefix(short_key), file.replace('/', "-")))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use serde_json::Value;

    use crate::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};

    #[test]
    fn a_part_that_was_changed_is_not_finished() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let open = || {
            let recipe = Recipe { kind: Kind::Masks, format: 1, config: Value::Null, inputs: vec![] };
            Workbench::open(folder.path(), recipe, tool("test", "0", &[]))
        };
        let bench = open()?;
        let part = bench.part_name("part", 0);
        bench.write_bytes(&part, b"0.15")?;
        assert!(bench.finished(&part).is_some());
        fs::write(folder.path().join(&part), b"0.16")?;
        assert!(bench.finished(&part).is_none(), "before there is a manifest");
        bench.write_bytes(&part, b"0.15")?;
        bench.publish(vec![OutputSpec::part(part.clone(), 1)], Value::Null, Cost::default())?;
        let again = open()?;
        assert!(again.finished(&part).is_some());
        fs::write(folder.path().join(&part), b"0.16")?;
        assert!(again.finished(&part).is_none(), "by the manifest");
        Ok(())
    }
}
