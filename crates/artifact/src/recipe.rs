//! What an artifact would be made of, and the key that follows from it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use entromask_fault::{Class, Fault, class_of};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest;
use crate::manifest::{Kind, MANIFEST, Manifest};

/// Extensions of what is read of a model's folder: weights, configuration and tokenizer.
const OF_A_MODEL: [&str; 4] = ["safetensors", "bin", "json", "txt"];

/// Everything that decides an artifact's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What would be made.
    pub kind: Kind,
    /// The resolved semantic configuration, defaults included.
    pub config: Value,
    /// What it would be made from.
    pub inputs: Vec<Input>,
}

/// One input of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What the stage uses it as, e.g. `tokens` or `teacher`.
    pub role: String,
    /// Kind of artifact, or `files` for files from outside.
    pub kind: String,
    /// Digest of its content, in hexadecimal.
    pub content: String,
    /// Where it was read from; not part of the key.
    pub path: PathBuf,
}

impl Recipe {
    /// The artifact's key: 64 hexadecimal digits.
    pub fn key(&self) -> String {
        let inputs: Vec<_> = self.inputs.iter().map(|i| json!([i.role, i.kind, i.content])).collect();
        let recipe =
            json!({"kind": self.kind, "format": self.kind.format(), "config": self.config, "inputs": inputs});
        let mut text = String::new();
        write_canonical(&recipe, &mut text);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

impl Input {
    /// An artifact of the pipeline.
    pub fn artifact(role: &str, manifest: &Manifest, dir: &Path) -> Self {
        Self {
            role: role.into(),
            kind: manifest.kind.to_string(),
            content: manifest.content.clone(),
            path: dir.into(),
        }
    }

    /// A model: an artifact of the pipeline, or the `files` of a Hugging Face folder from outside.
    ///
    /// The key is made of what the manifest of an artifact says, so what is read of one is compared with its digests.
    ///
    /// # Errors
    /// A [`Fault`] of class input that names the file, and both digests if it was changed; for a folder from outside those of
    /// `files` and [`Input::files`].
    pub fn model(
        role: &str,
        dir: &Path,
        remedy: &str,
        files: impl FnOnce() -> anyhow::Result<Vec<PathBuf>>,
    ) -> anyhow::Result<Self> {
        if !dir.join(MANIFEST).exists() {
            return Self::files(role, dir, &files()?, remedy);
        }
        let manifest = Manifest::load(dir, Kind::Model)?;
        manifest.verify_read(dir, is_of_a_model)?;
        Ok(Self::artifact(role, &manifest, dir))
    }

    /// Files from outside the pipeline; `path` is how the user names them. Their names are not part of the digest.
    ///
    /// # Errors
    /// A [`Fault`] of class input if a file cannot be read, with `remedy`, which names the flag or key that `path` was
    /// given by.
    pub fn files(role: &str, path: &Path, files: &[PathBuf], remedy: &str) -> anyhow::Result<Self> {
        let digests = digest::of_files(files).map_err(|error| match class_of(error.as_ref()) {
            Class::Interrupted => error,
            _ => Fault::input(format!("{error:#}")).remedy(remedy).into(),
        })?;
        let content = blake3::hash(digests.concat().as_bytes()).to_hex().to_string();
        Ok(Self { role: role.into(), kind: "files".into(), content, path: path.into() })
    }
}

/// Whether a stage reads this file of a model's folder.
fn is_of_a_model(file: &str) -> bool {
    let extension = Path::new(file).extension().and_then(OsStr::to_str);
    !file.contains('/') && extension.is_some_and(|extension| OF_A_MODEL.contains(&extension))
}

/// JSON with sorted keys and no spaces, whatever map type `serde_json` was built with.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            write_list(text, ['{', '}'], entries, |(key, value), text| {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            });
        }
        Value::Array(items) => write_list(text, ['[', ']'], items, write_canonical),
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_list<T>(
    text: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    text.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cost, OutputSpec, Workbench, tool};

    fn recipe(config: Value, content: &str, path: &str) -> Recipe {
        let input = Input {
            role: "tokens".into(),
            kind: "tokens".into(),
            content: content.into(),
            path: path.into(),
        };
        Recipe { kind: Kind::Masks, config, inputs: vec![input] }
    }

    #[test]
    fn key_depends_on_meaning_only() {
        let key = recipe(json!({"a": 1, "b": [0.5, null]}), "c1", "x").key();
        assert_eq!(key, recipe(json!({"b": [0.5, null], "a": 1}), "c1", "elsewhere").key());
        assert_ne!(key, recipe(json!({"a": 2, "b": [0.5, null]}), "c1", "x").key());
        assert_ne!(key, recipe(json!({"a": 1, "b": [0.5, null]}), "c2", "x").key());
    }

    #[test]
    fn keys_are_frozen() {
        let key = recipe(json!({"rate": 0.15, "policy": "random"}), "c", "x").key();
        assert!(key.starts_with(FROZEN), "{key}: changing how keys are made rebuilds everybody's artifacts");
    }

    #[test]
    fn names_of_external_files_do_not_matter_but_order_and_bytes_do() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let (a, b, c) = (file("a", "one")?, file("b", "two")?, file("c", "one")?);
        let content = |files: &[&PathBuf]| {
            let files: Vec<_> = files.iter().map(|&file| file.clone()).collect();
            Input::files("corpus", folder.path(), &files, "check `files`").map(|input| input.content)
        };
        assert_eq!(content(&[&a, &b])?, content(&[&c, &b])?);
        assert_ne!(content(&[&a, &b])?, content(&[&b, &a])?);
        let error = content(&[&a, &folder.path().join("d")]).unwrap_err().to_string();
        assert!(error.ends_with("d: no such file; check `files`"), "{error}");
        Ok(())
    }

    #[test]
    fn of_a_model_only_what_is_read_is_compared() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("model");
        let recipe = Recipe { kind: Kind::Model, config: json!({}), inputs: Vec::new() };
        let bench = Workbench::open(&dir, recipe, tool("handmade", "0", &[]))?;
        std::fs::create_dir_all(dir.join("state"))?;
        let names = ["model.safetensors", "config.json", "state/optimizer.safetensors", "README.md"];
        for name in names {
            bench.write_bytes(name, b"as it was")?;
        }
        bench.publish(names.map(OutputSpec::file).into(), Value::Null, Cost::default())?;
        let input = || Input::model("teacher", &dir, "check `--model`", || unreachable!("it has a manifest"));
        let manifest = Manifest::load(&dir, Kind::Model)?;
        for name in names {
            std::fs::write(dir.join(name), b"as it is.")?;
            let found = input().map(|input| input.content).map_err(|error| error.to_string());
            if name.starts_with("state") || name == "README.md" {
                assert_eq!(found, Ok(manifest.content.clone()), "{name}");
            } else {
                assert!(found.is_err_and(|error| error.contains(name)), "{name}");
            }
            std::fs::write(dir.join(name), b"as it was")?;
        }
        Ok(())
    }

    const FROZEN: &str = "e46c3d288449577b";
}
