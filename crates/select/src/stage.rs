//! The stage: parts in, parts out.

use std::path::{Path, PathBuf};

use entromask_artifact::{
    Cost, Input, Kind, Manifest, Output, OutputSpec, Recipe, Status, Workbench, status, tool,
};
use entromask_cli::{CommonArgs, Progress, check_interrupt};
use entromask_fault::Fault;
use entromask_tables::{Entropies, Masks, Ragged, TokenColumns, Tokens};
use rayon::prelude::*;
use serde::Serialize;

use crate::corruption::Vocabulary;
use crate::row::{Row, select_row};
use crate::stats::Stats;
use crate::{Config, config};

/// Version of the masks artifact and of what the configuration means.
pub const FORMAT: u32 = 1;

/// Where a run reads and writes.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The tokens artifact.
    pub tokens: PathBuf,
    /// The entropy artifact, for policies that need one.
    pub entropy: Option<PathBuf>,
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
    /// Counts: rows, maskable, masked, rate, entropies.
    pub stats: serde_json::Value,
}

/// Makes the masks artifact, or finds that it is up to date.
pub fn run(config: &Config, paths: &Paths) -> anyhow::Result<Report> {
    let sources = Sources::load(config, paths)?;
    let recipe = sources.recipe(config, paths)?;
    if let Status::UpToDate(manifest) = status(&paths.out, &recipe)? {
        return Ok(Report { out: paths.out.clone(), up_to_date: true, stats: manifest.stats });
    }
    sources.verify(paths)?;
    let bench =
        Workbench::open(&paths.out, recipe, tool("entromask-select", env!("CARGO_PKG_VERSION"), &[]))?;
    let stats = sources.select_all(config, paths, &bench)?;
    let has_entropies = sources.entropy.is_some();
    let cost = Cost { tokens: stats.maskable, device: "cpu".into(), ..Cost::default() };
    let outputs = sources.outputs(config, &bench);
    let manifest = bench.publish(outputs, stats.summary(has_entropies), cost)?;
    Ok(Report { out: paths.out.clone(), up_to_date: false, stats: manifest.stats })
}

/// Says what [`run`] would do.
pub fn dry_run(common: &CommonArgs, config: &Config, paths: &Paths) -> anyhow::Result<()> {
    let mut inputs = vec![paths.tokens.as_path()];
    inputs.extend(paths.entropy.as_deref());
    entromask_cli::plan(common, &paths.out, &inputs, || Sources::load(config, paths)?.recipe(config, paths))
}

/// The artifacts that masks are made from.
struct Sources {
    tokens: Manifest,
    entropy: Option<(PathBuf, Manifest)>,
    vocabulary: Vocabulary,
}

impl Sources {
    fn load(config: &Config, paths: &Paths) -> anyhow::Result<Self> {
        config.validate()?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let entropy = match (&paths.entropy, config.policy.needs_scores()) {
            (_, false) => None,
            (None, true) => return Err(config::entropy_missing(&config.policy, &paths.tokens)),
            (Some(dir), true) => Some((dir.clone(), Manifest::load(dir, Kind::Entropy)?)),
        };
        let vocabulary = vocabulary(&tokens, &paths.tokens)?;
        let sources = Self { tokens, entropy, vocabulary };
        sources.check_origin(paths)?;
        Ok(sources)
    }

    fn recipe(&self, config: &Config, paths: &Paths) -> anyhow::Result<Recipe> {
        let mut inputs = vec![Input::artifact("tokens", &self.tokens, &paths.tokens)];
        inputs.extend(self.entropy.iter().map(|(dir, manifest)| Input::artifact("entropy", manifest, dir)));
        Ok(Recipe { kind: Kind::Masks, format: FORMAT, config: serde_json::to_value(config)?, inputs })
    }

    /// The entropies must be those of these tokens.
    fn check_origin(&self, paths: &Paths) -> anyhow::Result<()> {
        let Some((dir, entropy)) = &self.entropy else { return Ok(()) };
        let scored = entropy.inputs.iter().find(|input| input.role == "tokens");
        if scored.is_some_and(|input| input.content == self.tokens.content) {
            return Ok(());
        }
        let scored = scored.map_or("nothing", |input| &input.content);
        Err(Fault::input(format!(
            "{}: scores the tokens {scored}, but {} holds {}",
            dir.display(),
            paths.tokens.display(),
            self.tokens.content
        ))
        .remedy("score these tokens with entromask-score, or pass the tokens that were scored")
        .into())
    }

    fn verify(&self, paths: &Paths) -> anyhow::Result<()> {
        self.tokens.parts("part").try_for_each(|part| part.verify(&paths.tokens))?;
        self.entropy.iter().try_for_each(|(dir, manifest)| manifest.verify(dir))
    }

    fn select_all(&self, config: &Config, paths: &Paths, bench: &Workbench) -> anyhow::Result<Stats> {
        let total = self.tokens.stats["maskable"].as_u64().unwrap_or(0) * u64::from(config.epochs);
        let progress = Progress::new("select", total);
        let mut stats = Stats::default();
        for (index, part) in self.tokens.parts("part").enumerate() {
            let part = Part::read(self, paths, part, index)?;
            for epoch in config.epoch_range() {
                check_interrupt()?;
                let file = bench.part_name(&prefix(epoch), index);
                let masks = self.select_part(config, &part, epoch);
                if bench.finished(&file).is_none_or(|path| entromask_tables::rows(&path).is_err()) {
                    bench.write(&file, |path| masks.write(path, &bench.footer()))?;
                }
                let added = Stats::of(&part.tokens, part.entropies.as_ref(), &masks);
                progress.inc(added.maskable);
                stats = stats.plus(&added);
            }
        }
        progress.finish();
        Ok(stats)
    }

