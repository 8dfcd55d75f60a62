//! `--print-config`: the configuration that a stage would run with.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::misfit::known_keys;
use crate::{CommonArgs, emit};

/// No key of a configuration.
const NO_KEY: &str = "?";

/// Prints what was [loaded](crate::load) as TOML that `--config` takes, or as JSON with `--json`. Keys that are not
/// written while they have their defaults are named in a comment.
pub fn print_config<T: Serialize + DeserializeOwned>(common: &CommonArgs, config: &T) -> anyhow::Result<()> {
    emit(common, to_toml(config)?.trim_end(), config)
}

fn to_toml<T: Serialize + DeserializeOwned>(config: &T) -> anyhow::Result<String> {
    let table = Table::try_from(config)?;
    let further = left_out::<T>(&table, &[]);
    let note = if further.is_empty() { "" } else { "\n# Further keys, at their defaults: " };
    Ok(format!("{}{note}{}\n", toml::to_string(&table)?, further.join(", ")))
}

/// The keys that `T` takes in the table at `path` and those below it, and that are not there: a key that is unknown is
/// refused with all that are known.
fn left_out<T: DeserializeOwned>(whole: &Table, path: &[String]) -> Vec<String> {
    let mut asked = whole.clone();
    let place = path.iter().try_fold(&mut asked, |table, key| table.get_mut(key)?.as_table_mut());
    let Some(table) = place else { return Vec::new() };
    let written: Vec<String> = table.keys().cloned().collect();
    table.insert(NO_KEY.into(), true.into());
    let below = |key: &String| [path, std::slice::from_ref(key)].concat();
    let known = asked.try_into::<T>().err().map(|error| known_keys(&error)).unwrap_or_default();
    let here = known.iter().filter(|key| !written.contains(key)).map(|key| below(key).join("."));
    here.chain(written.iter().flat_map(|key| left_out::<T>(whole, &below(key)))).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        run: Run,
        rate: f64,
        folds: Option<usize>,
        policy: Policy,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Run {
        rows: usize,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        seeds: Vec<u64>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "name", rename_all = "kebab-case")]
    enum Policy {
        Sample(Sample),
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        temperature: Option<f64>,
    }

    impl Default for Policy {
        fn default() -> Self {
            Self::Sample(Sample::default())
        }
    }

    #[test]
    fn what_is_printed_is_read_again_and_names_all_keys() -> anyhow::Result<()> {
        let text = to_toml(&Config::default())?;
        let note = "# Further keys, at their defaults: folds, policy.temperature, run.seeds\n";
        assert!(text.starts_with("rate = 0.0\n") && text.ends_with(note), "{text}");
        let config =
            Config { rate: 1e-5, folds: Some(7), run: Run { rows: 3, seeds: vec![1] }, ..Config::default() };
        for config in [Config::default(), config] {
            assert_eq!(toml::from_str::<Config>(&to_toml(&config)?)?, config);
        }
        Ok(())
    }
}
