//! The stage: token parts in, entropy parts out.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use entromask_artifact::{Begun, Cost, Manifest, Shard, Status, Workbench, status};
use entromask_cli::CommonArgs;
use serde::Serialize;

use crate::Config;
use crate::job::{Job, Total, this_tool};
use crate::model;

/// Where a run reads and writes.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The tokens artifact.
    pub tokens: PathBuf,
    /// A model artifact, or a Hugging Face folder from outside.
    pub model: PathBuf,
    /// The entropy artifact to make.
    pub out: PathBuf,
}

/// What computes. The device is not part of the result, the type is.
#[derive(Clone, Debug)]
pub struct Compute {
    /// As `--device`: `cpu`, `wgpu[:n]`, `vulkan[:n]` or `cuda[:n]`.
    pub device: String,
    /// As `--dtype`: `f32` or `bf16`.
    pub dtype: String,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The artifact's folder.
    pub out: PathBuf,
    /// True if there was nothing to do.
    pub up_to_date: bool,
    /// `rows`, `scored_rows`, `scored`, `mean_entropy`, `mean_surprisal`, `max_entropy`, `entropy_percentiles`.
    pub stats: serde_json::Value,
}

impl From<&CommonArgs> for Compute {
    fn from(common: &CommonArgs) -> Self {
        Self { device: common.device.clone(), dtype: common.dtype.clone() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.out.display();
        if self.up_to_date {
            return write!(f, "{out}: up to date");
        }
        if self.stats["scored"] == 0 {
            return write!(f, "{out}: no token to score");
        }
        let number = |key: &str| self.stats[key].as_f64().unwrap_or(f64::NAN);
        let [entropy, surprisal] = ["mean_entropy", "mean_surprisal"].map(number);
        write!(f, "{out}: {} tokens scored, ", number("scored"))?;
        write!(f, "mean entropy {entropy:.3}, mean surprisal {surprisal:.3} nats")
    }
}

/// What a shard did.
#[derive(Clone, Debug, Serialize)]
pub struct ShardReport {
    /// The artifact's folder.
    pub out: PathBuf,
    /// As `i/n`.
    pub shard: String,
    /// Parts that belong to the shard.
    pub parts: usize,
    /// Parts that were scored now; the others were there.
    pub scored: usize,
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, parts, scored, .. } = self;
        write!(f, "{}: shard {shard} is complete, {scored} of {parts} parts scored now", self.out.display())?;
        if *parts == 0 {
            write!(
                f,
                "; shards divide parts, of which the corpus has fewer (shard_rows of the corpus config)"
            )?;
        }
        Ok(())
    }
}

/// Makes the entropy artifact, or finds that it is up to date.
pub fn run(config: &Config, paths: &Paths, compute: &Compute) -> Result<Report> {
    let job = Job::load(config, paths, compute)?;
    if let Some(report) = up_to_date(&job, paths)? {
        return Ok(report);
    }
    let teacher = job.teacher()?;
    job.verify(None)?;
    let bench = match Workbench::begin(&paths.out, job.recipe()?, this_tool())? {
        Begun::UpToDate(manifest) => return Ok(made(*manifest, paths)),
        Begun::Work(bench) => bench,
    };
    let total = job.score(&teacher, &bench, None)?;
    publish(&job, &total, paths, *bench, &compute.device)
}

/// Makes the parts of one shard and no manifest. Other shards may be at work on the same folder at the same time.
///
/// # Errors
/// As [`run`], and if this shard or the whole artifact is being worked on.
pub fn run_shard(config: &Config, paths: &Paths, compute: &Compute, shard: Shard) -> Result<ShardReport> {
    let job = Job::load(config, paths, compute)?;
    let report = |scored| ShardReport {
        out: paths.out.clone(),
        shard: shard.to_string(),
        parts: job.parts(Some(shard)).len(),
        scored,
    };
    if up_to_date(&job, paths)?.is_some() {
        return Ok(report(0));
    }
    let teacher = job.teacher()?;
    job.verify(Some(shard))?;
    match Workbench::begin_shard(&paths.out, job.recipe()?, this_tool(), shard, &compute.device)? {
        Begun::UpToDate(_) => Ok(report(0)),
        Begun::Work(bench) => Ok(report(job.score(&teacher, &bench, Some(shard))?.made)),
    }
}

