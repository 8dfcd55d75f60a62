//! The end of the work: what the parts are and what they took, in the manifest that makes them an artifact.

use std::collections::BTreeSet;

use entromask_fault::Fault;
use fs_err as fs;
use serde_json::Value;

use super::Workbench;
use crate::digest;
use crate::disk::sync;
use crate::manifest::{self, Cost, MANIFEST, Manifest, Output};
use crate::memory::peak_memory;
use crate::seal;
use crate::shard;
use crate::spec::OutputSpec;

impl Workbench {
    /// Hashes the outputs and writes the manifest. What the work on this recipe took, shards included, is added to
    /// `cost.seconds`, which is what was spent before on parts that are kept.
    pub fn publish(self, outputs: Vec<OutputSpec>, stats: Value, cost: Cost) -> anyhow::Result<Manifest> {
        self.publish_then(outputs, stats, cost, || Ok(()))
    }

    /// [`Workbench::publish`], then `clear` what nothing is lost with any more, before others are let in: they would take it for
    /// the state of work to go on with.
    pub fn publish_then(
        self,
        outputs: Vec<OutputSpec>,
        stats: Value,
        cost: Cost,
        clear: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Manifest> {
        let outputs =
            outputs.into_iter().map(|spec| self.describe(spec)).collect::<anyhow::Result<Vec<_>>>()?;
        let cost = self.with_notes(Cost {
            seconds: cost.seconds + self.seconds(),
            peak_memory_bytes: cost.peak_memory_bytes.max(peak_memory()),
            ..cost
        });
        let manifest = Manifest {
            kind: self.recipe.kind,
            format: self.recipe.kind.format(),
            key: self.key.clone(),
            config: self.recipe.config.clone(),
            inputs: self.recipe.inputs.clone(),
            content: manifest::content(&outputs),
            outputs,
            stats,
            cost,
            tool: self.tool.clone(),
        };
        self.write_manifest(&manifest)?;
        self.clock.forget();
        clear()?;
        Ok(manifest)
    }

    /// The sum of the seconds, the highest memory, and every device that is named.
    fn with_notes(&self, mut cost: Cost) -> Cost {
        let notes = shard::notes(&self.out, self.short_key());
        let devices = notes.iter().map(|note| note.device.as_str()).chain([cost.device.as_str()]);
        let devices: BTreeSet<&str> = devices.filter(|device| !device.is_empty()).collect();
        cost.device = Vec::from_iter(devices).join(", ");
        for note in notes {
            cost.seconds += note.seconds;
            cost.peak_memory_bytes = cost.peak_memory_bytes.max(note.peak_memory_bytes);
        }
        cost
    }

    fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let beside = self.out.join(".tmp-manifest.json");
        fs::write(&beside, manifest.to_bytes()?)?;
        sync(&beside)?;
        fs::rename(&beside, self.out.join(MANIFEST))?;
        sync(&self.out)?;
        shard::tidy(&self.out, self.short_key());
        Ok(())
    }

    fn describe(&self, spec: OutputSpec) -> anyhow::Result<Output> {
        let path = self.out.join(&spec.file);
        let (bytes, blake3) = (fs::metadata(&path)?.len(), digest::of_file(&path)?);
        let noted = seal::noted(&self.out, self.short_key(), &spec.file);
        if noted.is_some_and(|seal| seal.blake3 != blake3) {
            return Err(Fault::input(format!("{}: it is not what was written", path.display()))
                .remedy("run the same command again: it is made anew")
                .into());
        }
        Ok(Output { bytes, blake3, file: spec.file, rows: spec.rows, log: spec.log })
    }
}
