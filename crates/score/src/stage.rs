//! The stage: token parts in, entropy parts out.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use entromask_artifact::{
    Cost, Input, Kind, Manifest, Output, OutputSpec, Recipe, Status, Workbench, status, tool,
};
use entromask_cli::{CommonArgs, Progress, check_interrupt};
use entromask_encoder::EncoderConfig;
use entromask_tables::{Entropies, TokenColumns, Tokens};
use serde::Serialize;

use crate::Config;
use crate::model;
use crate::scorer::{Scorer, Work};
use crate::stats::Stats;

/// Version of the entropy artifact and of what the configuration means.
pub const FORMAT: u32 = 1;

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
        let number = |key: &str| self.stats[key].as_f64().unwrap_or(f64::NAN);
        let [entropy, surprisal] = ["mean_entropy", "mean_surprisal"].map(number);
        write!(f, "{out}: {} tokens scored, ", number("scored"))?;
        write!(f, "mean entropy {entropy:.3}, mean surprisal {surprisal:.3} nats")
    }
}

/// Makes the entropy artifact, or finds that it is up to date.
pub fn run(config: &Config, paths: &Paths, compute: &Compute) -> Result<Report> {
    let sources = Sources::load(config, paths)?;
    let recipe = sources.recipe(config, compute)?;
    if let Status::UpToDate(manifest) = status(&paths.out, &recipe)? {
        return Ok(Report { out: paths.out.clone(), up_to_date: true, stats: manifest.stats });
    }
    let device = entromask_device::open(&compute.device, &compute.dtype)?;
    let (model, shape) = model::load(&paths.model, &device, &sources.tokens, &paths.tokens)?;
    let mask_id = model::mask_id(&sources.tokens, &paths.tokens)?;
    sources.parts().try_for_each(|part| part.verify(&paths.tokens))?;
    let bench = Workbench::open(&paths.out, recipe, this_tool())?;
    let scorer = Scorer::new(config, (&model, &shape), &device, mask_id);
    let (stats, work) = sources.score_all(&scorer, &shape, paths, &bench)?;
    let cost =
        Cost { flops: work.flops, tokens: work.tokens, device: compute.device.clone(), ..Cost::default() };
    let outputs = sources.outputs(&bench);
    let manifest = bench.publish(outputs, stats.summary(), cost)?;
    tracing::info!("{} tokens in {:.1} s, all passes counted", work.tokens, manifest.cost.seconds);
    Ok(Report { out: paths.out.clone(), up_to_date: false, stats: manifest.stats })
}

/// Says what [`run`] would do.
pub fn dry_run(common: &CommonArgs, config: &Config, paths: &Paths, compute: &Compute) -> Result<()> {
    entromask_cli::plan(common, &paths.out, &[&paths.tokens, &paths.model], || {
        Sources::load(config, paths)?.recipe(config, compute)
    })
}

/// What entropies are made from.
struct Sources {
    tokens: Manifest,
    inputs: Vec<Input>,
}

impl Sources {
    fn load(config: &Config, paths: &Paths) -> Result<Self> {
        config.validate()?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let inputs = vec![Input::artifact("tokens", &tokens, &paths.tokens), model::input(&paths.model)?];
        Ok(Self { tokens, inputs })
    }

    fn recipe(&self, config: &Config, compute: &Compute) -> Result<Recipe> {
        let config = config.semantic(&compute.dtype)?;
        Ok(Recipe { kind: Kind::Entropy, format: FORMAT, config, inputs: self.inputs.clone() })
    }

    fn parts(&self) -> impl Iterator<Item = &Output> {
        self.tokens.parts("part")
    }

    fn score_all(
        &self,
        scorer: &Scorer<'_>,
        shape: &EncoderConfig,
        paths: &Paths,
        bench: &Workbench,
    ) -> Result<(Stats, Work)> {
        let (mut stats, mut work) = (Stats::new(shape.vocab_size), Work::default());
        for (index, output) in self.parts().enumerate() {
            let path = paths.tokens.join(&output.file);
            let part = Tokens::read(&path, TokenColumns { word: true, ..TokenColumns::default() })?;
            model::check_rows(shape, part.input_ids.iter(), &path)?;
            let added = scorer.work(&part);
            let label = format!("score {}/{}", index + 1, self.parts().count());
            stats.add(&score_part(scorer, &part, &Progress::new(label, added.tokens), index, bench)?);
            work = Work { tokens: work.tokens + added.tokens, flops: work.flops + added.flops };
        }
        Ok((stats, work))
    }

    fn outputs(&self, bench: &Workbench) -> Vec<OutputSpec> {
        let rows = self.parts().map(|part| part.rows.unwrap_or(0));
        rows.enumerate().map(|(index, rows)| OutputSpec::part(bench.part_name("part", index), rows)).collect()
    }
}

/// The scores of one part, from the file where an interrupted run has finished it.
fn score_part(
    scorer: &Scorer<'_>,
    part: &Tokens,
    progress: &Progress,
    index: usize,
    bench: &Workbench,
) -> Result<Entropies> {
    let file = bench.part_name("part", index);
    if let Some(entropies) = bench.finished(&file).and_then(|path| Entropies::read(&path).ok()) {
        return Ok(entropies);
    }
    let entropies = scorer.score(part, |tokens| {
        progress.inc(tokens);
        check_interrupt()
    })?;
    bench.write(&file, |path| entropies.write(path, &bench.footer()))?;
    progress.finish();
    Ok(entropies)
}

fn this_tool() -> entromask_artifact::Tool {
    tool("entromask-score", env!("CARGO_PKG_VERSION"), &entromask_device::compiled())
}
