//! Is there work to do, and why.

use std::path::Path;

use serde_json::Value;

use crate::claim;
use crate::manifest::{MANIFEST, Manifest};
use crate::recipe::{Input, Recipe};

/// Reasons for replacing an artifact that are given one by one.
const REASONS: usize = 6;

/// What running a stage would mean.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// The artifact in the folder has the recipe's key, and its parts are there.
    UpToDate(Box<Manifest>),
    /// There is no artifact.
    Missing,
    /// There is one of another recipe, or its parts are not all there; each difference in words, at least one.
    Changed(Vec<String>),
}

/// Compares the artifact in `out` with `recipe`, reading the manifest and the sizes of its parts only.
///
/// # Errors
/// A [`Fault`](entromask_fault::Fault) of class usage if `out` is one of the recipe's inputs or an artifact of another kind.
pub fn status(out: &Path, recipe: &Recipe) -> anyhow::Result<Status> {
    claim::check(out, recipe)?;
    if !out.join(MANIFEST).exists() {
        return Ok(Status::Missing);
    }
    let manifest = match Manifest::load_any(out) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Status::Changed(vec![format!("{error:#}")])),
    };
    if manifest.key != recipe.key() {
        return Ok(Status::Changed(differences(&manifest, recipe)));
    }
    // Logs are no content: a model's card is there to be edited.
    let content = manifest.outputs.iter().filter(|output| !output.log);
    let damaged: Vec<_> = content.filter_map(|output| output.verify_size(out).err()).collect();
    if damaged.is_empty() {
        return Ok(Status::UpToDate(Box::new(manifest)));
    }
    Ok(Status::Changed(damaged.iter().map(|error| format!("{error:#}")).collect()))
}

/// Says which artifact the run will replace, and why: it may have taken hours.
pub(crate) fn announce(out: &Path, recipe: &Recipe) -> anyhow::Result<()> {
    let Status::Changed(mut reasons) = status(out, recipe)? else { return Ok(()) };
    let more = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    reasons.extend((more > 0).then(|| format!("and {more} more")));
    let old = Manifest::load_any(out).map(|old| format!("{} {}", old.kind, old.short_key()));
    let old = old.unwrap_or_else(|_| "an artifact that cannot be read".into());
    tracing::info!("{}: replaces {old} ({})", out.display(), reasons.join(", "));
    Ok(())
}

/// Each way in which `recipe` differs from what made `manifest`, as `path: old -> new`.
fn differences(manifest: &Manifest, recipe: &Recipe) -> Vec<String> {
    let mut found = Vec::new();
    if manifest.format != recipe.kind.format() {
        found.push(format!("format: {} -> {}", manifest.format, recipe.kind.format()));
    }
    compare_inputs(&manifest.inputs, &recipe.inputs, &mut found);
    compare_values("", &manifest.config, &recipe.config, &mut found);
    if found.is_empty() {
        found.push("its key changed".into());
    }
    found
}

fn compare_inputs(old: &[Input], new: &[Input], found: &mut Vec<String>) {
    for input in new {
        match old.iter().find(|before| before.role == input.role) {
            None => found.push(format!("{}: none -> {}", input.role, input.path.display())),
            Some(before) if before.content == input.content && before.kind == input.kind => {}
            Some(before) if before.path == input.path => {
                found.push(format!("{}: content of {} changed", input.role, input.path.display()));
            }
            Some(before) => found.push(format!(
                "{}.path: {} -> {}",
                input.role,
                before.path.display(),
                input.path.display()
            )),
        }
    }
    for gone in old.iter().filter(|before| new.iter().all(|input| input.role != before.role)) {
        found.push(format!("{}: {} -> none", gone.role, gone.path.display()));
    }
}

fn compare_values(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if let (Value::Object(before), Value::Object(after)) = (old, new) {
        let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare_values(
                &below,
                before.get(key).unwrap_or(&Value::Null),
                after.get(key).unwrap_or(&Value::Null),
                found,
            );
        }
    } else if old != new {
        found.push(format!("{path}: {} -> {}", shown(old), shown(new)));
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "none".into() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Cost, Kind, OutputSpec, Workbench, tool};

    #[test]
    fn a_log_may_be_edited_or_removed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let recipe = Recipe { kind: Kind::Model, config: json!({}), inputs: vec![] };
        let bench = Workbench::open(folder.path(), recipe.clone(), tool("test", "0", &[]))?;
        for name in ["README.md", "model.safetensors"] {
            bench.write_bytes(name, b"as it was")?;
        }
        let outputs = vec![OutputSpec::log("README.md"), OutputSpec::file("model.safetensors")];
        bench.publish(outputs, Value::Null, Cost::default())?;
        let is_up_to_date =
            || status(folder.path(), &recipe).map(|status| matches!(status, Status::UpToDate(_)));
        std::fs::write(folder.path().join("README.md"), "What I found with this model.")?;
        assert!(is_up_to_date()?);
        std::fs::remove_file(folder.path().join("README.md"))?;
        assert!(is_up_to_date()?);
        std::fs::write(folder.path().join("model.safetensors"), "")?;
        assert!(!is_up_to_date()?);
        Ok(())
    }

    #[test]
    fn values_are_compared_by_path() {
        let mut found = Vec::new();
        let (old, new) = (json!({"a": {"b": 1, "c": 2}, "d": "x"}), json!({"a": {"b": 1, "c": 3}, "e": [1]}));
        compare_values("", &old, &new, &mut found);
        assert_eq!(found, ["a.c: 2 -> 3", "d: \"x\" -> none", "e: none -> [1]"]);
    }
}
