//! The model card: what a person who finds the folder wants to know.

use entromask_artifact::Workbench;

use crate::job::Job;
use crate::train::Trained;

/// Markdown with the header that model hubs read.
pub(crate) fn card(job: &Job, bench: &Workbench, trained: &Trained, device: &str) -> String {
    [header(job), data(job), recipe(job, trained), results(bench, trained, device), usage()].join("\n")
}

fn header(job: &Job) -> String {
    let name = job.paths.out.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\ntags: [masked-lm, entromask]\n---\n\n# {name}\n\n\
         A masked language model, {} with {} layers of width {}, pretrained by entromask.\n",
        family(job),
        job.student.num_hidden_layers,
        job.student.hidden_size
    )
}

fn family(job: &Job) -> String {
    let config = serde_json::to_value(&job.student).unwrap_or_default();
    config["model_type"].as_str().unwrap_or("an encoder").to_uppercase()
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
    lines.push(format!("* masks were chosen by\n\n```json\n{:#}\n```\n", job.masks.config));
    lines.join("\n")
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
    let cost = format!(
        "{:.0} s on {device}, {} tokens, {:.2e} floating-point operations by formula",
        bench.seconds(),
        counters.tokens - counters.earlier_tokens,
        counters.flops
    );
    let score = counters.valid.map_or_else(
        || "no held-out rows".into(),
        |score| {
            let (loss, accuracy) = (score.loss, 100.0 * score.accuracy);
            format!("loss {loss:.4} nats, accuracy {accuracy:.2} %, perplexity {:.2}", score.perplexity)
        },
    );
    format!(
        "## Results\n\n* Validation on a fixed random 15 % mask: {score}\n* Cost of this round: {cost}\n\n\
         Losses of every step are in `metrics.jsonl`.\n"
    )
}

fn usage() -> String {
    "## Use\n\n```python\nfrom transformers import AutoModelForMaskedLM, AutoTokenizer\n\n\
     model = AutoModelForMaskedLM.from_pretrained(\".\")\ntokenizer = AutoTokenizer.from_pretrained(\".\")\n```\n"
        .into()
}
