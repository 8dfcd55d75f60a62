//! One job divided among processes: shard i of n makes every n-th part, and the last step publishes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use entromask_fault::Fault;
use fs_err as fs;

use crate::clock::Note;
use crate::lock;

/// Shard `number` of `count`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    count: usize,
}

impl Shard {
    /// Whether this shard makes the part `index`, counted from 0.
    pub fn has(self, index: usize) -> bool {
        index % self.count == self.number - 1
    }

    /// As part of a file's name.
    pub(crate) fn label(self) -> String {
        format!("{}-of-{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = Fault;

    /// Reads `i/n` with 1 ≤ i ≤ n.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let pair = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match pair {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => {
                Err(Fault::usage(format!("shard `{text}`")).remedy("write i/n with i from 1 to n, e.g. 2/8"))
            }
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

/// Where a shard notes what it took so far; it lies beside the parts until the manifest is written.
pub(crate) fn note_name(short_key: &str, shard: Shard) -> String {
    format!("{}{}.json", prefix(short_key), shard.label())
}

/// The notes that the shards of a recipe left in `out`.
pub(crate) fn notes(out: &Path, short_key: &str) -> Vec<Note> {
    files(out, &prefix(short_key)).iter().filter_map(|path| Note::read(path)).collect()
}

/// Removes them, and the shards' locks, of which none is held. The digests of parts stay: whoever deletes the manifest
/// has the parts taken over, if they are still what was written.
pub(crate) fn tidy(out: &Path, short_key: &str) {
    let starts = [prefix(short_key), lock::SHARD.to_owned()];
    for path in starts.iter().flat_map(|start| files(out, start)) {
        let _ = fs::remove_file(path);
    }
}

fn files(out: &Path, start: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect()
}

/// How the names of the shards' notes begin.
pub(crate) fn prefix(short_key: &str) -> String {
    format!(".shard-{short_key}-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Cost, Kind, OutputSpec, Recipe, Workbench, tool};

    #[test]
    fn shards_divide_the_parts() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|text| text.parse().expect("a shard")).into();
        for index in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(index)).count(), 1, "part {index}");
        }
        assert_eq!((shards[1].to_string(), shards[1].label()), ("2/3".into(), "2-of-3".into()));
        assert!(shards[0].has(0) && shards[0].has(3));
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2"] {
            let fault = text.parse::<Shard>().expect_err("refused");
            assert_eq!(fault.class().exit_code(), 2, "{text}");
        }
    }

    fn recipe() -> Recipe {
        Recipe { kind: Kind::Masks, config: json!({}), inputs: vec![] }
    }

    fn open(out: &Path) -> anyhow::Result<Workbench> {
        Workbench::open(out, recipe(), tool("test", "0", &[]))
    }

    fn open_shard(out: &Path, shard: &str) -> anyhow::Result<Workbench> {
        Workbench::open_shard(out, recipe(), tool("test", "0", &[]), shard.parse()?, "cuda:1")
    }

    #[test]
    fn shards_work_side_by_side_but_not_beside_a_whole_run() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (first, second) = (open_shard(folder.path(), "1/2")?, open_shard(folder.path(), "2/2")?);
        assert!(open_shard(folder.path(), "1/2").is_err(), "the same shard twice");
        assert!(open(folder.path()).is_err(), "a whole run beside shards");
        drop((first, second));
        let whole = open(folder.path())?;
        assert!(open_shard(folder.path(), "1/2").is_err(), "a shard beside a whole run");
        drop(whole);
        open_shard(folder.path(), "1/2").map(drop)
    }

    #[test]
    fn what_is_lent_to_shards_is_nobody_elses() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let lent = open(folder.path())?.lend()?;
        let shard = open_shard(folder.path(), "1/2")?;
        assert!(open(folder.path()).is_err(), "a whole run beside a shard");
        drop(shard);
        assert!(open(folder.path()).is_err(), "a whole run while shards may come");
        drop(lent);
        open(folder.path()).map(drop)
    }

    #[test]
    fn a_shard_leaves_the_temporary_files_of_others_alone() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join(".tmp-1-of-2-part"), b"")?;
        fs::write(folder.path().join(".tmp-2-of-2-part"), b"")?;
        open_shard(folder.path(), "1/2")?;
        assert!(!folder.path().join(".tmp-1-of-2-part").exists());
        assert!(folder.path().join(".tmp-2-of-2-part").exists());
        open(folder.path())?;
        assert!(!folder.path().join(".tmp-2-of-2-part").exists());
        Ok(())
    }

    #[test]
    fn the_manifest_counts_what_shards_took() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        for (index, shard) in [(0, "1/2"), (1, "2/2")] {
            let bench = open_shard(folder.path(), shard)?;
            bench.write_bytes(&bench.part_name("part", index), b"x")?;
            drop(bench);
            let note = Note { seconds: 50.0, peak_memory_bytes: 1 << 50, device: "cuda:1".into() };
            let name = note_name(&recipe().key()[..8], shard.parse()?);
            note.write(&folder.path().join(name));
        }
        let bench = open(folder.path())?;
        let outputs = [0, 1].map(|index| OutputSpec::part(bench.part_name("part", index), 1)).to_vec();
        let cost = bench.publish(outputs, Value::Null, Cost::default())?.cost;
        assert!(cost.seconds > 100.0 && cost.seconds < 110.0, "{}", cost.seconds);
        assert_eq!((cost.device.as_str(), cost.peak_memory_bytes), ("cuda:1", 1 << 50));
        let hidden = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.file_name());
        let hidden = hidden.filter(|name| name.to_string_lossy().starts_with('.'));
        let mut hidden: Vec<_> = hidden.map(|name| name.to_string_lossy()[..5].to_owned()).collect();
        hidden.sort();
        assert_eq!(hidden, [".dige", ".dige", ".lock"], "digests stay");
        Ok(())
    }
}
