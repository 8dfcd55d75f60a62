//! Names of a classifier's outputs, as `config.json` has them: `id2label` and back.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The names in `dir`, in the order of the outputs; none where not all are there.
pub(crate) fn read(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join("config.json");
    let config: Value = serde_json::from_slice(&fs_err::read(&path)?)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let names = config["id2label"].as_object();
    let name = |id: usize| Some(names?.get(&id.to_string())?.as_str()?.to_owned());
    let found: Option<Vec<_>> = (0..names.map_or(0, Map::len)).map(name).collect();
    Ok(found.unwrap_or_default())
}

/// The keys for a classifier with `num_labels` outputs; `names` may be fewer, and are not used then.
pub(crate) fn keys(names: &[String], num_labels: usize) -> Value {
    let name = |id: usize| {
        if names.len() == num_labels { names[id].clone() } else { format!("LABEL_{id}") }
    };
    let id2label: Map<_, _> = (0..num_labels).map(|id| (id.to_string(), json!(name(id)))).collect();
    let label2id: Map<_, _> = (0..num_labels).map(|id| (name(id), json!(id))).collect();
    let problem = if num_labels == 1 { "regression" } else { "single_label_classification" };
    json!({"id2label": id2label, "label2id": label2id, "problem_type": problem})
}
