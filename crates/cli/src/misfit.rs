//! A configuration that does not fit its type, in the words of TOML instead of those of Rust and serde.

use entromask_fault::Fault;

/// How alike a name that is meant must be at least to what was written (Jaro-Winkler, 1 where they are equal).
const ALIKE: f64 = 0.8;

/// How serde calls an enum that is a table with a key for its variant; ours have `name`.
const TAGGED: &str = "internally tagged enum ";

/// The fault of class usage for an `error` of what `source` configures: which key has which value, what it takes, and
/// what a misspelt name was probably meant to be.
pub fn misfit(source: &str, error: &toml::de::Error) -> Fault {
    let text = error.to_string();
    let (problem, key) = split(text.trim());
    let problem = problem.trim().replace('\n', ", ");
    // A message of ours names the key itself.
    let place = key.filter(|key| !problem.contains(&format!("`{key}`")));
    let place = place.map(|key| format!(" in `{key}`")).unwrap_or_default();
    if let Some((found, wanted)) = mistyped(&problem) {
        let key = key.unwrap_or_default();
        return Fault::usage(format!("{source}: `{key}` has {}", plain(found))).remedy(format!(
            "give {}{}",
            allowed(wanted),
            example(wanted, found, key)
        ));
    }
    if problem.starts_with("wanted exactly 1 element, more than 1") {
        let key = key.unwrap_or_default();
        return Fault::usage(format!("{source}: `{key}` has several keys, of which it takes one"))
            .remedy(format!("leave one of them; `--set '{key}={{ … }}'` replaces all of a file's"));
    }
    if let Some(name) = problem.strip_prefix("missing field ") {
        return Fault::usage(format!("{source}: no {name}{place}")).remedy("add it");
    }
    match unknown(&problem) {
        Some((what, name, names)) => Fault::usage(format!("{source}: unknown {what} `{name}`{place}"))
            .remedy(meant(what, name, &names)),
        None => Fault::usage(format!("{source}: {problem}{place}")),
    }
}

/// The keys that there are, where `error` is about one that there is not.
pub(crate) fn known_keys(error: &toml::de::Error) -> Vec<String> {
    let found = unknown(error.message()).filter(|(what, ..)| *what == "key");
    found.map(|(.., names)| names.into_iter().map(String::from).collect()).unwrap_or_default()
}

/// The message and the key that it is about. Within a policy that is the policy.
fn split(text: &str) -> (&str, Option<&str>) {
    let found = text.rsplit_once("\nin `").and_then(|(problem, key)| Some((problem, key.strip_suffix('`')?)));
    found.map_or((text, None), |(problem, key)| (problem, Some(key)))
}

/// What was found and what was wanted.
fn mistyped(problem: &str) -> Option<(&str, &str)> {
    let starts = ["invalid type: ", "invalid value: ", "invalid "];
    let rest = starts.iter().find_map(|start| problem.strip_prefix(start))?;
    rest.rsplit_once(", expected ")
}

/// What is unknown, its name, and the names that there are.
fn unknown(problem: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let kinds = [("unknown field `", "key"), ("unknown variant `", "value")];
    let (rest, what) = kinds.iter().find_map(|(start, what)| Some((problem.strip_prefix(start)?, *what)))?;
    let (name, names) = rest.split_once("`, ")?;
    Some((what, name, names.split('`').skip(1).step_by(2).collect()))
}

/// The one of `names` that is most like `name`, and all of them.
fn meant(what: &str, name: &str, names: &[&str]) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.filter(|nearest| likeness(nearest) >= ALIKE);
    let guess = nearest.map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default();
    match names {
        [] => "leave it out".into(),
        _ => format!("{guess}known {what}s: {}", names.join(", ")),
    }
}

/// A value that was found, as it was written.
fn plain(found: &str) -> &str {
    match found {
        "sequence" => "a list",
        "map" => "a table",
        "unit variant" => "a value that is no name",
        _ => found.strip_prefix("string ").unwrap_or_else(|| found.split('`').nth(1).unwrap_or(found)),
    }
}

