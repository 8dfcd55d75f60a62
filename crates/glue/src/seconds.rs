//! How long each run took. Runs outlive the artifact that they were made for, and the next one counts them, too.

use std::collections::BTreeMap;
use std::path::Path;

use entromask_artifact::Workbench;
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The seconds of each run of an artifact; a log.
pub(crate) const SECONDS: &str = "seconds.json";

/// What is noted of a run when it is done, by whichever process.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    seconds: f64,
    /// Of the artifact whose clock has counted them.
    key: String,
}

/// Notes what the run `name` took.
pub(crate) fn note(bench: &Workbench, name: &str, seconds: f64) -> anyhow::Result<()> {
    let note = Note { seconds, key: bench.key().to_owned() };
    bench.write_bytes(&file(name), &serde_json::to_vec(&note)?)
}

/// Writes the seconds of all runs that are known, and returns those that the artifact's own clock has not counted.
pub(crate) fn gather(bench: &Workbench, names: &[String]) -> anyhow::Result<f64> {
    let earlier: BTreeMap<String, f64> = read(&bench.out().join(SECONDS)).unwrap_or_default();
    let notes = names.iter().filter_map(|name| Some((name, read::<Note>(&bench.out().join(file(name)))?)));
    let notes: BTreeMap<_, _> = notes.collect();
    let seconds = |name: &String| {
        let now = notes.get(name).map(|note| note.seconds);
        Some((name.clone(), now.or_else(|| earlier.get(name).copied())?))
    };
    let all: BTreeMap<String, f64> = names.iter().filter_map(seconds).collect();
    let is_counted = |name: &String| notes.get(name).is_some_and(|note| note.key == bench.key());
    let uncounted = all.iter().filter(|(name, _)| !is_counted(name)).map(|(_, seconds)| seconds).sum();
    bench.write_bytes(SECONDS, (serde_json::to_string_pretty(&all)? + "\n").as_bytes())?;
    Ok(uncounted)
}

/// Removes what was noted, once a manifest lists the file with all of it. What stays by accident does no harm.
pub(crate) fn tidy(out: &Path, names: &[String]) {
    for name in names {
        let _ = fs::remove_file(out.join(file(name)));
    }
}

/// A hidden file, with the digits of the run's own key first, as those of all clocks.
fn file(name: &str) -> String {
    let key = name.rsplit('-').next().unwrap_or(name);
    format!(".elapsed-{key}-{name}")
}

/// None where there is nothing, or nothing that can be read: then the time is not known.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