    fn select_part(&self, config: &Config, part: &Part, epoch: u16) -> Masks {
        let rows: Vec<_> = (0..part.tokens.rows())
            .into_par_iter()
            .map(|index| select_row(config, &self.vocabulary, part.row(index), epoch))
            .collect();
        let (positions, inputs): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Masks {
            row: part.tokens.row.clone(),
            epoch: vec![epoch; positions.len()],
            positions: Ragged::from_rows(positions),
            inputs: Ragged::from_rows(inputs),
        }
    }

    fn outputs(&self, config: &Config, bench: &Workbench) -> Vec<OutputSpec> {
        let parts: Vec<&Output> = self.tokens.parts("part").collect();
        let of_epoch = |epoch: u16| {
            let rows = parts.iter().map(|part| part.rows.unwrap_or(0)).enumerate();
            rows.map(move |(index, rows)| OutputSpec::part(bench.part_name(&prefix(epoch), index), rows))
        };
        config.epoch_range().flat_map(of_epoch).collect()
    }
}

/// One part of the tokens with its scores.
struct Part {
    tokens: Tokens,
    entropies: Option<Entropies>,
}

impl Part {
    fn read(sources: &Sources, paths: &Paths, part: &Output, index: usize) -> anyhow::Result<Self> {
        let columns = TokenColumns { word: true, ..TokenColumns::default() };
        let tokens = Tokens::read(&paths.tokens.join(&part.file), columns)?;
        let Some((dir, manifest)) = &sources.entropy else { return Ok(Self { tokens, entropies: None }) };
        let scored = manifest.parts("part").nth(index).map(|output| dir.join(&output.file));
        let path = scored.ok_or_else(|| Fault::input(format!("{}: no part {index}", dir.display())))?;
        let mut entropies = Entropies::read(&path)?;
        if is_carried(manifest) {
            fill_gaps(&mut entropies.entropy, &tokens);
        }
        check_rows(&tokens, &entropies, &path)?;
        Ok(Self { tokens, entropies: Some(entropies) })
    }

    fn row(&self, index: usize) -> Row<'_> {
        Row {
            number: self.tokens.row[index],
            input_ids: self.tokens.input_ids.row(index),
            word: self.tokens.word.row(index),
            scores: self.entropies.as_ref().map_or(&[], |entropies| entropies.entropy.row(index)),
        }
    }
}

/// Whether the entropies are those of a teacher with another tokenizer, for the whole corpus.
fn is_carried(entropy: &Manifest) -> bool {
    let config = &entropy.config;
    let sampled = config["fraction"].as_f64().is_some_and(|fraction| fraction < 1.0);
    config.get("carry").is_some() && config["rows"].is_null() && !sampled
}

/// Gives the mean of its row to each maskable token that the teacher has no token for: it is neither preferred nor spared.
fn fill_gaps(scores: &mut Ragged<Option<f32>>, tokens: &Tokens) {
    for row in 0..scores.rows().min(tokens.rows()) {
        let (range, word) = (scores.range(row), tokens.word.row(row));
        let known: Vec<f32> = scores.row(row).iter().flatten().copied().collect();
        let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
        for (score, _) in scores.values[range].iter_mut().zip(word).filter(|(_, word)| word.is_some()) {
            *score = score.or(Some(mean));
        }
    }
}

/// Every maskable token must have a score.
fn check_rows(tokens: &Tokens, entropies: &Entropies, path: &Path) -> anyhow::Result<()> {
    if tokens.row != entropies.row {
        return Err(Fault::input(format!("{}: its rows are not those of the tokens", path.display()))
            .remedy("score the tokens again")
            .into());
    }
    for (index, word) in tokens.word.iter().enumerate() {
        let scores = entropies.entropy.row(index);
        let complete = scores.len() == word.len()
            && word
                .iter()
                .zip(scores)
                .all(|(word, score)| word.is_none() || score.is_some_and(f32::is_finite));
        if !complete {
            let row = tokens.row[index];
            return Err(Fault::input(format!("{}: row {row} has tokens without a score", path.display()))
                .remedy("score the whole corpus (no --rows or --fraction) before selecting masks")
                .into());
        }
    }
    Ok(())
}

fn vocabulary(tokens: &Manifest, dir: &Path) -> anyhow::Result<Vocabulary> {
    let special = tokens.stats["special"].as_object().into_iter().flat_map(|ids| ids.values());
    let mut special: Vec<u32> = special.filter_map(|id| id.as_u64().map(|id| id as u32)).collect();
    special.sort_unstable();
    special.dedup();
    let number = |value: &serde_json::Value| value.as_u64().map(|value| value as u32);
    match (number(&tokens.stats["vocab_size"]), number(&tokens.stats["special"]["mask"])) {
        (Some(size), Some(mask)) => Ok(Vocabulary { size, mask, special }),
        _ => Err(Fault::input(format!(
            "{}: the manifest names no vocabulary size or mask token",
            dir.display()
        ))
        .remedy("tokenize the corpus again")
        .into()),
    }
}

fn prefix(epoch: u16) -> String {
    format!("epoch-{epoch:03}")
}
