//! A run before it starts: inputs checked against each other, and the recipe that follows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Input, Kind, Manifest, Recipe};
use entromask_encoder::{EncoderConfig, pretrained_files};
use entromask_fault::Fault;
use entromask_policy::corruption::Vocabulary;
use serde::Deserialize;
use serde_json::json;

use crate::config::{Config, Init, OnlineMode, Positions, Transfer};
use crate::data::{Beside, Corpus};
use crate::plan::Plan;
use crate::student::shape;
use crate::tokenizer;

/// What the user names.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The student's shape, a TOML file.
    pub student: PathBuf,
    /// Tokens artifact.
    pub tokens: PathBuf,
    /// Masks artifact.
    pub masks: PathBuf,
    /// Masks artifact that the run begins with, if it is another.
    pub first_masks: Option<PathBuf>,
    /// Model that guides.
    pub teacher: Option<PathBuf>,
    /// Soft targets artifact, in place of a teacher.
    pub targets: Option<PathBuf>,
    /// Where the weights come from.
    pub start: Start,
    /// Folder of the model to make.
    pub out: PathBuf,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Drawn from the seed.
    Random,
    /// A model's weights, nothing else of it.
    Init(PathBuf),
    /// The model of the round before, with optimizer and counters.
    Continue(PathBuf),
}

/// A run whose inputs fit together.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub config: Config,
    pub paths: Paths,
    /// The student's shape with vocabulary and padding of the tokens.
    pub student: EncoderConfig,
    pub tokens: Manifest,
    pub masks: Manifest,
    pub extra: Extra,
    /// The round before.
    pub earlier: Option<Manifest>,
    pub facts: Facts,
    pub span: Span,
    pub plan: Plan,
    pub recipe: Recipe,
}

/// What the manifest of the tokens says about them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Facts {
    pub vocab_size: usize,
    pub tokens: u64,
    pub special: Special,
}

/// Ids of the special tokens that training needs.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Special {
    pub pad: u32,
    pub mask: u32,
}

/// Epochs of this run, counted over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Span {
    pub first_epoch: u64,
    pub epochs: u64,
}

/// Artifacts beside the masks that only some runs have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub first_masks: Option<Manifest>,
    pub targets: Option<Manifest>,
}

impl Paths {
    /// The artifacts that the run reads.
    pub fn inputs(&self) -> Vec<&Path> {
        let start = match &self.start {
            Start::Random => None,
            Start::Init(model) | Start::Continue(model) => Some(model),
        };
        let more = [&self.first_masks, &self.teacher, &self.targets].map(Option::as_ref);
        [Some(&self.tokens), Some(&self.masks), start]
            .into_iter()
            .chain(more)
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }
}

impl Span {
    pub(crate) fn end_epoch(&self) -> u64 {
        self.first_epoch + self.epochs
    }
}

impl Job {
    pub(crate) fn resolve(config: &Config, paths: &Paths, dtype: &str) -> Result<Self> {
        config.check()?;
        check_flags(config, paths)?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let masks = Manifest::load(&paths.masks, Kind::Masks)?;
        check_origin(&tokens, &masks, (&paths.masks, &paths.tokens))?;
        // It is written into the model's folder at the end: a damaged one is to be found now.
        tokens.verify_read(&paths.tokens, |file| file == "tokenizer.json")?;
        let facts: Facts = read(&tokens.stats, &paths.tokens)?;
        let student = shape(&paths.student, &facts, &tokens)?;
        check_tokenizers(paths)?;
        let earlier = match &paths.start {
            Start::Continue(model) => Some(Manifest::load(model, Kind::Model)?),
            _ => None,
        };
        let span: Span = read(&masks.config, &paths.masks)?;
        let extra = Extra::load(config, paths, &tokens, &masks, span)?;
        let beside = Beside::new(&paths.masks, &masks);
        let rows = Corpus::new((&paths.tokens, &tokens), beside, config.seed).rows();
        check_span(span, rows, config, paths)?;
        let mut semantic = config.semantic();
        semantic["student"] = serde_json::to_value(&student)?;
        semantic["dtype"] = json!(dtype);
        if let (Some(earlier), Start::Continue(folder)) = (&earlier, &paths.start) {
            check_optimizer((folder, earlier), &semantic)?;
        }
        let inputs = inputs(paths, &tokens, &masks, &extra)?;
        let recipe = Recipe { kind: Kind::Model, format: Kind::Model.format(), config: semantic, inputs };
        Ok(Self {
            config: config.clone(),
            paths: paths.clone(),
            student,
            tokens,
            masks,
            extra,
            earlier,
            facts,
            span,
            plan: Plan::new(config, rows),
            recipe,
        })
    }