fn allowed(wanted: &str) -> String {
    let plain = match wanted {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "string only" | "variant identifier" => "a name in quotes or, where the key takes one, a table",
        "fewer elements in array" => "fewer values",
        "path string" => "a path in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if wanted.starts_with("struct ") => "a table",
        _ if wanted.starts_with(TAGGED) => "a table with a `name`",
        _ => return wanted.replace("an array of length ", "a list of "),
    };
    plain.into()
}

/// Where text was given that only lacks what is around it.
fn example(wanted: &str, found: &str, key: &str) -> String {
    match found.strip_prefix("string ") {
        Some(text) if wanted == "a sequence" => format!(", e.g. [{text}]"),
        Some(text) if wanted.starts_with(TAGGED) => format!(", e.g. {key}.name={}", text.trim_matches('"')),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        seq_len: usize,
        epochs: u16,
        rate: f64,
        files: Vec<PathBuf>,
        betas: [f64; 2],
        save: bool,
        policy: Option<Policy>,
        decay: Decay,
        run: Run,
        by_name: BTreeMap<String, Run>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Run {
        batch_size: usize,
    }

    #[expect(dead_code, reason = "only its keys matter")]
    #[derive(Debug, Deserialize)]
    #[serde(tag = "name", rename_all = "kebab-case")]
    enum Policy {
        High,
        Low { rate: f64 },
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Decay {
        #[default]
        Linear,
        Cosine,
    }

    fn message(text: &str) -> String {
        let table: toml::Table = text.parse().expect(text);
        misfit("file", &table.try_into::<Config>().expect_err(text)).to_string()
    }

    #[test]
    fn values_are_wanted_in_plain_words() {
        let cases = [
            ("seq_len = 'abc'", "file: `seq_len` has \"abc\"; give a whole number, 0 or more"),
            ("seq_len = -1", "file: `seq_len` has -1; give a whole number, 0 or more"),
            ("epochs = 70000", "file: `epochs` has 70000; give a whole number from 0 to 65535"),
            ("rate = [1]", "file: `rate` has a list; give a number"),
            ("files = 'x.txt'", "file: `files` has \"x.txt\"; give a list, e.g. [\"x.txt\"]"),
            ("files = [3]", "file: `files` has 3; give a path in quotes"),
            ("betas = [0.9]", "file: `betas` has length 1; give a list of 2"),
            ("save = 'yes'", "file: `save` has \"yes\"; give true or false"),
            (
                "policy = 'high'",
                "file: `policy` has \"high\"; give a table with a `name`, e.g. policy.name=high",
            ),
            ("policy = { name = 'low', rate = 'x' }", "file: `policy` has \"x\"; give a number"),
            ("policy.rate = 1", "file: no `name` in `policy`; add it"),
            (
                "decay = 3",
                "file: `decay` has a value that is no name; give a name in quotes or, where the key takes one, a table",
            ),
            ("run.batch_size = true", "file: `run.batch_size` has true; give a whole number, 0 or more"),
            ("by_name.x = 3", "file: `by_name.x` has 3; give a table"),
        ];
        for (text, expected) in cases {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn a_misspelt_name_is_guessed_and_another_one_is_not() {
        let cases = [
            (
                "run.batchsize = 3",
                "file: unknown key `batchsize` in `run`; did you mean `batch_size`? known keys: batch_size",
            ),
            (
                "decay = 'cosin'",
                "file: unknown value `cosin` in `decay`; did you mean `cosine`? known values: linear, cosine",
            ),
            ("run.lr = 3", "file: unknown key `lr` in `run`; known keys: batch_size"),
        ];
        for (text, expected) in cases {
            assert_eq!(message(text), expected);
        }
        assert!(message("sqe_len = 3").contains("did you mean `seq_len`? known keys: seq_len, epochs, rate"));
    }
}
