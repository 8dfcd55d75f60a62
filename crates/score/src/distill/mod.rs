//! `entromask-score distill`: what a teacher says where masks mask → soft targets, to train without the teacher.
//!
//! For each masked position the k most probable tokens are kept with their logits, and the probability of all others
//! together at a temperature. The teacher sees the row as the student will.

mod part;
mod teacher;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use entromask_artifact::{
    Begun, Cost, Input, Kind, Manifest, Output, OutputSpec, Recipe, Status, Workbench, epoch_prefix, status,
    tool,
};
use entromask_cli::{CommonArgs, Progress, check_interrupt};
use entromask_encoder::tokenizer::Source;
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_fault::Fault;
use entromask_tables::{Masks, Targets, TokenColumns, Tokens, footer_key};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::model;
use crate::watch::Bar;
use part::Speaker;
use teacher::Teacher;

/// Configuration of `entromask-score distill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// Tokens to keep of a position; all of the vocabulary at most.
    pub top_k: usize,
    /// Temperature of the distillation, at which the others' probability is taken.
    pub temperature: f64,
}

/// Arguments of `entromask-score distill`.
#[derive(Clone, Debug, clap::Args)]
pub struct DistillArgs {
    /// The tokens artifact
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    tokens: Option<PathBuf>,
    /// The masks artifact that the student will train on
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    masks: Option<PathBuf>,
    /// The teacher: a model artifact or a Hugging Face folder, with the tokenizer of the corpus
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    model: Option<PathBuf>,
    /// The usual flags.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What a run made.
#[derive(Clone, Debug, Serialize)]
pub struct DistillReport {
    /// The artifact's folder.
    pub out: PathBuf,
    /// True if there was nothing to do.
    pub up_to_date: bool,
    /// `positions`, `top_k`, `mean_tail`.
    pub stats: Value,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { top_k: 64, temperature: 2.0 }
    }
}

impl fmt::Display for DistillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, stats) = (self.out.display(), &self.stats);
        if self.up_to_date {
            return write!(f, "{out}: up to date");
        }
        let tail = 100.0 * stats["mean_tail"].as_f64().unwrap_or(f64::NAN);
        write!(f, "{out}: {} positions, {} tokens kept of each, ", stats["positions"], stats["top_k"])?;
        write!(f, "the others have {tail:.2} % of the probability")
    }
}

/// Makes the targets artifact, or finds that it is up to date; says what it would do with `--dry-run`.
///
/// # Errors
/// Faults of class usage (configuration), input (artifacts), device, interrupted.
pub fn distill(args: &DistillArgs) -> Result<()> {
    let config: DistillConfig = entromask_cli::load(&args.common)?;
    if args.common.print_config {
        return entromask_cli::print_config(&args.common, &config);
    }
    config.validate()?;
    let (out, from) = (args.common.out()?, args.sources());
    if args.common.dry_run {
        return dry_run(&config, &from, &args.common);
    }
    let job = Job::load(&config, &from, &args.common)?;
    let report = |up_to_date, manifest: Manifest| {
        let report = DistillReport { out: out.into(), up_to_date, stats: manifest.stats };
        entromask_cli::emit(&args.common, &report, &report)
    };
    let recipe = job.recipe()?;
    if let Status::UpToDate(manifest) = status(out, &recipe)? {
        return report(true, *manifest);
    }
    let program = tool("entromask-score distill", env!("CARGO_PKG_VERSION"), &entromask_device::compiled());
    match Workbench::begin(out, recipe, program)? {
        Begun::UpToDate(manifest) => report(true, *manifest),
        Begun::Work(bench) => report(false, job.run(*bench)?),
    }
}

/// Says what would be made.
fn dry_run(config: &DistillConfig, from: &Sources, common: &CommonArgs) -> Result<()> {
    entromask_device::check(&common.device)?;
    model::check_early(&from.model)?;
    let inputs = [&from.tokens, &from.masks, &from.model].map(PathBuf::as_path);
    let recipe = || Job::load(config, from, common)?.recipe();
    let runs = entromask_cli::plan(common, common.out()?, &inputs, recipe)?;
    if runs { entromask_device::check_dtype(&common.device, &common.dtype) } else { Ok(()) }
}

impl DistillConfig {
    fn validate(&self) -> Result<()> {
        let problem = if self.top_k == 0 {
            format!("top_k = {}", self.top_k)
        } else if !((self.temperature as f32).is_finite() && self.temperature as f32 > 0.0) {
            format!("temperature = {}", self.temperature)
        } else {
            return Ok(());
        };
        Err(Fault::usage(problem).remedy("give a number above 0 that is one in f32").into())
    }
}

