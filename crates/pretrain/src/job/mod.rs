//! A run before it starts: inputs checked against each other, and the recipe that follows.

use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{Input, Kind, Manifest, Recipe};
use entromask_encoder::{EncoderConfig, MaskedLm, pretrained_files};
use entromask_fault::Fault;
use entromask_policy::corruption::Vocabulary;
use serde::Deserialize;
use serde_json::json;

use crate::config::Config;
use crate::data::{Corpus, RowTables};
use crate::plan::Plan;
use crate::student::shape;

mod checks;
mod guide;

pub(crate) use checks::flags as check_flags;

/// What the user names.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The student's shape: a TOML file, or a model that has it.
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

impl Facts {
    /// Those in the manifest of the tokens in `folder`.
    pub(crate) fn read(tokens: &Manifest, folder: &Path) -> Result<Self> {
        read(&tokens.stats, folder)
    }
}

/// Whether the student's decoder is its word embeddings: a model that begins as itself, with its head, keeps a decoder of its own, whatever
/// its `config.json` says.
fn is_tied(config: &Config, paths: &Paths, student: &EncoderConfig) -> Result<bool> {
    match &paths.start {
        Start::Init(folder) if *folder == paths.student && !config.init.fresh_head => {
            Ok(MaskedLm::shape_in(folder)?.tie_word_embeddings)
        }
        _ => Ok(student.tie_word_embeddings),
    }
}

/// Refuses the model in `folder` if it cannot read the rows of `tokens`.
pub(crate) fn check_reader(
    folder: &Path,
    (tokens, manifest): (&Path, &Manifest),
    facts: &Facts,
) -> Result<()> {
    checks::same_tokenizer(folder, tokens, &manifest.stats["special"])?;
    let model = EncoderConfig::from_pretrained(folder)?;
    checks::vocabulary(folder, &model, facts.vocab_size)?;
    checks::positions(folder, &model, manifest)
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

impl Start {
    /// The model that has them.
    pub(crate) fn model(&self) -> Option<&PathBuf> {
        match self {
            Self::Random => None,
            Self::Init(model) | Self::Continue(model) => Some(model),
        }
    }
}

impl Paths {
    /// The artifacts that the run reads.
    pub fn inputs(&self) -> Vec<&Path> {
        let start = self.start.model();
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
        checks::flags(config, paths)?;
        let tokens = Manifest::load(&paths.tokens, Kind::Tokens)?;
        let masks = Manifest::load(&paths.masks, Kind::Masks)?;
        checks::origin(&tokens, &masks, (&paths.masks, &paths.tokens))?;
        // It is written into the model's folder at the end: a damaged one is to be found now.
        tokens.verify_read(&paths.tokens, |file| file == "tokenizer.json")?;
        let facts = Facts::read(&tokens, &paths.tokens)?;
        let student = shape(&paths.student, &facts, &tokens)?;
        let student = match config.dropout {
            Some(dropout) => student.with_dropout(dropout),
            None => student,
        };
        let student = EncoderConfig { tie_word_embeddings: is_tied(config, paths, &student)?, ..student };
        checks::tokenizers(paths, &tokens.stats["special"])?;
        let earlier = match &paths.start {
            Start::Continue(model) => Some(Manifest::load(model, Kind::Model)?),
            _ => None,
        };
        let span: Span = read(&masks.config, &paths.masks)?;
        let extra = Extra::load(config, paths, &tokens, &masks, span)?;
        let beside = RowTables::new(&paths.masks, &masks);
        let rows = Corpus::new((&paths.tokens, &tokens), beside, config.seed).rows();
        checks::span(span, rows, config, paths)?;
        checks::masked(&masks, config, &paths.masks)?;
        let plan = Plan::new(config, rows);
        checks::phases(config, plan.steps())?;
        let mut semantic = config.semantic();
        semantic["student"] = serde_json::to_value(&student)?;
        semantic["dtype"] = json!(dtype);
        // What there is not cannot be mixed.
        match config.mixed(tokens.parts("part").count()) {
            0 | 1 => drop(semantic.as_object_mut().map(|keys| keys.remove("mix"))),
            mix => semantic["mix"] = json!(mix),
        }
        if let (Some(earlier), Start::Continue(folder)) = (&earlier, &paths.start) {
            checks::optimizer((folder, earlier), &semantic)?;
        }
        let inputs = inputs(paths, &tokens, &masks, &extra)?;
        if let Some(teacher) = &paths.teacher {
            guide::check(teacher, &config.objective, &student, &tokens)?;
        }
        if let Start::Init(folder) = &paths.start {
            checks::vocabulary(folder, &EncoderConfig::from_pretrained(folder)?, student.vocab_size)?;
        }
        let recipe = Recipe { kind: Kind::Model, config: semantic, inputs };
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
            plan,
            recipe,
        })
    }

    pub(crate) fn corpus(&self) -> Corpus {
        let Paths { tokens, masks, first_masks, targets, .. } = &self.paths;
        let beside = |folder: &Option<PathBuf>, manifest: &Option<Manifest>| {
            Some(RowTables::new(folder.as_ref()?, manifest.as_ref()?))
        };
        Corpus::new((tokens, &self.tokens), RowTables::new(masks, &self.masks), self.config.seed)
            .with_first_masks(beside(first_masks, &self.extra.first_masks))
            .with_soft(beside(targets, &self.extra.targets))
            .with_online(self.config.online.is_some())
            .with_mix(self.config.mixed(usize::MAX))
    }

    /// The vocabulary as far as masks need it.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            size: self.facts.vocab_size as u32,
            mask: self.facts.special.mask,
            special: Vocabulary::special_of(&self.tokens.stats["special"]),
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

    /// What a schedule that goes on behind this run adds to the number of its last step; nothing of others.
    pub(crate) fn schedule_beyond(&self) -> String {
        let (end, all) = (self.end_step(), self.plan.steps());
        match self.config.budget {
            None if end < all => format!(", of a schedule of {all} (epochs = {})", self.config.epochs),
            _ => String::new(),
        }
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
            checks::origin(tokens, first, (folder, &paths.tokens))?;
            checks::epochs(folder, read(&first.config, folder)?, span)?;
        }
        if let (Some(folder), Some(targets)) = (&paths.targets, &extra.targets) {
            checks::targets(folder, targets, masks, config)?;
        }
        Ok(extra)
    }
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