/// Writes the manifest once the shards have made all parts. No model is loaded; statistics are counted
/// from the parts, and costs are those that the shards noted.
///
/// # Errors
/// An input fault that names the parts that are missing, a fault of class failed while a shard is at work.
pub fn finalize(config: &Config, paths: &Paths, compute: &Compute) -> Result<Report> {
    let job = Job::load(config, paths, compute)?;
    if let Some(report) = up_to_date(&job, paths)? {
        return Ok(report);
    }
    job.verify(None)?;
    let reader = job.reader()?;
    let bench = match Workbench::begin(&paths.out, job.recipe()?, this_tool())? {
        Begun::UpToDate(manifest) => return Ok(made(*manifest, paths)),
        Begun::Work(bench) => bench,
    };
    let total = job.sum_up(&reader, &bench)?;
    publish(&job, &total, paths, *bench, "")
}

/// Says what [`run`] would do.
pub fn dry_run(common: &CommonArgs, config: &Config, paths: &Paths, compute: &Compute) -> Result<()> {
    config.validate()?;
    entromask_device::check(&compute.device)?;
    model::check_early(&paths.model)?;
    let inputs = [paths.tokens.as_path(), &paths.model];
    let recipe = || Job::load(config, paths, compute)?.recipe();
    let runs = entromask_cli::plan(common, &paths.out, &inputs, recipe)?;
    if runs { entromask_device::check_dtype(&compute.device, &compute.dtype) } else { Ok(()) }
}

fn up_to_date(job: &Job<'_>, paths: &Paths) -> Result<Option<Report>> {
    Ok(match status(&paths.out, &job.recipe()?)? {
        Status::UpToDate(manifest) => Some(made(*manifest, paths)),
        _ => None,
    })
}

/// What was made before, or by another process.
fn made(manifest: Manifest, paths: &Paths) -> Report {
    Report { out: paths.out.clone(), up_to_date: true, stats: manifest.stats }
}

/// `device` is what this process computed with, if it did.
fn publish(job: &Job<'_>, total: &Total, paths: &Paths, bench: Workbench, device: &str) -> Result<Report> {
    let Total { stats, work, .. } = total;
    let cost = Cost { flops: work.flops, tokens: work.tokens, device: device.to_owned(), ..Cost::default() };
    let outputs = job.outputs(&bench);
    if let Err(error) = job.check_sample(stats) {
        bench.discard(&outputs);
        return Err(error);
    }
    let manifest = bench.publish(outputs, stats.summary(), cost)?;
    if let Some(deviation) = stats.flat() {
        let out = paths.out.display();
        tracing::warn!(
            "{out}: entropies hardly differ (standard deviation {deviation:.3} nats): masks by them are as good as random"
        );
    }
    if let Some(mean) = stats.worse_than_chance() {
        let model = paths.model.display();
        tracing::warn!(
            "{model}: it predicts the corpus worse than chance, with a mean surprisal of {mean:.2} nats; is it trained, and are \
             its token ids those of the corpus?"
        );
    }
    tracing::info!("{} tokens in {:.1} s, all passes counted", work.tokens, manifest.cost.seconds);
    Ok(Report { out: paths.out.clone(), up_to_date: false, stats: manifest.stats })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    #[test]
    fn a_corpus_of_special_tokens_has_no_mean() {
        let stats = Stats::new(10, false).summary();
        let report = Report { out: "out".into(), up_to_date: false, stats };
        assert_eq!(report.to_string(), "out: no token to score");
    }
}