impl DistillArgs {
    fn sources(&self) -> Sources {
        let given = |path: &Option<PathBuf>| path.clone().expect("clap requires it to distil");
        Sources { tokens: given(&self.tokens), masks: given(&self.masks), model: given(&self.model) }
    }
}

/// The folders that are read.
struct Sources {
    tokens: PathBuf,
    masks: PathBuf,
    model: PathBuf,
}

/// What is to be made, by whom.
struct Job<'a> {
    config: &'a DistillConfig,
    from: &'a Sources,
    common: &'a CommonArgs,
    tokens: Manifest,
    masks: Manifest,
    shape: EncoderConfig,
}

/// Sums over the parts.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    positions: u64,
    tail: f64,
    tokens: u64,
    flops: f64,
}

impl<'a> Job<'a> {
    fn load(config: &'a DistillConfig, from: &'a Sources, common: &'a CommonArgs) -> Result<Self> {
        let tokens = Manifest::load(&from.tokens, Kind::Tokens)?;
        let masks = Manifest::load(&from.masks, Kind::Masks)?;
        check_masks(&tokens, &masks, from)?;
        model::verify_tokenizer(&tokens, &from.tokens)?;
        model::input(&from.model)?;
        let shape = EncoderConfig::from_pretrained(&from.model)?;
        model::check_origin(&from.model, &shape, &tokens, &from.tokens)?;
        let shape = with_vocabulary(shape, &tokens, &from.model)?;
        Ok(Self { config, from, common, tokens, masks, shape })
    }

    fn recipe(&self) -> Result<Recipe> {
        let mut config = serde_json::to_value(self.config)?;
        config["dtype"] = json!(self.common.dtype);
        let inputs = vec![
            Input::artifact("tokens", &self.tokens, &self.from.tokens),
            Input::artifact("masks", &self.masks, &self.from.masks),
            model::input(&self.from.model)?,
        ];
        Ok(Recipe { kind: Kind::Targets, config, inputs })
    }

    fn run(&self, bench: Workbench) -> Result<Manifest> {
        let common = self.common;
        let (device, products) = entromask_device::open_to_score(&common.device, &common.dtype)?;
        let (model, _) = MaskedLm::from_pretrained_first(&self.from.model, self.shape.vocab_size, &device)?;
        let teacher = Teacher::new(model.with_products(products), &self.shape, device);
        let speaker = Speaker { config: self.config, teacher: &teacher, dir: &self.from.model };
        let (mut sums, mut outputs) = (Sums::default(), Vec::new());
        let parts: Vec<_> = self.tokens.parts("part").collect();
        for (index, output) in parts.iter().enumerate() {
            output.verify(&self.from.tokens)?;
            let path = self.from.tokens.join(&output.file);
            let tokens = Tokens::read(&path, TokenColumns::default())?;
            model::check_rows(&self.shape, tokens.input_ids.iter(), &path)?;
            for prefix in self.epochs()? {
                check_interrupt()?;
                let masks = self.read_masks(&prefix, index, &tokens)?;
                check_size(masks.positions.values.len(), self.config.top_k.min(self.shape.vocab_size))?;
                let name = bench.part_name(&prefix, index);
                let label = format!("{prefix} {}/{}", index + 1, parts.len());
                let targets = match finished(&bench, &name, &masks) {
                    Some(targets) => targets,
                    None => make(&speaker, &bench, (&name, &label), &tokens, &masks)?,
                };
                sums.add(&targets, &tokens, &masks, &self.shape);
                outputs.push(OutputSpec::part(name, masks.rows() as u64));
            }
        }
        let stats = json!({
            "positions": sums.positions,
            "top_k": self.config.top_k.min(self.shape.vocab_size),
            "mean_tail": if sums.positions == 0 { 0.0 } else { sums.tail / sums.positions as f64 },
        });
        let device = common.device.clone();
        bench.publish(
            outputs,
            stats,
            Cost { flops: sums.flops, tokens: sums.tokens, device, ..Cost::default() },
        )
    }

    /// Prefixes of the masks' parts, one an epoch.
    fn epochs(&self) -> Result<Vec<String>> {
        let number = |key: &str| self.masks.config.get(key).and_then(Value::as_u64);
        let (Some(first), Some(epochs)) = (number("first_epoch"), number("epochs")) else {
            let masks = self.from.masks.display();
            return Err(Fault::input(format!("{masks}: the manifest names no epochs"))
                .remedy("select the masks again")
                .into());
        };
        Ok((first..first + epochs).map(epoch_prefix).collect())
    }

