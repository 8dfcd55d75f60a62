//! What must fit together before a run starts: flags, configuration and the artifacts that are named.

use std::path::Path;

use anyhow::Result;
use entromask_artifact::Manifest;
use entromask_encoder::EncoderConfig;
use entromask_encoder::tokenizer::{self, Source};
use entromask_fault::Fault;

use super::{Paths, Span, Start};
use crate::config::{Budget, Config, Init, ObjectiveConfig, OnlineMode, Positions, Transfer};

/// What is wrong, and what to do about it.
type Problem = (String, &'static str);

/// Refuses flags that contradict the configuration.
pub(crate) fn flags(config: &Config, paths: &Paths) -> Result<()> {
    let first =
        [guide_problem, mask_problem, start_problem].iter().find_map(|problem| problem(config, paths));
    first.map_or(Ok(()), |(found, remedy)| Err(Fault::usage(found).remedy(remedy).into()))
}

fn guide_problem(config: &Config, paths: &Paths) -> Option<Problem> {
    let (guided, objective) = (paths.teacher.is_some() || paths.targets.is_some(), &config.objective);
    let complex = objective.needs_hidden_states() || objective.positions == Positions::All;
    if guided && !objective.needs_teacher() {
        let guide = paths.teacher.iter().chain(&paths.targets).next();
        let guide = guide.map(|path| path.display().to_string()).unwrap_or_default();
        let found = format!(
            "{guide}: objective.kd, objective.cos and objective.hidden are 0, so it would not be used"
        );
        return Some((found, "set objective.kd, or leave --teacher and --targets out"));
    }
    if !guided && objective.needs_teacher() {
        let found = "objective.kd, objective.cos or objective.hidden is above 0, but there is no teacher";
        return Some((found.into(), "name one with --teacher DIR or --targets DIR, or set them to 0"));
    }
    if !guided && config.transfer != Transfer::default() {
        let found = "transfer without a teacher: there is nothing that could begin later";
        let remedy =
            "name one with --teacher DIR or --targets DIR, or leave it out; masks have mask_transfer";
        return Some((found.into(), remedy));
    }
    let ObjectiveConfig { temperature, positions, .. } = ObjectiveConfig::default();
    if !guided
        && (objective.temperature.to_bits() != temperature.to_bits() || objective.positions != positions)
    {
        let found = "objective.temperature or objective.positions is set, but there is no teacher";
        return Some((found.into(), "name one with --teacher DIR or --targets DIR, or leave them out"));
    }
    (paths.targets.is_some() && complex).then_some((
        "--targets: it has no hidden states, and nothing outside of the masked positions".into(),
        "set objective.cos and objective.hidden to 0 and objective.positions to \"masked\", or name a --teacher",
    ))
}

fn mask_problem(config: &Config, paths: &Paths) -> Option<Problem> {
    let (cached, first) = (paths.targets.is_some(), paths.first_masks.is_some());
    if cached && first {
        return Some((
            "--targets and --init-masks: the targets belong to one of the masks".into(),
            "name a --teacher",
        ));
    }
    if config.online.is_some() {
        return (first || cached).then_some((
            "[online]: masks are chosen while training runs".into(),
            "leave --init-masks and --targets out; --masks are the first masks",
        ));
    }
    (first != config.mask_transfer.is_some())
        .then_some(("--init-masks and mask_transfer belong together".into(), "give both or none of them"))
}

fn start_problem(config: &Config, paths: &Paths) -> Option<Problem> {
    let running = config.online.as_ref().is_some_and(|online| online.mode == OnlineMode::Running);
    match paths.start {
        Start::Random | Start::Continue(_) if config.init != Init::default() => {
            Some(("init.layers or init.fresh_head without a model".into(), "name one with --init DIR"))
        }
        Start::Continue(_) if running => Some((
            "--continue-from with online.mode = \"running\": its averages end with their round".into(),
            "train all epochs in one round, or set online.mode to \"step\"",
        )),
        _ => None,
    }
}

/// Models that are read with the corpus's tokens must know them by the same numbers.
pub(super) fn tokenizers(paths: &Paths, special: &serde_json::Value) -> Result<()> {
    let start = match &paths.start {
        Start::Random => None,
        Start::Init(folder) | Start::Continue(folder) => Some(folder),
    };
    let mut models = [paths.teacher.as_ref(), start].into_iter().flatten();
    models.try_for_each(|folder| same_tokenizer(folder, &paths.tokens, special))
}

/// Refuses the model in `folder` if it knows the tokens by other numbers.
pub(super) fn same_tokenizer(folder: &Path, tokens: &Path, special: &serde_json::Value) -> Result<()> {
    if tokenizer::foreign(folder, tokens, special)?.is_none() {
        return Ok(());
    }
    let (folder, tokens) = (folder.display(), tokens.display());
    Err(Fault::input(format!("{folder}: its tokenizer is not that of {tokens}"))
        .remedy("tokenize the corpus with the model's tokenizer, or name another model")
        .into())
}

/// A model in `folder` may know more tokens than its tokenizer; whether that is the corpus's is told only where it lies beside it.
pub(super) fn vocabulary(folder: &Path, model: &EncoderConfig, wanted: usize) -> Result<()> {
    let found = model.vocab_size;
    if found == wanted || (found > wanted && Source::find(folder).is_some()) {
        return Ok(());
    }
    Err(Fault::input(format!("{}: knows {found} tokens, the corpus has {wanted}", folder.display()))
        .remedy("take a model with the tokenizer of the corpus, which lies in its folder")
        .into())
}

/// Refuses a model that has no positions for the longest rows.
pub(super) fn positions(folder: &Path, model: &EncoderConfig, tokens: &Manifest) -> Result<()> {
    let (folder, most) = (folder.display(), model.max_seq_length());
    let longest = tokens.config["seq_len"].as_u64().unwrap_or(0) as usize;
    if longest <= most {
        return Ok(());
    }
    Err(Fault::input(format!("{folder}: reads {most} tokens, but rows have up to {longest}"))
        .remedy("tokenize with a smaller seq_len, or name another model")
        .into())
}

/// Rounds share the state of one optimizer: what another one has kept is not what this one goes on from.
pub(super) fn optimizer((folder, earlier): (&Path, &Manifest), semantic: &serde_json::Value) -> Result<()> {
    let name = |config: &serde_json::Value| config["optimizer"].as_str().unwrap_or("adamw").to_owned();
    let (before, now) = (name(&earlier.config), name(semantic));
    if before == now {
        return Ok(());
    }
    let folder = folder.display();
    Err(Fault::usage(format!("optimizer = \"{now}\": {folder} was trained with {before}"))
        .remedy("keep the optimizer in all rounds, or begin anew with --init and masks from epoch 0 on")
        .into())
}

pub(super) fn origin(tokens: &Manifest, masks: &Manifest, (folder, source): (&Path, &Path)) -> Result<()> {
    if masks.is_made_from("tokens", tokens) {
        return Ok(());
    }
    Err(Fault::input(format!(
        "{}: made from tokens with content {}, but {} has content {}",
        folder.display(),
        masks.input("tokens").map_or("unknown", |input| &input.content),
        source.display(),
        tokens.content
    ))
    .remedy("select masks for these tokens")
    .into())
}

pub(super) fn epochs(folder: &Path, found: Span, wanted: Span) -> Result<()> {
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
pub(super) fn targets(folder: &Path, targets: &Manifest, masks: &Manifest, config: &Config) -> Result<()> {
    let folder = folder.display();
    if !targets.is_made_from("masks", masks) {
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

/// Weights that nothing was masked for would be published as they were drawn.
pub(super) fn masked(masks: &Manifest, config: &Config, folder: &Path) -> Result<()> {
    if config.online.is_some() || masks.stats["masked"].as_u64() != Some(0) {
        return Ok(());
    }
    Err(Fault::input(format!("{}: nothing is masked, so there is nothing to learn", folder.display()))
        .remedy("look at the corpus: its rows have special tokens only")
        .into())
}

pub(super) fn span(span: Span, rows: usize, config: &Config, paths: &Paths) -> Result<()> {
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

/// Fractions of few steps may be none of them, or all: then one of two phases would never come.
pub(super) fn phases(config: &Config, steps: u64) -> Result<()> {
    let total = match config.budget {
        None => steps,
        Some(Budget::Steps(steps)) => steps,
        Some(Budget::Tokens(_) | Budget::Seconds(_)) => return Ok(()),
    };
    let transfers = [("transfer", Some(config.transfer)), ("mask_transfer", config.mask_transfer)];
    for (name, transfer) in transfers.into_iter().filter_map(|(name, transfer)| Some((name, transfer?))) {
        let Some(length) =
            transfer.first_phase(total as f64).filter(|length| !(1.0..total as f64).contains(length))
        else {
            continue;
        };
        let found = format!(
            "{name}.init_fraction = {}: a first phase of {length} of {total} steps",
            transfer.init_fraction
        );
        return Err(Fault::usage(found)
            .remedy("choose a fraction that leaves steps for both phases, or train for longer")
            .into());
    }
    Ok(())
}
