//! What has to be known to read a comparison.

use serde_json::Value;

use super::difference::LEVEL;
use super::{Line, Results, System};
use crate::leaves::differences;
use crate::number::counted;

/// What is true of all results, then what of each makes it another thing than the baseline.
pub(super) fn notes(
    results: &[Results],
    systems: &[System],
    shared: &[String],
    lines: &[Line],
) -> Vec<String> {
    let mut notes = remarks(results, systems);
    for (one, system) in results.iter().zip(systems).skip(1) {
        let baseline = &results[0];
        let found = [
            left_out(baseline, one),
            pairs(baseline, one),
            (one.view.model == baseline.view.model).then(|| "the same model as the baseline".into()),
            recipes(baseline, one, shared),
            dtype(baseline, one),
            definitions(baseline, one, shared),
            files(baseline, one, shared),
        ];
        notes.extend(found.into_iter().flatten().map(|note| format!("{}: {note}", system.name)));
    }
    notes.extend(chance(lines));
    notes
}

/// What has to be known to read the scores: of all systems at once, if it is the same, else of each.
fn remarks(results: &[Results], systems: &[System]) -> Vec<String> {
    let all: Vec<_> = results.iter().map(|one| one.view.remarks()).collect();
    if all.iter().all(|remarks| *remarks == all[0]) {
        return all.into_iter().next().unwrap_or_default();
    }
    let named = |(remarks, system): (Vec<String>, &System)| {
        let name = system.name.clone();
        remarks.into_iter().map(move |remark| format!("{name}: {remark}"))
    };
    all.into_iter().zip(systems).flat_map(named).collect()
}

/// `RTE (not on the same rows) left out`
fn left_out(baseline: &Results, one: &Results) -> Option<String> {
    let mut tasks: Vec<_> =
        baseline.view.tasks.iter().chain(&one.view.tasks).map(|task| &*task.task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let obstacle = |task| Some(format!("{task} ({})", one.obstacle(task, baseline)?));
    let said: Vec<_> = tasks.into_iter().filter_map(obstacle).collect();
    (!said.is_empty()).then(|| format!("left out: {}", said.join(", ")))
}

/// What to expect of so many intervals.
fn chance(lines: &[Line]) -> Option<String> {
    let differences = lines.iter().flat_map(|line| &line.cells).filter_map(|cell| cell.difference.as_ref());
    let intervals = differences.filter(|difference| difference.t.is_some()).count();
    let missing = intervals as f64 * (1.0 - LEVEL);
    (intervals > 1).then(|| {
        format!("{intervals} intervals of 95 %: on average {missing:.1} of them miss by chance alone")
    })
}

fn pairs(baseline: &Results, one: &Results) -> Option<String> {
    let pairs = one.view.seeds.iter().filter(|seed| baseline.view.seeds.contains(seed)).count();
    let are = if pairs == 1 { "is" } else { "are" };
    let only = pairs < one.view.seeds.len() || pairs < baseline.view.seeds.len();
    only.then(|| format!("only {} {are} paired", counted(pairs as u64, "seed")))
}

/// Which settings of the shared tasks differ, `RTE.lr 0.00001 instead of 0.00003`.
fn recipes(baseline: &Results, one: &Results, shared: &[String]) -> Option<String> {
    let settings = |results: &Results| {
        let tasks = shared.iter().map(|task| (task.clone(), results.manifest.config["tasks"][task].clone()));
        Value::Object(tasks.collect())
    };
    Some(format!("another recipe, {}", differences(&settings(baseline), &settings(one))?))
}

fn dtype(baseline: &Results, one: &Results) -> Option<String> {
    let of = |results: &Results| results.manifest.config["dtype"].as_str().unwrap_or("f32").to_owned();
    let (own, other) = (of(one), of(baseline));
    (own != other).then(|| format!("fine-tuned in {own} instead of {other}"))
}

/// Tasks of one's own may have one name and be different.
fn definitions(baseline: &Results, one: &Results, shared: &[String]) -> Option<String> {
    let differ =
        |task: &&String| [one, baseline].map(|results| &results.manifest.config["definitions"][*task]);
    let differing = shared.iter().filter(|task| differ(task)[0] != differ(task)[1]);
    named("tasks of another definition", differing)
}

/// Where the content of the tasks' files is known to differ.
fn files(baseline: &Results, one: &Results, shared: &[String]) -> Option<String> {
    let content = |results: &Results, task: &str| {
        results.manifest.inputs.iter().find(|input| input.role == task).map(|input| input.content.clone())
    };
    let differing = shared.iter().filter(|task| content(one, task) != content(baseline, task));
    named("tasks whose files have other content", differing)
}

fn named<'a>(what: &str, tasks: impl Iterator<Item = &'a String>) -> Option<String> {
    let tasks: Vec<_> = tasks.map(String::as_str).collect();
    (!tasks.is_empty()).then(|| format!("{what}: {}", tasks.join(", ")))
}
