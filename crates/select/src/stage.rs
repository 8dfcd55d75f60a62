//! The stage: parts in, parts out.

use std::fmt;
use std::path::{Path, PathBuf};

use entromask_artifact::{
    Begun, Cost, Kind, MANIFEST, Manifest, OutputSpec, Status, Workbench, epoch_prefix, status, tool,
};
use entromask_cli::{CommonArgs, Progress, check_interrupt};
use entromask_fault::Fault;
use entromask_tables::{Masks, Ragged};
use rayon::prelude::*;
use serde::Serialize;

use crate::part::Part;
use crate::rarity;
use crate::report::{Overlap, PartFacts, Tally};
use crate::sources::Sources;
use entromask_policy::Config;
use entromask_policy::config::{Scope, Spread};
use entromask_policy::policies::Basis;
use entromask_policy::{Choice, Row, Selector};

/// Tokens of a word that is long for most vocabularies.
const LONG_WORD: usize = 8;

/// Where a run reads and writes.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The tokens artifact.
    pub tokens: PathBuf,
    /// The entropy artifact, for policies that need one.
    pub entropy: Option<PathBuf>,
    /// The entropy artifact of a reference model, for policies that need one.
    pub reference: Option<PathBuf>,
    /// The masks artifact to make.
    pub out: PathBuf,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The artifact's folder.
    pub out: PathBuf,
    /// True if there was nothing to do.
    pub up_to_date: bool,
    /// Counts, and under `report` what the masks are like.
    pub stats: serde_json::Value,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.out.display();
        if self.up_to_date {
            return write!(f, "{out}: up to date");
        }
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(0.0);
        let (stats, report) = (&self.stats, &self.stats["report"]);
        let (masked, maskable) = (number(&stats["masked"]), number(&stats["maskable"]));
        write!(f, "{out}: {masked} of {maskable} tokens masked ({:.2} %)", 100.0 * number(&stats["rate"]))?;
        for (key, what) in [("relaxed", "beyond cap or spread"), ("short", "of the budget not spent")] {
            if number(&report[key]) > 0.0 {
                write!(f, ", {} {what}", number(&report[key]))?;
            }
        }
        Ok(())
    }
}

/// Makes the masks artifact, or finds that it is up to date.
///
/// # Errors
/// A [`Fault`] of class usage where entropies are given that the policy does not read.
pub fn run(config: &Config, paths: &Paths) -> anyhow::Result<Report> {
    check_read(config, paths)?;
    let sources = Sources::load(config, paths)?;
    let recipe = sources.recipe(config)?;
    let report = |up_to_date, stats| Report { out: paths.out.clone(), up_to_date, stats };
    if let Status::UpToDate(manifest) = status(&paths.out, &recipe)? {
        return Ok(report(true, manifest.stats));
    }
    sources.verify()?;
    let program = tool("entromask-select", env!("CARGO_PKG_VERSION"), &[]);
    let bench = match Workbench::begin(&paths.out, recipe, program)? {
        Begun::UpToDate(manifest) => return Ok(report(true, manifest.stats)),
        Begun::Work(bench) => bench,
    };
    warn_of_long_words(config);
    let tally = Work { sources: &sources, config, bench: &bench }.select_all()?;
    let cost = Cost { tokens: tally.maskable, device: "cpu".into(), ..Cost::default() };
    let outputs = outputs(config, &sources, &bench);
    let mut stats = tally.summary(&sources.entries);
    if let Some(model) = sources.scored_by() {
        stats["scored_by"] = model.into();
    }
    let manifest = bench.publish(outputs, stats, cost)?;
    Ok(report(false, manifest.stats))
}

/// A spread has no room for words that are longer than it allows, which are the rare ones.
fn warn_of_long_words(config: &Config) {
    let limit = config.whole_word.and(config.spread.as_ref()).map(Spread::limit);
    if let Some(limit) = limit.filter(|limit| *limit < LONG_WORD) {
        tracing::warn!(
            "words of more than {limit} tokens are never masked: whole_word with this spread has no room for them"
        );
    }
}

/// Says what [`run`] would do.
pub fn dry_run(common: &CommonArgs, config: &Config, paths: &Paths) -> anyhow::Result<()> {
    config.validate()?;
    check_read(config, paths)?;
    // It mostly comes from elsewhere, and so is there however much has to be made first.
    if let Some(reference) = paths.reference.as_ref().filter(|reference| reference.join(MANIFEST).exists()) {
        Manifest::load(reference, Kind::Entropy)?;
    }
    let mut inputs = vec![paths.tokens.as_path()];
    inputs.extend(paths.entropy.as_deref());
    inputs.extend(paths.reference.as_deref());
    entromask_cli::plan(common, &paths.out, &inputs, || Sources::load(config, paths)?.recipe(config))?;
    Ok(())
}