    pub(crate) fn corpus(&self) -> Corpus {
        let Paths { tokens, masks, first_masks, targets, .. } = &self.paths;
        let beside = |folder: &Option<PathBuf>, manifest: &Option<Manifest>| {
            Some(Beside::new(folder.as_ref()?, manifest.as_ref()?))
        };
        Corpus::new((tokens, &self.tokens), Beside::new(masks, &self.masks), self.config.seed)
            .with_first_masks(beside(first_masks, &self.extra.first_masks))
            .with_soft(beside(targets, &self.extra.targets))
            .with_online(self.config.online.is_some())
    }

    /// The vocabulary as far as masks need it.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        let special = self.tokens.stats["special"].as_object().into_iter().flatten();
        let ids = special.filter_map(|(_, id)| u32::try_from(id.as_u64()?).ok());
        let special: BTreeSet<u32> = ids.collect();
        Vocabulary {
            size: self.facts.vocab_size as u32,
            mask: self.facts.special.mask,
            special: special.into_iter().collect(),
        }
    }

    /// True in a round of self-masking: the model of the round before has scored the tokens for the masks.
    pub(crate) fn masks_itself(&self) -> bool {
        let scored_by = self.masks.stats["scored_by"].as_str();
        self.earlier.as_ref().is_some_and(|earlier| scored_by == Some(earlier.content.as_str()))
    }

    /// The first step of this run, earlier rounds counted.
    pub(crate) fn first_step(&self) -> u64 {
        self.plan.first_step(self.span.first_epoch)
    }

    /// The step after the last.
    pub(crate) fn end_step(&self) -> u64 {
        self.plan.first_step(self.span.end_epoch())
    }
}

impl Extra {
    fn load(config: &Config, paths: &Paths, tokens: &Manifest, masks: &Manifest, span: Span) -> Result<Self> {
        let load = |folder: &Option<PathBuf>, kind| {
            folder.as_ref().map(|folder| Manifest::load(folder, kind)).transpose()
        };
        let extra = Self {
            first_masks: load(&paths.first_masks, Kind::Masks)?,
            targets: load(&paths.targets, Kind::Targets)?,
        };
        if let (Some(folder), Some(first)) = (&paths.first_masks, &extra.first_masks) {
            check_origin(tokens, first, (folder, &paths.tokens))?;
            check_epochs(folder, read(&first.config, folder)?, span)?;
        }
        if let (Some(folder), Some(targets)) = (&paths.targets, &extra.targets) {
            check_targets(folder, targets, masks, config)?;
        }
        Ok(extra)
    }
}

