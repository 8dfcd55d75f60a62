//! The model card: what a person who finds the folder wants to know.

use burn::module::Module;
use entromask_artifact::{Workbench, peak_memory};

use crate::job::{Job, Start};
use crate::train::Trained;

/// Markdown with the header that model hubs read.
pub(crate) fn card(job: &Job, bench: &Workbench, trained: &Trained, device: &str) -> String {
    [header(job, trained), data(job), recipe(job, trained), results(bench, trained, device), usage()]
        .join("\n")
}

fn header(job: &Job, trained: &Trained) -> String {
    let name = job.paths.out.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags: [masked-lm, entromask]\n---\n\n# {name}\n\n\
         A masked language model of {:.1} M parameters, {} with {} layers of width {}, pretrained by entromask.\n",
        trained.model.num_params() as f64 / 1e6,
        job.student.model_type,
        job.student.num_hidden_layers,
        job.student.hidden_size
    )
}

fn data(job: &Job) -> String {
    let mut lines = vec!["## Data and masks\n".to_string()];
    for input in &job.recipe.inputs {
        lines.push(format!(
            "* {}: `{}` (content {})",
            input.role,
            input.path.display(),
            &input.content[..12]
        ));
    }
    lines.push(format!("* {}", start(job)));
    lines.push(format!("* masks were chosen by\n\n```json\n{:#}\n```\n", job.masks.config));
    if job.config.online.is_some() {
        let note = "and then while training ran, by `online` in the recipe; `masks.jsonl` has them all.\n";
        lines.push(note.to_string());
    }
    lines.join("\n")
}

/// Where the weights come from.
fn start(job: &Job) -> String {
    match (&job.paths.start, &job.config.init.layers) {
        (Start::Random, _) => format!("initial weights: drawn from seed {}", job.config.seed),
        (Start::Init(model), None) => format!("initial weights: those of `{}`", model.display()),
        (Start::Init(model), Some(layers)) => {
            format!("initial weights: those of the layers {layers:?} of `{}`", model.display())
        }
        (Start::Continue(model), _) => format!("goes on from the round before, `{}`", model.display()),
    }
}

fn recipe(job: &Job, trained: &Trained) -> String {
    let span = job.span;
    format!(
        "## Recipe\n\nEpochs {} to {} of {}, {} steps in all.\n\n```json\n{:#}\n```\n",
        span.first_epoch,
        span.end_epoch(),
        job.config.epochs,
        trained.counters.step,
        job.recipe.config
    )
}

fn results(bench: &Workbench, trained: &Trained, device: &str) -> String {
    let counters = &trained.counters;
    let (seconds, tokens) = (bench.seconds(), counters.tokens - counters.earlier_tokens);
    let cost = format!(
        "{seconds:.0} s on {device} ({:.1} k tokens/s), {tokens} tokens, {:.2e} floating-point operations by formula, \
         {:.2} GB of memory at most",
        tokens as f64 / seconds.max(1e-9) / 1e3,
        counters.flops,
        peak_memory() as f64 / 1e9
    );
    let best = counters.best.map_or_else(String::new, |(loss, step)| {
        format!("* The lowest validation loss was {loss:.4} nats, at step {step}\n")
    });
    let score = counters.valid.map_or_else(
        || "no held-out rows".into(),
        |score| {
            let (loss, accuracy) = (score.loss, 100.0 * score.accuracy);
            format!("loss {loss:.4} nats, accuracy {accuracy:.2} %, perplexity {:.2}", score.perplexity)
        },
    );
    format!(
        "## Results\n\n* Validation on a fixed random 15 % mask: {score}\n{best}\
         * Cost of this round: {cost}\n\n\
         Losses of every step are in `metrics.jsonl`.\n"
    )
}

fn usage() -> String {
    "## Use\n\n```python\nfrom transformers import AutoModelForMaskedLM, AutoTokenizer\n\n\
     model = AutoModelForMaskedLM.from_pretrained(\".\")\ntokenizer = AutoTokenizer.from_pretrained(\".\")\n```\n"
        .into()
}