    fn read_masks(&self, prefix: &str, index: usize, tokens: &Tokens) -> Result<Masks> {
        let dir = &self.from.masks;
        let output = self.masks.parts(prefix).nth(index);
        let read = |output: &Output| {
            output.verify(dir)?;
            Masks::read(&dir.join(&output.file))
        };
        let masks = output.map(read).transpose()?;
        let fits = |masks: &Masks| {
            let inside = |(positions, ids): (&[u16], &[u32])| {
                positions.iter().all(|&position| usize::from(position) < ids.len())
            };
            let known = masks.inputs.values.iter().all(|&id| (id as usize) < self.shape.vocab_size);
            known
                && masks.row == tokens.row
                && masks.positions.iter().zip(tokens.input_ids.iter()).all(inside)
        };
        masks.filter(fits).ok_or_else(|| {
            Fault::input(format!("{}: {prefix} does not fit part {index} of the tokens", dir.display()))
                .remedy("select masks again for these tokens")
                .into()
        })
    }
}

impl Sums {
    fn add(&mut self, targets: &Targets, tokens: &Tokens, masks: &Masks, shape: &EncoderConfig) {
        self.positions += targets.tail.values.len() as u64;
        self.tail += targets.tail.values.iter().map(|&tail| f64::from(tail)).sum::<f64>();
        for (ids, positions) in tokens.input_ids.iter().zip(masks.positions.iter()) {
            let n = positions.len();
            self.tokens += ids.len() as u64;
            self.flops += shape.pass_flops(ids.len(), n, n);
        }
    }
}

/// Asks for a part and writes it.
fn make(
    speaker: &Speaker,
    bench: &Workbench,
    (name, label): (&str, &str),
    tokens: &Tokens,
    masks: &Masks,
) -> Result<Targets> {
    let progress = Progress::new(label, tokens.input_ids.values.len() as u64);
    let bar = Bar { progress: &progress, writer: None };
    let targets = speaker.targets(tokens, masks, &mut Draft::of(bench, name), &bar)?;
    bench.write(name, |path| targets.write(path, &bench.footer()))?;
    progress.finish();
    Ok(targets)
}

/// A part that an earlier run has made.
fn finished(bench: &Workbench, name: &str, masks: &Masks) -> Option<Targets> {
    let path = bench.finished(name)?;
    let ours = footer_key(&path).ok()?.is_some_and(|key| key == bench.key());
    let targets = Targets::read(&path).ok()?;
    let fits = targets.row == masks.row && targets.tail.offsets == masks.positions.offsets;
    (ours && fits).then_some(targets)
}

/// The shape of a teacher in `dir` for the vocabulary of the corpus. It may know more tokens than its tokenizer; whether
/// that is the corpus's is told only where it lies beside it.
fn with_vocabulary(shape: EncoderConfig, tokens: &Manifest, dir: &Path) -> Result<EncoderConfig> {
    let (found, wanted) = (shape.vocab_size, tokens.stats["vocab_size"].as_u64().unwrap_or(0) as usize);
    if found == wanted || (found > wanted && Source::find(dir).is_some()) {
        return Ok(EncoderConfig { vocab_size: wanted, ..shape });
    }
    Err(Fault::input(format!("{}: knows {found} tokens, the corpus has {wanted}", dir.display()))
        .remedy("take a model with the tokenizer of the corpus, which lies in its folder")
        .into())
}

/// A column of a part holds fewer than 2^31 values, of which there are `top_k` for each masked position.
fn check_size(positions: usize, top_k: usize) -> Result<()> {
    let most = i32::MAX as usize / positions.max(1);
    if top_k <= most {
        return Ok(());
    }
    Err(Fault::usage(format!("top_k = {top_k}: a part has {positions} masked positions"))
        .remedy(format!("keep at most {most} of each, or tokenize with smaller parts (shard_rows)"))
        .into())
}

fn check_masks(tokens: &Manifest, masks: &Manifest, from: &Sources) -> Result<()> {
    if masks.is_made_from("tokens", tokens) {
        return Ok(());
    }
    let (masks, tokens) = (from.masks.display(), from.tokens.display());
    Err(Fault::input(format!("{masks}: made from other tokens than {tokens}"))
        .remedy("select masks for these tokens")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_a_part_holds() {
        // A full part of 65,536 rows of 128 tokens.
        let positions = 1_258_291;
        assert!(check_size(positions, 1024).is_ok() && check_size(0, usize::MAX).is_err());
        assert!(check_size(1, i32::MAX as usize).is_ok());
        let error = check_size(positions, 30_522).expect_err("too many");
        assert!(
            error.to_string().contains("top_k = 30522") && error.to_string().contains("at most 1706"),
            "{error}"
        );
    }
}
