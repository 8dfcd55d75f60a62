//! The begin of the work: the lock, and what may have been made while others had it.

use std::path::Path;

use super::Workbench;
use crate::Shard;
use crate::manifest::{Manifest, Tool};
use crate::recipe::Recipe;
use crate::status::{Status, status};

/// What a stage finds once nobody else works on its artifact.
#[derive(Debug)]
pub enum Begun {
    /// Another process has made it since the stage asked for its status.
    UpToDate(Box<Manifest>),
    /// There is work to do.
    Work(Box<Workbench>),
}

impl Workbench {
    /// [`Workbench::open`], unless the artifact is up to date by then: made again, it would lose what it has cost.
    pub fn begin(out: &Path, recipe: Recipe, tool: Tool) -> anyhow::Result<Begun> {
        Self::open(out, recipe, tool)?.unless_made()
    }

    /// [`Workbench::open_shard`], unless the artifact is up to date by then.
    pub fn begin_shard(
        out: &Path,
        recipe: Recipe,
        tool: Tool,
        shard: Shard,
        device: &str,
    ) -> anyhow::Result<Begun> {
        Self::open_shard(out, recipe, tool, shard, device)?.unless_made()
    }

    fn unless_made(self) -> anyhow::Result<Begun> {
        let Status::UpToDate(manifest) = status(&self.out, &self.recipe)? else {
            return Ok(Begun::Work(Box::new(self)));
        };
        self.clock.forget();
        Ok(Begun::UpToDate(manifest))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Cost, Kind, tool};

    fn names(folder: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
        Ok(std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?)
    }

    #[test]
    fn whoever_comes_late_finds_what_was_made_meanwhile() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let recipe = |rate| Recipe { kind: Kind::Masks, config: json!({"rate": rate}), inputs: vec![] };
        let begin = |rate| Workbench::begin(folder.path(), recipe(rate), tool("test", "0", &[]));
        let Begun::Work(bench) = begin(1)? else { panic!("there is nothing yet") };
        let made = bench.publish(vec![], Value::Null, Cost::default())?;
        let before = names(folder.path())?;
        assert!(matches!(begin(1)?, Begun::UpToDate(found) if *found == made));
        assert_eq!(names(folder.path())?, before, "not even a note of the time");
        let shard = |rate| {
            Workbench::begin_shard(folder.path(), recipe(rate), tool("test", "0", &[]), "1/2".parse()?, "cpu")
        };
        assert!(matches!(shard(1)?, Begun::UpToDate(_)) && matches!(shard(2)?, Begun::Work(_)));
        assert!(!folder.path().join(format!(".shard-{}-1-of-2.json", made.short_key())).exists());
        assert!(matches!(begin(2)?, Begun::Work(_)), "another recipe");
        Ok(())
    }
}
