//! From an artifact to what it was made from: manifests name their inputs by path and content.

use std::path::{Path, PathBuf};

use entromask_artifact::{Input, MANIFEST, Manifest};

/// What stands where an input was read from.
#[derive(Clone, Debug)]
pub enum Located {
    /// The artifact, unchanged.
    Found(PathBuf, Box<Manifest>),
    /// Another artifact: it was made again since.
    Changed(PathBuf),
    /// Files from outside the pipeline, which have no manifest.
    External(PathBuf),
    /// Nothing.
    Gone,
}

impl Located {
    /// The folder and manifest, if the artifact is there and unchanged.
    pub fn found(self) -> Option<(PathBuf, Manifest)> {
        match self {
            Self::Found(path, manifest) => Some((path, *manifest)),
            _ => None,
        }
    }

    /// Why there is no artifact to look into; nothing if there is one.
    pub fn trouble(&self, input: &Input) -> Option<String> {
        let (role, path) = (&input.role, input.path.display());
        match self {
            Self::Found(..) | Self::External(_) => None,
            Self::Changed(_) => Some(format!("{role}: {path} has been made again since, with other content")),
            Self::Gone => Some(format!("{role}: {path} is gone")),
        }
    }
}

/// Looks for `input` of the artifact in `dir`.
///
/// Paths in manifests are as the user gave them, usually relative to the folder that the stages were run in. If that
/// is not the current one, each folder above the artifact is tried.
pub fn locate(input: &Input, dir: &Path) -> Located {
    let mut changed = None;
    for path in candidates(input, dir) {
        match Manifest::load_any(&path) {
            Ok(manifest) if manifest.content == input.content => {
                return Located::Found(path, Box::new(manifest));
            }
            Ok(_) => changed = changed.or(Some(path)),
            Err(_) if !path.join(MANIFEST).exists() && input.kind == "files" && path.exists() => {
                return Located::External(path);
            }
            Err(_) => {}
        }
    }
    changed.map_or(Located::Gone, Located::Changed)
}

/// The model that computed an entropy artifact: its only input besides the tokens, and a tokenizer that was named by
/// itself.
pub fn scorer(entropy: &Manifest) -> Option<&Input> {
    entropy.inputs.iter().find(|input| !["tokens", "teacher_tokenizer"].contains(&input.role.as_str()))
}

fn candidates(input: &Input, dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![input.path.clone()];
    if input.path.is_relative() {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        found.extend(absolute.ancestors().skip(1).map(|above| above.join(&input.path)));
    }
    found.retain(|path| path.exists());
    found
}

#[cfg(test)]
mod tests {
    use entromask_artifact::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};
    use serde_json::json;

    use super::*;

    fn make(dir: &Path, text: &str) -> anyhow::Result<Manifest> {
        let recipe = Recipe { kind: Kind::Glue, config: json!({"text": text}), inputs: vec![] };
        let bench = Workbench::open(dir, recipe, tool("test", "0", &[]))?;
        bench.write_bytes("results.json", text.as_bytes())?;
        bench.publish(vec![OutputSpec::file("results.json")], json!({}), Cost::default())
    }

    #[test]
    fn inputs_are_found_from_any_working_folder_and_changes_are_noticed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("data/tokens/a");
        let manifest = make(&dir, "one")?;
        let input = Input::artifact("tokens", &manifest, Path::new("data/tokens/a"));
        let user = folder.path().join("data/masks/b");
        let Located::Found(path, found) = locate(&input, &user) else { panic!("not found") };
        assert_eq!((path, *found), (dir.clone(), manifest));
        make(&dir, "two")?;
        let located = locate(&input, &user);
        assert!(located.trouble(&input).is_some_and(|text| text.contains("made again")));
        std::fs::remove_dir_all(&dir)?;
        assert!(locate(&input, &user).trouble(&input).is_some_and(|text| text.contains("is gone")));
        Ok(())
    }
}
