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
    format!("A masked language model{parameters}{tokens}{corpus}. {}{}", masking(lineage), guidance(lineage))
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

fn method(lineage: &Lineage) -> &'static str {
    match (lineage.strategy(), lineage.is_distilled()) {
        (Strategy::Random, false) => "random masking",
        (Strategy::Random, true) => "random masking with distillation",
        (Strategy::Own, false) => "self-masking",
        (Strategy::Own, true) => "self-masking with distillation",
        (Strategy::Teacher, false) => "teacher masking",
        (Strategy::Teacher, true) => "teacher masking with distillation",
        (Strategy::Online, false) => "online self-masking",
        (Strategy::Online, true) => "online self-masking with distillation",
    }
}

fn masking(lineage: &Lineage) -> String {
    let rate = rate(lineage)
        .map_or_else(|| "a share".into(), |rate| format!("{}\u{a0}%", (rate * 1000.0).round() / 10.0));
    let rounds = lineage.rounds.len();
    let policy = policy(lineage);
    match lineage.strategy() {
        Strategy::Online => format!(
            "While it was trained, it masked {rate} of the tokens, chosen by the entropy of its own predictions \
             (policy “{policy}”)."
        ),
        Strategy::Random => format!("It masked {rate} of the tokens at random."),
        Strategy::Own => {
            let later = match rounds {
                2 => "the second one".into(),
                _ => format!("each of the {} rounds after it", rounds.saturating_sub(1)),
            };
            format!(
                "The first round masked {rate} of the tokens at random; {later} chose them by the entropy of the \
                 model’s own predictions (policy “{policy}”)."
            )
        }
        Strategy::Teacher => {
            format!(
                "It masked {rate} of the tokens, chosen by the entropy of a teacher’s predictions (policy “{policy}”)."
            )
        }
    }
}

fn guidance(lineage: &Lineage) -> &'static str {
    if lineage.is_distilled() { " It also learned from the predictions of a teacher." } else { "" }
}

/// How masks were chosen last.
fn last_masks(lineage: &Lineage) -> Option<&Value> {
    if lineage.strategy() == Strategy::Online {
        return lineage.model().manifest.config["online"].get("mask");
    }
    Some(&lineage.of_kind(Kind::Masks).next_back()?.artifact.manifest.config)
}

fn rate(lineage: &Lineage) -> Option<f64> {
    last_masks(lineage)?["rate"].as_f64()
}

fn policy(lineage: &Lineage) -> String {
    let name = last_masks(lineage).and_then(|config| config["policy"]["name"].as_str());
    name.unwrap_or("unknown").to_string()
}

/// The corpus's name: that of the folder of its tokens.
fn corpus(lineage: &Lineage) -> Option<String> {
    let stage = lineage.of_kind(Kind::Tokens).next()?;
    Some(stage.artifact.dir.file_name()?.to_string_lossy().into_owned())
}
