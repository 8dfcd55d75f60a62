//! The view of soft targets.

use entromask_artifact::Manifest;
use serde::Serialize;

/// What soft targets say about themselves in their manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TargetsView {
    /// Masked positions.
    pub positions: u64,
    /// Tokens kept of each.
    pub top_k: u64,
    /// Temperature of the tails.
    pub temperature: f64,
    /// Mean probability of all tokens that were not kept.
    pub mean_tail: f64,
}

pub(super) fn view(manifest: Option<&Manifest>) -> TargetsView {
    let Some(Manifest { config, stats, .. }) = manifest else { return TargetsView::default() };
    TargetsView {
        positions: stats["positions"].as_u64().unwrap_or(0),
        top_k: stats["top_k"].as_u64().unwrap_or(0),
        temperature: config["temperature"].as_f64().unwrap_or(f64::NAN),
        mean_tail: stats["mean_tail"].as_f64().unwrap_or(f64::NAN),
    }
}
