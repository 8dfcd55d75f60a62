//! JSON values as a list of paths.

use serde_json::Value;

/// Differences that are named; more are counted.
const NAMED: usize = 3;

/// The values in `value` that are neither objects nor null, each with its path: `a.b.c`.
pub fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", value, &mut found);
    found
}

/// What of `value` is not as in `base`, by path: `lr 0.00003 instead of 0.00001`, three of them at most and how many more there
/// are. `None` if all is.
pub fn differences(base: &Value, value: &Value) -> Option<String> {
    let (base, own) = (leaves(base), leaves(value));
    let value = |of: &[(String, String)], key: &String| {
        of.iter().find(|(found, _)| found == key).map_or("the default", |(_, value)| value).to_string()
    };
    let mut keys: Vec<_> = base.iter().chain(&own).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| value(&base, key) != value(&own, key));
    let differing: Vec<_> =
        differing.map(|key| format!("{key} {} instead of {}", value(&own, key), value(&base, key))).collect();
    let more = differing.len().saturating_sub(NAMED);
    let shown = differing[..differing.len() - more].join(", ");
    match (differing.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown} and {more} more")),
    }
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
    fn differences_are_named_and_counted() {
        let base = json!({"a": 1, "b": {"c": "x"}, "d": null});
        assert_eq!(differences(&base, &base), None);
        let other = json!({"a": 2, "b": {"c": "x"}, "d": 0.5});
        assert_eq!(
            differences(&base, &other).as_deref(),
            Some("a 2 instead of 1, d 0.5 instead of the default")
        );
        let all = json!({"a": 2, "e": 1, "f": 1, "g": 1});
        assert!(differences(&base, &all).is_some_and(|text| text.ends_with(" and 2 more")));
    }

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