/// Refuses entropies that would not be read: without a policy in the configuration masks are random.
fn check_read(config: &Config, paths: &Paths) -> anyhow::Result<()> {
    let basis = config.policy.basis();
    let refuse = |flag: &str, dir: &Path, lacks: &str, example: &str| {
        let policy = config.policy.name();
        Fault::usage(format!("{flag} {}: policy.name = {policy} does not read {lacks}", dir.display()))
            .remedy(format!(
                "name another policy, as with --set 'policy={{name=\"{example}\"}}', or leave {flag} out"
            ))
    };
    match (&paths.entropy, &paths.reference) {
        (Some(entropy), _) if !matches!(basis, Basis::Measure | Basis::Excess) => {
            Err(refuse("--entropy", entropy, "entropies", "high").into())
        }
        (_, Some(reference)) if basis != Basis::Excess => {
            Err(refuse("--reference", reference, "entropies of a reference", "reducible").into())
        }
        _ => Ok(()),
    }
}

/// The files that the manifest lists.
fn outputs(config: &Config, sources: &Sources, bench: &Workbench) -> Vec<OutputSpec> {
    let rows: Vec<u64> = sources.tokens.manifest.parts("part").map(|part| part.rows.unwrap_or(0)).collect();
    let of_epoch = |epoch: u16| {
        let part = move |(index, &rows): (usize, &u64)| {
            OutputSpec::part(bench.part_name(&epoch_prefix(epoch.into()), index), rows)
        };
        rows.iter().enumerate().map(part)
    };
    config.epoch_range().flat_map(of_epoch).collect()
}

/// A run at work.
struct Work<'a> {
    sources: &'a Sources,
    config: &'a Config,
    bench: &'a Workbench,
}

impl Work<'_> {
    fn select_all(&self) -> anyhow::Result<Tally> {
        let manifest = &self.sources.tokens.manifest;
        let total = manifest.stats["maskable"].as_u64().unwrap_or(0) * u64::from(self.config.epochs);
        let progress = Progress::new("select", total);
        let excluded = self.sources.excluded(self.config);
        let (config, vocabulary) = (self.config, &self.sources.vocabulary);
        let selector = Selector { config, vocabulary, excluded: &excluded };
        let rarity = rarity::scores(self.sources, config.policy.basis())?;
        let mut tally = Tally::default();
        for index in 0..manifest.parts("part").count() {
            let part = Part::read(self.sources, config, &rarity, index)?;
            tally.merge(self.select_part(&selector, &part, index, &progress)?);
        }
        progress.finish();
        Ok(tally)
    }

    /// All epochs of one part.
    fn select_part(
        &self,
        selector: &Selector,
        part: &Part,
        index: usize,
        progress: &Progress,
    ) -> anyhow::Result<Tally> {
        let facts = PartFacts::of(part, &self.sources.entries);
        let (mut tally, mut overlap) = (Tally::default(), Overlap::new(&facts));
        for epoch in self.config.epoch_range() {
            check_interrupt()?;
            let file = self.bench.part_name(&epoch_prefix(epoch.into()), index);
            let choices = choose(selector, part, epoch)?;
            tally.add_budgets(selector, &facts, &choices, epoch);
            let masks = masks(part, choices, epoch);
            if self.bench.finished(&file).is_none_or(|path| entromask_tables::rows(&path).is_err()) {
                self.bench.write(&file, |path| masks.write(path, &self.bench.footer()))?;
            }
            tally.add(&facts, &masks, self.sources.vocabulary.mask);
            overlap.add(&masks);
            progress.inc(facts.maskable());
        }
        tally.add_overlap(&facts, &overlap);
        Ok(tally)
    }
}

/// What each budget of a part is spent on.
fn choose(selector: &Selector, part: &Part, epoch: u16) -> anyhow::Result<Vec<Choice>> {
    if selector.config.budget == Scope::Shard {
        let rows: Vec<Row> = part.rows().collect();
        return Ok(vec![selector.select(&rows, epoch)?]);
    }
    let rows = (0..part.tokens.rows()).into_par_iter();
    let chosen: Vec<_> = rows.map(|index| selector.select(&[part.row(index)], epoch)).collect();
    // Of several rows that cannot be masked the first is named, not the one that a thread came to first.
    chosen.into_iter().collect()
}

fn masks(part: &Part, choices: Vec<Choice>, epoch: u16) -> Masks {
    let rows = choices.into_iter().flat_map(|choice| choice.rows);
    let (positions, inputs): (Vec<_>, Vec<_>) = rows.unzip();
    Masks {
        row: part.tokens.row.clone(),
        epoch: vec![epoch; positions.len()],
        positions: Ragged::from_rows(positions),
        inputs: Ragged::from_rows(inputs),
    }
}
