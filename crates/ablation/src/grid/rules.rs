//! Mistakes of a grid that would else show late: when all that comes before the stage that refuses them is made, or never.

use entromask_fault::Fault;
use toml::Table;

use super::choice::CONSTANT;
use super::file::{Block, File};
use super::{Axis, Catalogue, Choice, overrides};

/// Keys of masks that are not for a schedule: what other axes set, and whatever would make the policy another one.
const SET_ELSEWHERE: [&str; 5] = ["seed", "first_epoch", "epochs", "policy", "policy.name"];

/// What the grid says as a whole.
pub(super) fn check_file(file: &File, catalogue: &Catalogue) -> anyhow::Result<()> {
    file.glue.iter().try_for_each(|name| catalogue.check("glue", "glue", name))?;
    file.glue.iter().try_for_each(|name| overrides::check_halves(name, catalogue))?;
    let baselines = file.baseline.0.iter().map(|block| ("baseline", block));
    for (name, block) in baselines.chain([("fixed", &file.fixed)]) {
        if let Some((axis, _)) = block.iter().find(|(_, value)| value.is_array()) {
            let found = format!("[{name}]: `{}` is a list", axis.name());
            return Err(refuse(found, "give one value, or move it to [axes]"));
        }
    }
    if file.baseline.0.iter().any(|block| block.contains_key(&Axis::Seed)) {
        return Err(refuse(
            "baseline: `seed`".into(),
            "leave it out: runs are compared with those of their seed",
        ));
    }
    if file.jobs == 0 || file.threads == Some(0) {
        return Err(refuse("jobs or threads are 0".into(), "give at least one"));
    }
    if let Some(name) =
        file.glue.iter().enumerate().find_map(|(i, name)| file.glue[..i].contains(name).then_some(name))
    {
        return Err(refuse(format!("glue: {name:?} stands there twice"), "name each configuration once"));
    }
    check_schedule_names(file)
}

fn check_schedule_names(file: &File) -> anyhow::Result<()> {
    if file.schedules.contains_key(CONSTANT) {
        let found = format!("[schedules] {CONSTANT}: that is the name of no schedule");
        return Err(refuse(found, "give it another name"));
    }
    if let Some(name) = file.schedules.keys().find(|name| !is_plain(name)) {
        let found = format!("[schedules] {name:?}: names become parts of the names of folders");
        return Err(refuse(found, "use letters, digits, `-`, `_` and `.`"));
    }
    Ok(())
}

/// Whether it is one part of a path wherever it stands in it.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    !["", ".", ".."].contains(&name) && name.chars().all(fits)
}

/// A pattern that fits no point was meant to leave something out. `unused` are those.
pub(super) fn check_excludes(unused: &[&Block]) -> anyhow::Result<()> {
    let Some(pattern) = unused.first() else { return Ok(()) };
    let values = pattern.iter().map(|(axis, value)| format!("{} = {value}", axis.name()));
    let found = format!("[[exclude]] {}: there is no such run", values.collect::<Vec<_>>().join(", "));
    Err(refuse(found, "check its values, or leave it out"))
}

/// A resolved choice against the files that it names.
pub(super) fn check_choice(choice: &Choice, file: &File, catalogue: &Catalogue) -> anyhow::Result<()> {
    if let Some(schedule) = file.schedules.get(&choice.schedule) {
        check_schedule(choice, schedule, catalogue)?;
    }
    if let Some(rate) = choice.rate {
        check_rate(choice, rate, catalogue)?;
    }
    check_guidance(choice, catalogue)?;
    check_freezing(choice, file, catalogue)?;
    overrides::check_choice(choice, file, catalogue)
}

fn check_schedule(choice: &Choice, schedule: &Table, catalogue: &Catalogue) -> anyhow::Result<()> {
    if let Some(key) = schedule.keys().find(|key| SET_ELSEWHERE.contains(&key.as_str())) {
        let found = format!("[schedules] {}: `{key}`", choice.schedule);
        return Err(refuse(
            found,
            "a schedule has `rate` and parameters of the policy, such as \"policy.temperature\"",
        ));
    }
    if let Some(rate) = choice.rate.filter(|_| schedule.contains_key("rate")) {
        let found = format!("rate = {rate} with schedule = {:?}, which sets the rate", choice.schedule);
        return Err(refuse(found, "exclude the pair, or give the rate in the schedule"));
    }
    let named = |error: anyhow::Error| Fault::usage(format!("[schedules] {}: {error:#}", choice.schedule));
    Ok(catalogue.scheduled(&choice.strategy, schedule).map_err(named)?)
}

/// Not every policy can have every rate.
fn check_rate(choice: &Choice, rate: f64, catalogue: &Catalogue) -> anyhow::Result<()> {
    let set = Table::from_iter([("rate".to_owned(), rate.into())]);
    let named = |error: anyhow::Error| {
        Fault::usage(format!("rate = {rate} with strategy = {:?}: {error:#}", choice.strategy))
    };
    Ok(catalogue.scheduled(&choice.strategy, &set).map_err(named)?)
}

/// Recipes with a teacher are for distillation, and no others.
fn check_guidance(choice: &Choice, catalogue: &Catalogue) -> anyhow::Result<()> {
    let (train, distillation) = (&choice.train, &choice.distillation);
    if catalogue.is_guided(train)? {
        let found = format!("train = {train:?}: this recipe needs a teacher");
        return Err(refuse(found, "name it under distillation, and one without a teacher here"));
    }
    if !distillation.is_empty() && !catalogue.is_guided(distillation)? {
        let found = format!("distillation = {distillation:?}: nothing in this recipe asks a teacher");
        return Err(refuse(found, "name one whose objective has kd, cos or hidden, or \"none\""));
    }
    Ok(())
}

fn check_freezing(choice: &Choice, file: &File, catalogue: &Catalogue) -> anyhow::Result<()> {
    let freezing = &choice.freezing;
    if !freezing.is_empty() && file.glue.is_empty() {
        let found = format!("freezing = {freezing:?} without fine-tuning");
        return Err(refuse(found, "name configurations under `glue`"));
    }
    let frozen: Option<i64> = freezing.strip_prefix("bottom-").and_then(|layers| layers.parse().ok());
    match frozen.zip(catalogue.layers(&choice.student)?).filter(|(frozen, layers)| frozen > layers) {
        None => Ok(()),
        Some((_, layers)) => {
            let found = format!("freezing = {freezing:?}: {} has {layers} layers", choice.student);
            Err(refuse(found, "freeze as many at most"))
        }
    }
}

pub(super) fn refuse(found: String, remedy: &str) -> anyhow::Error {
    Fault::usage(found).remedy(remedy).into()
}
