//! JSON values as a list of paths.

use serde_json::Value;

/// The values in `value` that are neither objects nor null, each with its path: `a.b.c`.
pub fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| (key.parse::<u64>().ok(), *key));
            for (key, value) in entries {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&below, value, found);
            }
        }
        scalar => found.push((path.into(), shown(scalar))),
    }
}

/// A value without quotes; lists with blanks after the commas.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_are_named_by_their_path() {
        let found = leaves(&json!({"a": {"b": 1, "c": [1, "x"]}, "d": "y", "e": null}));
        let percentiles = leaves(&json!({"5": 0, "10": 1, "x": 2}));
        assert_eq!(percentiles.iter().map(|leaf| leaf.0.as_str()).collect::<Vec<_>>(), ["x", "5", "10"]);
        assert_eq!(
            found,
            [("a.b".into(), "1".into()), ("a.c".into(), "1, x".into()), ("d".into(), "y".into())]
        );
    }
}