/// Refuses flags that contradict the configuration.
fn check_flags(config: &Config, paths: &Paths) -> Result<()> {
    let (guided, objective) = (paths.teacher.is_some() || paths.targets.is_some(), &config.objective);
    let cached = paths.targets.is_some();
    let running = config.online.as_ref().is_some_and(|online| online.mode == OnlineMode::Running);
    let complex = objective.needs_hidden_states() || objective.positions == Positions::All;
    let problem = if guided && !objective.needs_teacher() {
        let given = paths
            .teacher
            .as_ref()
            .or(paths.targets.as_ref())
            .map_or(String::new(), |p| p.display().to_string());
        let found = format!(
            "{given}: objective.kd, objective.cos and objective.hidden are 0, so it would not be used"
        );
        (found, "set objective.kd, or leave --teacher and --targets out")
    } else if !guided && objective.needs_teacher() {
        let found = "objective.kd, objective.cos or objective.hidden is above 0, but there is no teacher";
        (found.into(), "name one with --teacher DIR or --targets DIR, or set them to 0")
    } else if !guided && config.transfer != Transfer::default() {
        let found = "transfer without a teacher: there is nothing that could begin later";
        (
            found.into(),
            "name one with --teacher DIR or --targets DIR, or leave it out; masks have mask_transfer",
        )
    } else if cached && complex {
        let found = "--targets: it has no hidden states, and nothing outside of the masked positions";
        (
            found.into(),
            "set objective.cos and objective.hidden to 0 and objective.positions to \"masked\", or name a --teacher",
        )
    } else if cached && paths.first_masks.is_some() {
        ("--targets and --init-masks: the targets belong to one of the masks".into(), "name a --teacher")
    } else if config.online.is_some() && (paths.first_masks.is_some() || cached) {
        let found = "[online]: masks are chosen while training runs";
        (found.into(), "leave --init-masks and --targets out; --masks are the first masks")
    } else if config.online.is_none() && paths.first_masks.is_some() != config.mask_transfer.is_some() {
        ("--init-masks and mask_transfer belong together".into(), "give both or none of them")
    } else if config.init != Init::default() && !matches!(paths.start, Start::Init(_)) {
        ("init.layers or init.fresh_head without a model".into(), "name one with --init DIR")
    } else if matches!(paths.start, Start::Continue(_)) && running {
        let found = "--continue-from with online.mode = \"running\": its averages end with their round";
        (found.into(), "train all epochs in one round, or set online.mode to \"step\"")
    } else {
        return Ok(());
    };
    Err(Fault::usage(problem.0).remedy(problem.1).into())
}

/// Models that are read with the corpus's tokens must know them by the same numbers.
fn check_tokenizers(paths: &Paths) -> Result<()> {
    let init = if let Start::Init(folder) = &paths.start { Some(folder) } else { None };
    for folder in [paths.teacher.as_ref(), init].into_iter().flatten() {
        if !tokenizer::agree(folder, &paths.tokens)? {
            let (folder, tokens) = (folder.display(), paths.tokens.display());
            return Err(Fault::input(format!("{folder}: its tokenizer is not that of {tokens}"))
                .remedy("tokenize the corpus with the model's tokenizer, or name another model")
                .into());
        }
    }
    Ok(())
}

/// Rounds share the state of one optimizer: what another one has kept is not what this one goes on from.
fn check_optimizer((folder, earlier): (&Path, &Manifest), semantic: &serde_json::Value) -> Result<()> {
    let name = |config: &serde_json::Value| config["optimizer"].as_str().unwrap_or("adamw").to_owned();
    let (before, now) = (name(&earlier.config), name(semantic));
    if before == now {
        return Ok(());
    }
    let folder = folder.display();
    Err(Fault::usage(format!("optimizer = \"{now}\": {folder} was trained with {before}"))
        .remedy("keep the optimizer in all rounds, or begin anew with --init")
        .into())
}

fn check_origin(tokens: &Manifest, masks: &Manifest, (folder, source): (&Path, &Path)) -> Result<()> {
    let origin = content_of(masks, "tokens");
    if origin == Some(tokens.content.as_str()) {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: made from tokens with content {}, but {} has content {}",
        folder.display(),
        origin.unwrap_or("unknown"),
        source.display(),
        tokens.content
    ))
    .remedy("select masks for these tokens")
    .into())
}

fn content_of<'a>(manifest: &'a Manifest, role: &str) -> Option<&'a str> {
    manifest.inputs.iter().find(|input| input.role == role).map(|input| input.content.as_str())
}

