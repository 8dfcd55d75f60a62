//! Artifacts: folders of immutable parts with one `manifest.json`, written last, by rename.
//!
//! A stage describes what it would make as a [`Recipe`]: kind, format version, resolved semantic configuration and the
//! content digests of its inputs. The digest of the recipe is the artifact's *key*. Equal key means "up to date"
//! ([`status`]); otherwise the stage begins at a [`Workbench`], writes parts whose names carry the key, and publishes the
//! [`Manifest`]. A killed stage leaves complete parts of its key behind, which the next run takes over if they still have the
//! digests that were noted beside them.
//!
//! Several processes divide one job as [`Shard`]s: each makes its own parts, and a last exclusive step publishes.
//!
//! Invariants:
//! 1. Nothing is ever changed in place: every file is written beside and renamed, after `fsync`.
//! 2. The manifest is written last, and removed before any file whose name does not carry the key is replaced.
//! 3. No stage writes into a folder that it reads, into an artifact of another kind, or where somebody else's files are.
//! 4. Device, batch size, host, time and revision are recorded but are not part of the key.
//!
//! ```
//! use entromask_artifact::{Begun, Cost, Kind, OutputSpec, Recipe, Status, Workbench, status, tool};
//! # fn main() -> anyhow::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let recipe = Recipe { kind: Kind::Masks, config: serde_json::json!({"rate": 0.15}), inputs: vec![] };
//! let begun = Workbench::begin(folder.path(), recipe.clone(), tool("example", "0.1.0", &["cpu"]))?;
//! let Begun::Work(bench) = begun else { return Ok(()) };
//! let part = bench.part_name("part", 0);
//! bench.write(&part, |path| Ok(std::fs::write(path, b"bytes")?))?;
//! bench.publish(vec![OutputSpec::part(part, 1)], serde_json::Value::Null, Cost::default())?;
//! assert!(matches!(status(folder.path(), &recipe)?, Status::UpToDate(_)));
//! # Ok(()) }
//! ```

mod claim;
mod clock;
mod digest;
mod disk;
mod garbage;
mod lock;
mod manifest;
mod memory;
mod names;
mod recipe;
mod remains;
mod seal;
mod shard;
mod spec;
mod stamp;
mod status;
mod workbench;

pub use claim::is_artifact;
pub use digest::ask_while_hashing;
pub use garbage::{Unlisted, unfinished, unlisted};
pub use lock::is_held;
pub use manifest::{Cost, Kind, MANIFEST, Manifest, Output, Tool, tool};
pub use memory::peak_memory;
pub use names::epoch_prefix;
pub use recipe::{Input, Recipe};
pub use remains::Remains;
pub use shard::Shard;
pub use spec::OutputSpec;
pub use stamp::Untouched;
pub use status::{Status, status};
pub use workbench::{Begun, Lent, Workbench};
