//! What was trained and how, in a title and a few sentences.

use entromask_artifact::Kind;
use serde_json::Value;

use super::lineage::{Lineage, Strategy};
use super::plot::large;

/// `BERT 2 × 128, self-masking with distillation`
pub(crate) fn title(lineage: &Lineage) -> String {
    format!("{}, {}", shape(lineage), method(lineage))
}

/// What happened, for who has not read the configuration.
pub(crate) fn lead(lineage: &Lineage) -> String {
    let stats = &lineage.model().manifest.stats;
    let parameters = stats["parameters"].as_f64().map(|n| format!(" with {} parameters", large(n)));
    let tokens = stats["tokens"].as_f64().map(|n| format!(", pretrained on {} tokens", large(n)));
    let corpus = corpus(lineage).map(|name| format!(" of the corpus “{name}”"));
    let [parameters, tokens, corpus] = [parameters, tokens, corpus].map(Option::unwrap_or_default);
    let masking = masking(lineage) + &first_phase(lineage);
    format!("A masked language model{parameters}{tokens}{corpus}. {masking}{}", guidance(lineage))
}

fn shape(lineage: &Lineage) -> String {
    let student = &lineage.model().manifest.config["student"];
    let family = family(student["model_type"].as_str().unwrap_or("bert"));
    match (student["num_hidden_layers"].as_u64(), student["hidden_size"].as_u64()) {
        (Some(layers), Some(width)) => format!("{family} {layers} × {width}"),
        _ => "A model".into(),
    }
}

/// The name of a `model_type` as its authors write it.
fn family(model_type: &str) -> String {
    match model_type {
        "roberta" => "RoBERTa".into(),
        "distilbert" => "DistilBERT".into(),
        "megatron-bert" => "Megatron-BERT".into(),
        "modernbert" => "ModernBERT".into(),
        other => other.to_uppercase(),
    }
}

fn method(lineage: &Lineage) -> String {
    let policy = policy(last_masks(lineage));
    let masking = match lineage.strategy() {
        Strategy::Policy => format!("{policy} masking"),
        Strategy::Own => "self-masking".into(),
        Strategy::Teacher => "teacher masking".into(),
        Strategy::Online if asks_nobody(policy) => format!("online {policy} masking"),
        Strategy::Online => "online self-masking".into(),
    };
    let distillation = if lineage.is_distilled() { " with distillation" } else { "" };
    masking + distillation
}

fn masking(lineage: &Lineage) -> String {
    let masks = last_masks(lineage);
    let (policy, how) = (policy(masks), how(masks));
    let rate = masks.and_then(|config| config["rate"].as_f64());
    let rate = rate.map_or_else(|| "a share".into(), percent);
    match lineage.strategy() {
        Strategy::Online if asks_nobody(policy) => {
            format!("While it was trained, it masked {rate} of the tokens {how}.")
        }
        Strategy::Online => format!(
            "While it was trained, it masked {rate} of the tokens, chosen by the entropy of its own predictions \
             (policy “{policy}”)."
        ),
        Strategy::Policy => format!("It masked {rate} of the tokens {how}."),
        Strategy::Own => own_masking(lineage, &rate, policy),
        Strategy::Teacher => {
            format!(
                "It masked {rate} of the tokens, chosen by the entropy of a teacher’s predictions (policy “{policy}”)."
            )
        }
    }
}

fn own_masking(lineage: &Lineage, rate: &str, policy: &str) -> String {
    if !lineage.has_first_round() {
        return format!(
            "It masked {rate} of the tokens, in the rounds that are there chosen by the entropy of the model’s own predictions (policy \
             “{policy}”); its first rounds are gone."
        );
    }
    let later = match lineage.rounds.len() {
        2 => "the second one".into(),
        rounds => format!("each of the {} rounds after it", rounds.saturating_sub(1)),
    };
    let first = how(lineage.mask_config(&lineage.rounds[0], "masks"));
    format!(
        "The first round masked {rate} of the tokens {first}; {later} chose them by the entropy of the model’s own \
         predictions (policy “{policy}”)."
    )
}

/// A phase with other masks, where there was one.
fn first_phase(lineage: &Lineage) -> String {
    let config = &lineage.model().manifest.config;
    let transfer = &config["mask_transfer"];
    let role = if config["online"].is_object() { "masks" } else { "init_masks" };
    if !transfer.is_object() {
        return String::new();
    }
    let how = how(lineage.mask_config(lineage.model(), role));
    let fraction = || transfer["init_fraction"].as_f64().map_or_else(|| "a part".into(), percent);
    let length = match transfer["init_tokens"].as_u64() {
        Some(tokens) => format!("{} tokens", large(tokens as f64)),
        None => format!("{} of the training", fraction()),
    };
    if transfer["mode"] == "anneal" {
        return format!(
            " Over the first {length} these masks took by degrees the place of others, chosen {how}."
        );
    }
    format!(" In the first {length} it had other masks, chosen {how}.")
}

/// How tokens are chosen, after “masked” or “chosen”.
fn how(masks: Option<&Value>) -> String {
    match policy(masks) {
        "random" => "at random".into(),
        "frequency" => "by how rare they are (policy “frequency”)".into(),
        "span" => "in spans of words at random places (policy “span”)".into(),
        UNKNOWN => "in a way that cannot be told any more".into(),
        other => format!("by the policy “{other}”"),
    }
}

/// Whether a policy needs no entropies.
fn asks_nobody(policy: &str) -> bool {
    ["random", "frequency", "span"].contains(&policy)
}

fn percent(share: f64) -> String {
    format!("{}\u{a0}%", (share * 1000.0).round() / 10.0)
}

fn guidance(lineage: &Lineage) -> &'static str {
    if lineage.is_distilled() { " It also learned from the predictions of a teacher." } else { "" }
}

/// How masks were chosen last.
fn last_masks(lineage: &Lineage) -> Option<&Value> {
    let model = lineage.model();
    match model.manifest.config["online"].get("mask") {
        Some(online) => Some(online),
        None => lineage.mask_config(model, "masks"),
    }
}

fn policy(masks: Option<&Value>) -> &str {
    masks.and_then(|config| config["policy"]["name"].as_str()).unwrap_or(UNKNOWN)
}

const UNKNOWN: &str = "unknown";

/// The corpus's name: that of the folder of its tokens.
fn corpus(lineage: &Lineage) -> Option<String> {
    let stage = lineage.of_kind(Kind::Tokens).next()?;
    Some(stage.artifact.dir.file_name()?.to_string_lossy().into_owned())
}
