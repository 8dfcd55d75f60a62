//! Names that only stages give to files in an artifact's folder: by them what a stage left is told from what a user put there.

use std::ffi::OsStr;
use std::path::Path;

use fs_err as fs;

use crate::lock::{LOCK, SHARD};

/// Where the checkpoints of runs lie, in one folder for each key.
pub(crate) const STATE: &str = "state";

/// What is written beside its place, to be renamed.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// What there is of a part that is not finished; the part's name follows.
const DRAFT: &str = ".draft-";

/// How the hidden names that go on with a key begin, and which of them are notes of a run that has not come to its end.
const HIDDEN: [&str; 3] = [".digest-", NOTES[0], NOTES[1]];
const NOTES: [&str; 2] = [".elapsed-", ".shard-"];

/// Digits of the keys in names, and of the numbers of parts.
const KEY_DIGITS: usize = 8;
const PART_DIGITS: usize = 5;

/// Files of the classifiers that fine-tuning keeps.
const OF_A_CLASSIFIER: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// How the names of the parts of an epoch begin, in masks and what belongs to them.
pub fn epoch_prefix(epoch: u64) -> String {
    format!("epoch-{epoch:03}")
}

/// Where what there is of the part called `part` lies until it is finished.
pub(crate) fn draft(part: &str) -> String {
    format!("{DRAFT}{part}")
}

/// Whether a stage gave `file`, a path below the artifact's folder, its name. Names that users give, too, as `README.md`,
/// are not among them.
pub(crate) fn is_of_a_stage(file: &Path) -> bool {
    let names: Option<Vec<&str>> = file.iter().map(OsStr::to_str).collect();
    match names.as_deref() {
        Some([name]) => is_hidden(name) || is_part(name) || is_fine_tuning(name.strip_suffix(".json")),
        Some([STATE, run]) => is_key(run),
        Some([STATE, run, name, ..]) => is_key(run) && is_of_a_run(name),
        Some([folder, name]) => is_fine_tuning(Some(folder)) && is_of_a_classifier(name),
        _ => false,
    }
}

/// Whether a stage left something in `out`. Temporary files do not say so: other programs have some, too.
pub(crate) fn has_begun(out: &Path) -> bool {
    let ours = |folder: &str| {
        let files = entries(&out.join(folder)).into_iter().map(|name| Path::new(folder).join(name));
        files.filter(|file| !file.to_string_lossy().starts_with(TEMPORARY)).any(|file| is_of_a_stage(&file))
    };
    ours("") || ours(STATE)
}

/// The names in a folder; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The short key of the run whose note has this name.
pub(crate) fn key_of_note(name: &str) -> Option<&str> {
    let rest = NOTES.iter().find_map(|start| name.strip_prefix(start))?;
    rest.get(..KEY_DIGITS).filter(|key| is_key(key))
}

/// Whether fine-tuning gave `file`, a path below the artifact's folder, its name.
pub(crate) fn is_of_fine_tuning(file: &Path) -> bool {
    let first = file.iter().next().and_then(OsStr::to_str);
    first.is_some_and(|name| is_fine_tuning(Some(name.strip_suffix(".json").unwrap_or(name))))
}

fn is_hidden(name: &str) -> bool {
    let of_a_key = |start: &&str| name.strip_prefix(*start).is_some_and(starts_with_key);
    name.starts_with(TEMPORARY)
        || name == LOCK
        || name.strip_prefix(DRAFT).is_some_and(is_part)
        || name.strip_prefix(SHARD).is_some_and(is_shard)
        || HIDDEN.iter().any(of_a_key)
}

/// `part-<key>-<number>.parquet`, and so for `valid` and `epoch-<number>`.
pub(crate) fn is_part(name: &str) -> bool {
    let pieces: Option<Vec<&str>> = name.strip_suffix(".parquet").map(|stem| stem.split('-').collect());
    match pieces.as_deref() {
        Some(["part" | "valid", key, index]) => is_key(key) && is_number(index, PART_DIGITS),
        Some(["epoch", epoch, key, index]) => {
            is_number(epoch, 1) && is_key(key) && is_number(index, PART_DIGITS)
        }
        _ => false,
    }
}

/// `<task>-seed<number>-<key>`.
fn is_fine_tuning(name: Option<&str>) -> bool {
    let Some((rest, key)) = name.and_then(|name| name.rsplit_once('-')) else { return false };
    let seed = rest.rsplit_once("-seed").map(|(_, seed)| seed);
    is_key(key) && seed.is_some_and(|seed| is_number(seed, 1))
}

/// Checkpoints and logs of training, and what a finished model keeps to be trained on.
fn is_of_a_run(name: &str) -> bool {
    let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".tmp"));
    ["step-", "damaged-step-", TEMPORARY].iter().any(|start| name.starts_with(start))
        || ["best", "final"].contains(&name)
        || stem.is_some_and(|stem| ["metrics", "speed", "masks"].contains(&stem))
}

fn is_of_a_classifier(name: &str) -> bool {
    OF_A_CLASSIFIER.contains(&name) || name.starts_with(TEMPORARY)
}

/// `<number>-of-<number>`.
fn is_shard(label: &str) -> bool {
    label.split_once("-of-").is_some_and(|(number, count)| is_number(number, 1) && is_number(count, 1))
}

fn starts_with_key(text: &str) -> bool {
    let (key, rest) = text.split_at_checked(KEY_DIGITS).unwrap_or_default();
    is_key(key) && (rest.is_empty() || rest.starts_with('-'))
}

fn is_key(text: &str) -> bool {
    text.len() == KEY_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() >= digits && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stages_leave_is_told_from_what_users_put_there() {
        let ours = [
            ".lock",
            ".lock-1-of-2",
            ".tmp-1-of-2-part-1a2b3c4d-00000.parquet",
            ".digest-1a2b3c4d-part-1a2b3c4d-00000.parquet.json",
            ".draft-part-1a2b3c4d-00000.parquet",
            ".elapsed-1a2b3c4d",
            ".shard-1a2b3c4d-1-of-2.json",
            "part-1a2b3c4d-00000.parquet",
            "valid-1a2b3c4d-123456.parquet",
            "epoch-012-1a2b3c4d-00003.parquet",
            "state/1a2b3c4d/step-00000010/model.safetensors",
            "state/1a2b3c4d/metrics.jsonl",
            "state/1a2b3c4d/final/counters.json",
            "STS-B-seed1-1a2b3c4d.json",
            "STS-B-seed1-1a2b3c4d/model.safetensors",
        ];
        assert!(ours.iter().all(|name| is_of_a_stage(Path::new(name))));
        let theirs = [
            "c.parquet",
            "part-00000.parquet",
            "part-00000-1a2b3c4d.parquet",
            "data-20240101-00000.parquet",
            "part-1A2B3C4D-00000.parquet",
            "README.md",
            "my text/a b.txt",
            "below/part-1a2b3c4d-00000.parquet",
            "state/notes.txt",
            "state/20240101/notes.txt",
            "state/1a2b3c4d.txt",
            "notes-1a2b3c4d.json",
            "STS-B-seed1-1a2b3c4d/notes.txt",
            ".lock-waf_linux_build",
            ".draft-letter.txt",
            ".digests.json",
            "model.safetensors",
        ];
        for name in theirs {
            assert!(!is_of_a_stage(Path::new(name)), "{name}");
        }
    }
}
