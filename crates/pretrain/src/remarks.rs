//! What a run says about its beginning and its end that its numbers do not.

use entromask_artifact::Manifest;
use entromask_fault::{Class, class_of};
use entromask_training::{Checkpoints, is_divergence};
use serde_json::Value;

use crate::config::{Done, Transfer};
use crate::counters::Counters;
use crate::job::Job;

/// Bytes in memory of a token that is kept of a teacher, while it is read; measured.
const BYTES_KEPT: f64 = 25.0;

/// GiB of soft targets that are told of.
const MUCH: f64 = 2.0;

/// Keys of the configuration that decide the learning rate of a step, and where a phase ends.
const SCHEDULE: [&str; 8] =
    ["epochs", "budget", "lr", "warmup", "decay", "cooldown", "transfer", "mask_transfer"];

/// Masks decide where a run is in its schedule, also with the weights of another model, whose optimizer is not there to go on.
pub(crate) fn of_a_late_start(job: &Job, counters: &Counters) {
    let Done { at, total, .. } = counters.done(job.config.budget, job.plan.steps());
    if at > 0.0 {
        let rate = job.config.schedule(total).between(at, at + 1.0);
        tracing::warn!(
            "{}: begins with epoch {}, so that with --init the schedule begins at step {at} of {total}: at once with the \
             learning rate {rate:.2e}, without warmup, and with an optimizer that has seen no gradient; to begin anew take masks \
             with first_epoch = 0, to go on name the round before with --continue-from",
            job.paths.masks.display(),
            job.span.first_epoch
        );
    }
}

/// Small corpora may hold nothing out, which tokenizing says once.
pub(crate) fn of_nothing_held_out(job: &Job) {
    let held_out: u64 = job.tokens.parts("valid").filter_map(|part| part.rows).sum();
    if held_out == 0 && job.config.validation.rows > 0 {
        tracing::warn!(
            "{}: no row is held out, so that nothing says how good the model is; raise valid_fraction in the corpus config",
            job.paths.tokens.display()
        );
    }
}

/// Files of the project drop nothing, those of Hugging Face a tenth of all.
pub(crate) fn of_dropout(job: &Job) {
    let (drops, student) = (job.student.hidden_dropout_prob, &job.paths.student);
    let of_a_model = student.is_dir() || student.ends_with("config.json");
    if drops > 0.0 && of_a_model && job.config.dropout.is_none() {
        tracing::info!(
            "dropout of {drops}, as {} has it; `dropout = 0.0` in the recipe drops nothing, as with the students of pipelines/student/",
            student.display()
        );
    }
}

/// What soft targets take in memory follows from how much of them is mixed.
pub(crate) fn of_soft_targets(job: &Job) {
    let Some(targets) = &job.extra.targets else { return };
    let parts = job.tokens.parts("part").count();
    let positions = targets.stats["positions"].as_f64().unwrap_or(0.0) / job.span.epochs as f64;
    let kept = targets.config["top_k"].as_f64().unwrap_or(0.0) * BYTES_KEPT;
    let gib = positions * kept * job.config.mixed(parts) as f64 / parts.max(1) as f64 / f64::from(1 << 30);
    if gib > MUCH {
        tracing::warn!(
            "soft targets of {} of {parts} parts are in memory at once, about {gib:.0} GiB; a lower mix takes less",
            job.config.mixed(parts)
        );
    }
}

/// A round goes on where the one before stopped, in its own schedule.
pub(crate) fn of_another_schedule(job: &Job, earlier: &Manifest) {
    let (before, now) = (&earlier.config, &job.recipe.config);
    let shown = |value: &Value| if value.is_null() { "none".into() } else { value.to_string() };
    let changed = SCHEDULE.iter().filter(|key| before[**key] != now[**key]);
    let changed: Vec<_> =
        changed.map(|key| format!("{key}: {} -> {}", shown(&before[*key]), shown(&now[*key]))).collect();
    if !changed.is_empty() {
        tracing::warn!(
            "not the schedule of the round before ({}): the learning rate or a phase jumps here",
            changed.join(", ")
        );
    }
}

/// Of a run that came to its end at `done`; `before` is where the horizon stood before its last step.
pub(crate) fn of_the_end(job: &Job, done: Done, before: Option<Done>) {
    let is_spent = job.config.budget.is_some() && done.at >= done.total;
    let (end, epochs) = (job.span.end_epoch(), job.config.epochs);
    if end < epochs && !is_spent {
        tracing::info!(
            "epoch {end} of {epochs}: the schedule goes on in a next round (without one, set epochs = {end})"
        );
        return;
    }
    if end < epochs {
        tracing::warn!(
            "the budget, which counts all rounds, is used up after epoch {end} of {epochs}: a round after this one has nothing left"
        );
    }
    early_end(job, done);
    for (name, transfer) in
        [("transfer", Some(job.config.transfer)), ("mask_transfer", job.config.mask_transfer)]
    {
        if let Some(transfer) = transfer {
            phase_without_end(name, &transfer, before.unwrap_or(done));
        }
    }
}

/// Of a failure: where one can go on from, if anywhere.
pub(crate) fn of_a_failure(error: &anyhow::Error, checkpoints: &Checkpoints) {
    if class_of(error.as_ref()) != Class::Failed {
        return;
    }
    let Ok(Some(checkpoint)) = checkpoints.latest::<Counters>() else { return };
    if is_divergence(error) {
        tracing::warn!(
            "the last checkpoint is kept: with another configuration --init {} begins with its weights",
            checkpoint.folder.display()
        );
    } else {
        tracing::warn!(
            "the checkpoint at step {} is kept: the same command goes on from it",
            checkpoint.step
        );
    }
}

fn early_end(job: &Job, Done { at, total, .. }: Done) {
    if job.config.budget.is_some() && at < total {
        tracing::warn!(
            "the masks end after {:.1} % of the budget, and with them the schedule: make masks for more epochs \
             (ROUNDS and ROUND_EPOCHS of make)",
            100.0 * at / total
        );
    }
}

/// What comes after a first phase may never have come.
fn phase_without_end(name: &str, transfer: &Transfer, last: Done) {
    if !transfer.is_over(last) {
        let key = if transfer.init_tokens.is_some() { "init_tokens" } else { "init_fraction" };
        tracing::warn!(
            "{name}.{key}: the last step began after {} tokens, before the first phase ended: what should follow was never seen",
            last.tokens
        );
    }
}
