//! Configuration: defaults, then the file, then `--set`.

use std::path::Path;

use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{CommonArgs, misfit};

/// The stage's configuration from `--config` and `--set`.
///
/// Defaults and the refusal of unknown keys are the type's own (`#[serde(default, deny_unknown_fields)]`).
///
/// # Errors
/// A [`Fault`] of class usage that names the file and the key.
pub fn load<T: DeserializeOwned>(common: &CommonArgs) -> anyhow::Result<T> {
    let written = common.config.as_deref().map(read_table).transpose()?.unwrap_or_default();
    let mut table = written.clone();
    for assignment in &common.set {
        assign(&mut table, assignment)?;
    }
    let file = common.config.as_deref().map(|path| path.display().to_string());
    let source = match file {
        Some(file) if common.set.is_empty() || convert::<T>(written, &file).is_err() => file,
        Some(file) => format!("--set on top of {file}"),
        None => "--set".into(),
    };
    convert(table, &source)
}

/// The configuration in one file.
pub fn load_file<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    convert(read_table(path)?, &path.display().to_string())
}

fn read_table(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).map_err(|error| {
        Fault::usage(unreadable(path, &error))
            .remedy("check the path; `ls pipelines/*` lists the configs there are")
    })?;
    Ok(text.parse().map_err(|error: toml::de::Error| Fault::usage(format!("{}: {error}", path.display())))?)
}

fn convert<T: DeserializeOwned>(table: Table, source: &str) -> anyhow::Result<T> {
    Ok(table.try_into().map_err(|error| misfit(source, &error))?)
}

/// Applies `a.b=value`. The value is TOML; what is not valid TOML is taken as a string.
fn assign(table: &mut Table, assignment: &str) -> anyhow::Result<()> {
    let malformed =
        || Fault::usage(format!("--set {assignment}: not an assignment")).remedy("write --set key=value");
    let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or_else(malformed)?;
    let mut place = table;
    for key in keys {
        let below = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
        place = below.as_table_mut().ok_or_else(|| {
            Fault::usage(format!("--set {assignment}: `{key}` is a value")).remedy("check the key's path")
        })?;
    }
    let value = parse_value(value.trim())
        .map_err(|(problem, remedy)| Fault::usage(format!("--set {assignment}: {problem}")).remedy(remedy))?;
    place.insert(last.to_string(), value);
    Ok(())
}

/// Taken as a string, as what is no TOML is, it would be called one.
fn is_too_large(text: &str) -> bool {
    text.parse::<i128>().is_ok_and(|number| i64::try_from(number).is_err())
}

/// Or what is wrong with it, and what to do.
fn parse_value(text: &str) -> Result<Value, (&'static str, String)> {
    if is_too_large(text) {
        return Err(("a whole number that TOML does not hold", format!("write {} at most", i64::MAX)));
    }
    let Ok(mut table) = format!("value = {text}").parse::<Table>() else {
        return if text.starts_with(['[', '{']) {
            Err(("a list or a table that is no TOML", "write text in it in quotes".into()))
        } else {
            Ok(Value::String(text.to_string()))
        };
    };
    let value = table.remove("value").filter(|_| table.is_empty());
    value.ok_or_else(|| ("several assignments", "write --set before each of them".into()))
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        rate: f64,
        policy: String,
        run: Run,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Run {
        rows: usize,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { rate: 0.15, policy: "random".into(), run: Run::default() }
        }
    }

    fn with(set: &[&str]) -> anyhow::Result<Config> {
        load(&CommonArgs { set: set.iter().map(ToString::to_string).collect(), ..CommonArgs::default() })
    }

    #[test]
    fn defaults_then_assignments() -> anyhow::Result<()> {
        assert_eq!(with(&[])?, Config::default());
        let config = with(&["rate=0.3", "policy=high", "run.rows=5"])?;
        assert_eq!(config, Config { rate: 0.3, policy: "high".into(), run: Run { rows: 5 } });
        Ok(())
    }

    #[test]
    fn the_file_comes_between() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), "rate = 0.2\npolicy = \"low\"\n")?;
        let common = CommonArgs {
            config: Some(file.path().into()),
            set: vec!["rate=0.5".into()],
            ..CommonArgs::default()
        };
        assert_eq!(load::<Config>(&common)?, Config { rate: 0.5, policy: "low".into(), run: Run::default() });
        Ok(())
    }

    #[test]
    fn what_is_blamed_is_what_is_wrong() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let message = |text: &str, set: &str| -> anyhow::Result<String> {
            fs::write(file.path(), text)?;
            let common = CommonArgs {
                config: Some(file.path().into()),
                set: vec![set.into()],
                ..CommonArgs::default()
            };
            Ok(load::<Config>(&common).unwrap_err().to_string())
        };
        let name = file.path().display().to_string();
        assert!(message("rate = 0.2", "ratio=1")?.starts_with(&format!("--set on top of {name}: ")));
        assert!(message("ratio = 0.2", "rate=1")?.starts_with(&format!("{name}: ")));
        Ok(())
    }

    #[test]
    fn mistakes_are_usage_errors_that_name_them() {
        let cases = [
            ("ratio=1", "ratio"),
            ("rate=x", "rate"),
            ("rate", "rate"),
            ("rate.x=1", "rate"),
            ("=1", "=1"),
            ("run.rows=18446744073709551615", "write 9223372036854775807 at most"),
            ("rate=1\npolicy='low'", "several assignments; write --set before each"),
        ];
        for (set, named) in cases {
            let error = with(&[set]).unwrap_err();
            assert_eq!(class_of(error.as_ref()).exit_code(), 2, "{set}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
