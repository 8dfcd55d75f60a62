//! A run before it starts: inputs checked against each other, and the recipe that follows.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Input, Kind, MANIFEST, Manifest, Recipe};
use entromask_encoder::{EncoderConfig, pretrained_files};
use entromask_fault::Fault;
use serde::Deserialize;
use serde_json::json;

use crate::config::Config;
use crate::data::Corpus;

/// Version of the model artifact and of what training means.
const FORMAT: u32 = 1;

/// What the user names.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The student's shape, a TOML file.
    pub student: PathBuf,
    /// Tokens artifact.
    pub tokens: PathBuf,
    /// Masks artifact.
    pub masks: PathBuf,
    /// Model that guides.
    pub teacher: Option<PathBuf>,
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
    /// The round before.
    pub earlier: Option<Manifest>,
    pub facts: Facts,
    pub span: Span,
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

/// Epochs and steps of this run, counted over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Span {
    pub first_epoch: u64,
    pub epochs: u64,
    #[serde(skip)]
    pub steps_per_epoch: u64,
}

impl Paths {
    /// The artifacts that the run reads.
    pub fn inputs(&self) -> Vec<&Path> {
        let start = match &self.start {
            Start::Random => None,
            Start::Init(model) | Start::Continue(model) => Some(model),
        };
        [Some(&self.tokens), Some(&self.masks), self.teacher.as_ref(), start]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }
}

impl Span {
    pub(crate) fn first_step(&self) -> u64 {
        self.first_epoch * self.steps_per_epoch
    }

    pub(crate) fn end_step(&self) -> u64 {
        self.end_epoch() * self.steps_per_epoch
    }

    pub(crate) fn end_epoch(&self) -> u64 {
        self.first_epoch + self.epochs
    }
}

impl Job {
    pub(crate) fn resolve(config: &Config, paths: &Paths, dtype: &str) -> Result<Self> {
        config.check()?;
        check_teacher(config, paths)?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let masks = Manifest::load(&paths.masks, Kind::Masks)?;
        check_origin(&tokens, &masks, paths)?;
        let facts: Facts = read(&tokens.stats, &paths.tokens)?;
        let student = student(paths, &facts, &tokens)?;
        let earlier = match &paths.start {
            Start::Continue(model) => Some(Manifest::load(model, Kind::Model)?),
            _ => None,
        };
        let mut span: Span = read(&masks.config, &paths.masks)?;
        let rows = Corpus::new((&paths.tokens, &tokens), (&paths.masks, &masks), config.seed).rows();
        span.steps_per_epoch = rows.div_ceil(config.batch_size) as u64;
        check_span(span, config, paths)?;
        let mut semantic = config.semantic();
        semantic["student"] = serde_json::to_value(&student)?;
        semantic["dtype"] = json!(dtype);
        let inputs = inputs(paths, &tokens, &masks)?;
        let recipe = Recipe { kind: Kind::Model, format: FORMAT, config: semantic, inputs };
        Ok(Self {
            config: config.clone(),
            paths: paths.clone(),
            student,
            tokens,
            masks,
            earlier,
            facts,
            span,
            recipe,
        })
    }

    pub(crate) fn corpus(&self) -> Corpus {
        let Paths { tokens, masks, .. } = &self.paths;
        Corpus::new((tokens, &self.tokens), (masks, &self.masks), self.config.seed)
    }

    /// Steps of all rounds together.
    pub(crate) fn horizon(&self) -> u64 {
        self.config.epochs * self.span.steps_per_epoch
    }
}

fn check_teacher(config: &Config, paths: &Paths) -> Result<()> {
    match (&paths.teacher, config.needs_teacher()) {
        (Some(teacher), false) => Err(Fault::usage(format!(
            "--teacher {}: objective.kd and objective.cos are 0, so it would not be used",
            teacher.display()
        ))
        .remedy("set objective.kd, or leave --teacher out")
        .into()),
        (None, true) => {
            Err(Fault::usage("objective.kd or objective.cos is above 0, but there is no teacher")
                .remedy("name one with --teacher DIR, or set both to 0")
                .into())
        }
        _ => Ok(()),
    }
}

fn check_origin(tokens: &Manifest, masks: &Manifest, paths: &Paths) -> Result<()> {
    let origin = masks.inputs.iter().find(|input| input.role == "tokens").map(|input| input.content.as_str());
    if origin == Some(tokens.content.as_str()) {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: made from tokens with content {}, but {} has content {}",
        paths.masks.display(),
        origin.unwrap_or("unknown"),
        paths.tokens.display(),
        tokens.content
    ))
    .remedy("select masks for these tokens")
    .into())
}

fn check_span(span: Span, config: &Config, paths: &Paths) -> Result<()> {
    let (first, end, masks) = (span.first_epoch, span.end_epoch(), paths.masks.display());
    if span.epochs == 0 || span.steps_per_epoch == 0 {
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

fn student(paths: &Paths, facts: &Facts, tokens: &Manifest) -> Result<EncoderConfig> {
    let shape: EncoderConfig = entromask_cli::load_file(&paths.student)?;
    let student = EncoderConfig { vocab_size: facts.vocab_size, pad_token_id: facts.special.pad, ..shape };
    student.check()?;
    let longest = tokens.config.get("seq_len").and_then(serde_json::Value::as_u64).unwrap_or(0) as usize;
    if longest > student.max_seq_length() {
        let (file, most) = (paths.student.display(), student.max_seq_length());
        return Err(Fault::usage(format!(
            "{file}: max_position_embeddings is enough for {most} tokens, but rows have up to {longest} tokens"
        ))
        .remedy("raise max_position_embeddings, or tokenize with a smaller seq_len")
        .into());
    }
    Ok(student)
}

fn inputs(paths: &Paths, tokens: &Manifest, masks: &Manifest) -> Result<Vec<Input>> {
    let mut inputs =
        vec![Input::artifact("tokens", tokens, &paths.tokens), Input::artifact("masks", masks, &paths.masks)];
    if let Some(teacher) = &paths.teacher {
        inputs.push(model("teacher", "--teacher", teacher)?);
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
    if folder.join(MANIFEST).exists() {
        return Ok(Input::artifact(role, &Manifest::load(folder, Kind::Model)?, folder));
    }
    let remedy = format!("`{flag}` takes a model artifact or a Hugging Face folder");
    Input::files(role, folder, &pretrained_files(folder, &remedy)?, &remedy)
}

fn read<'a, T: Deserialize<'a>>(value: &'a serde_json::Value, folder: &Path) -> Result<T> {
    T::deserialize(value).map_err(|error| {
        Fault::input(format!("{}: the manifest lacks what training needs: {error}", folder.display()))
            .remedy("make the artifact again with this version")
            .into()
    })
}
