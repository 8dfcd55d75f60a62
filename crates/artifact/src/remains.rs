//! What a run that was interrupted has left, by which the next one goes on.

use std::fmt;
use std::path::Path;

use crate::clock;
use crate::lock;
use crate::manifest::MANIFEST;
use crate::names::{self, STATE};
use crate::shard;

/// How far a run came that has not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// It has a checkpoint at this step.
    Step(u64),
    /// So many parts are finished.
    Parts(usize),
    /// It was at work; what of that is kept its stage knows.
    Begun,
}

impl Remains {
    /// What the run that would make the artifact with the key `key` in `out` would go on from, if it has begun before.
    pub fn of(out: &Path, key: &str) -> Option<Self> {
        let (key, names) = (&key[..key.len().min(8)], names::entries(out));
        let notes = [clock::note_name(key), shard::prefix(key)];
        let has_note = notes.iter().any(|note| names.iter().any(|name| name.starts_with(note)));
        // Parts of a key that was published and replaced are no sign of an interruption.
        let interrupted = has_note || !out.join(MANIFEST).exists();
        let parts = names.iter().filter(|name| names::is_part(name) && name.contains(key)).count();
        let parts = Some(parts).filter(|parts| *parts > 0 && interrupted).map(Self::Parts);
        newest_step(out, key).map(Self::Step).or(parts).or(has_note.then_some(Self::Begun))
    }

    /// What whichever run left in `out`, where there is no manifest.
    pub(crate) fn of_any(out: &Path) -> Option<Self> {
        if !out.join(lock::LOCK).exists() && !names::has_begun(out) {
            return None;
        }
        let steps = names::entries(&out.join(STATE)).into_iter().filter_map(|key| newest_step(out, &key));
        let parts = names::entries(out).into_iter().filter(|name| names::is_part(name)).count();
        let parts = if parts > 0 { Self::Parts(parts) } else { Self::Begun };
        Some(steps.max().map_or(parts, Self::Step))
    }
}

impl fmt::Display for Remains {
    /// Fits after "interrupted".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, " with a checkpoint at step {step}"),
            Self::Parts(1) => f.write_str(" after 1 part"),
            Self::Parts(parts) => write!(f, " after {parts} parts"),
            Self::Begun => Ok(()),
        }
    }
}

/// The step of the newest checkpoint.
pub(crate) fn newest_step(out: &Path, key: &str) -> Option<u64> {
    let names = names::entries(&out.join(STATE).join(key));
    names.iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{Cost, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};

    #[test]
    fn an_interrupted_run_says_how_far_it_came() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let recipe = |config: &str| Recipe { kind: Kind::Masks, config: config.into(), inputs: vec![] };
        let open = |config: &str| Workbench::open(&out, recipe(config), tool("test", "0", &[]));
        let (key, other) = (recipe("").key(), recipe("other").key());
        let refusal = || Manifest::load_any(&out).unwrap_err().to_string();
        assert!(refusal().contains("run the stage"), "{}", refusal());
        drop(open("")?);
        assert_eq!(Remains::of(&out, &key), None, "nothing is finished");
        assert!(refusal().contains("was interrupted; run that stage again"), "{}", refusal());
        let bench = open("")?;
        assert!(refusal().contains("is being made"), "{}", refusal());
        let part = bench.part_name("part", 0);
        bench.write_bytes(&part, b"rows")?;
        drop(bench);
        assert_eq!([&key, &other].map(|key| Remains::of(&out, key)), [Some(Remains::Parts(1)), None]);
        assert!(refusal().contains("was interrupted after 1 part; run"), "{}", refusal());
        std::fs::create_dir_all(out.join(STATE).join(&key[..8]).join("step-00000150"))?;
        assert_eq!(Remains::of(&out, &key), Some(Remains::Step(150)));
        assert!(refusal().contains("interrupted with a checkpoint at step 150"), "{}", refusal());
        std::fs::remove_dir_all(out.join(STATE))?;
        open("")?.publish(vec![OutputSpec::part(part, 1)], Value::Null, Cost::default())?;
        assert_eq!(Remains::of(&out, &key), None);
        Ok(())
    }
}