fn check_epochs(folder: &Path, found: Span, wanted: Span) -> Result<()> {
    if found.first_epoch <= wanted.first_epoch && found.end_epoch() >= wanted.end_epoch() {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: holds the epochs {} to {}, the run has {} to {}",
        folder.display(),
        found.first_epoch,
        found.end_epoch(),
        wanted.first_epoch,
        wanted.end_epoch()
    ))
    .remedy("select masks for these epochs")
    .into())
}

/// Soft targets belong to masks and to a temperature.
fn check_targets(folder: &Path, targets: &Manifest, masks: &Manifest, config: &Config) -> Result<()> {
    let folder = folder.display();
    if content_of(targets, "masks") != Some(masks.content.as_str()) {
        return Err(Fault::input(format!("{folder}: made for other masks than those of --masks"))
            .remedy("make it for these with `entromask-score distill`")
            .into());
    }
    let temperature = targets.config.get("temperature").and_then(serde_json::Value::as_f64);
    if temperature != Some(config.objective.temperature) {
        let found = temperature.unwrap_or(f64::NAN);
        let wanted = config.objective.temperature;
        return Err(Fault::usage(format!(
            "{folder}: made for temperature {found}, objective.temperature is {wanted}"
        ))
        .remedy("make the two equal")
        .into());
    }
    Ok(())
}

fn check_span(span: Span, rows: usize, config: &Config, paths: &Paths) -> Result<()> {
    let (first, end, masks) = (span.first_epoch, span.end_epoch(), paths.masks.display());
    if span.epochs == 0 || rows == 0 {
        return Err(Fault::input(format!("{masks}: nothing to train on: {} epochs", span.epochs)).into());
    }
    if end > config.epochs {
        return Err(Fault::usage(format!(
            "{masks} holds epochs up to {end}, but epochs = {}",
            config.epochs
        ))
        .remedy("raise epochs, which counts those of all rounds")
        .into());
    }
    if first > 0 && paths.start == Start::Random {
        return Err(Fault::usage(format!(
            "{masks} begins with epoch {first}, but there is no model to go on with"
        ))
        .remedy("name the model of the round before with --continue-from DIR")
        .into());
    }
    Ok(())
}

fn inputs(paths: &Paths, tokens: &Manifest, masks: &Manifest, extra: &Extra) -> Result<Vec<Input>> {
    let mut inputs =
        vec![Input::artifact("tokens", tokens, &paths.tokens), Input::artifact("masks", masks, &paths.masks)];
    if let Some(teacher) = &paths.teacher {
        inputs.push(model("teacher", "--teacher", teacher)?);
    }
    for (role, folder, manifest) in
        [("init_masks", &paths.first_masks, &extra.first_masks), ("targets", &paths.targets, &extra.targets)]
    {
        if let (Some(folder), Some(manifest)) = (folder, manifest) {
            inputs.push(Input::artifact(role, manifest, folder));
        }
    }
    match &paths.start {
        Start::Random => {}
        Start::Init(folder) => inputs.push(model("init", "--init", folder)?),
        Start::Continue(folder) => inputs.push(model("continue_from", "--continue-from", folder)?),
    }
    Ok(inputs)
}

/// A model of the pipeline, or a Hugging Face folder from elsewhere.
fn model(role: &str, flag: &str, folder: &Path) -> Result<Input> {
    let remedy = format!("`{flag}` takes a model artifact or a Hugging Face folder");
    Input::model(role, folder, &remedy, || pretrained_files(folder, &remedy))
}

fn read<'a, T: Deserialize<'a>>(value: &'a serde_json::Value, folder: &Path) -> Result<T> {
    T::deserialize(value).map_err(|error| {
        Fault::input(format!("{}: the manifest lacks what training needs: {error}", folder.display()))
            .remedy("make the artifact again with this version")
            .into()
    })
}
