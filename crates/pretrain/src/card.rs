//! The model card: what a person who finds the folder wants to know.

use std::path::{Component, Path};

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
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags: [masked-lm, entromask]\n---\n\n# {}\n\n\
         A masked language model of {:.1} M parameters, {} with {} layers of width {}, pretrained by entromask.\n",
        title(&job.paths.out),
        trained.model.num_params() as f64 / 1e6,
        job.student.model_type,
        job.student.num_hidden_layers,
        job.student.hidden_size
    )
}

/// What lies below `models`, or else the folder's own name: the last folder of a path like `tiny/self-mask/round-3` says little,
/// and the first ones are those of one machine.
fn title(out: &Path) -> String {
    let names: Vec<_> = out
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    let last = names.len().saturating_sub(1);
    let below = names[..last].iter().rposition(|name| name == "models").map_or(last, |place| place + 1);
    if names.is_empty() { "model".into() } else { names[below..].join("/") }
}

fn data(job: &Job) -> String {
    let mut lines = vec!["## Data and masks\n".to_string()];
    for input in &job.recipe.inputs {
        lines.push(format!(
            "* {}: `{}` (content {})",
            input.role,
            input.path.display(),
            short(&input.content)
        ));
    }
    lines.push(format!("* {}", length(job)));
    lines.push(format!("* {}", start(job)));
    lines.push(format!("* masks were chosen by\n\n```json\n{:#}\n```\n", job.masks.config));
    if job.config.online.is_some() {
        let note = "and then while training ran, by `online` in the recipe; `masks.jsonl` has them all.\n";
        lines.push(note.to_string());
    }
    lines.join("\n")
}

/// The first digits of a digest; all of what is no digest, as a manifest that somebody wrote may say.
fn short(content: &str) -> &str {
    content.get(..12).unwrap_or(content)
}

/// What the model has seen, which may be less than its shape takes.
fn length(job: &Job) -> String {
    let (seen, most) = (&job.tokens.config["seq_len"], job.student.max_seq_length());
    format!(
        "trained on rows of up to {seen} tokens; its shape takes up to {most}, which is `model_max_length`"
    )
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
    // Counted from 1, the last one included.
    let epochs = match (span.first_epoch + 1, span.end_epoch()) {
        (first, last) if first == last => format!("Epoch {last}"),
        (first, last) => format!("Epochs {first} to {last}"),
    };
    let steps = trained.counters.step;
    let cut = if steps < job.end_step() {
        format!(" as far as the budget reached ({:.2} epochs)", job.plan.epochs(steps))
    } else {
        String::new()
    };
    format!(
        "## Recipe\n\n{epochs} of {}{cut}, {steps} steps in all.\n\n```json\n{:#}\n```\n",
        job.config.epochs, job.recipe.config
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_shortened_whatever_a_manifest_says() {
        assert_eq!([short("0123456789abcdef"), short("abc"), short("")], ["0123456789ab", "abc", ""]);
    }

    #[test]
    fn a_title_says_which_model_and_not_on_which_machine() {
        for (out, named) in [
            ("data/models/sample/tiny-mlm/self-mask/round-3", "sample/tiny-mlm/self-mask/round-3"),
            ("/mnt/models/data/models/sample/tiny-mlm/round-0/", "sample/tiny-mlm/round-0"),
            ("/tmp/out", "out"),
            ("models", "models"),
            ("..", "model"),
        ] {
            assert_eq!(title(Path::new(out)), named);
        }
    }
}
