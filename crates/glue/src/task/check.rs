//! Whether a task's definition makes sense.

use std::collections::BTreeSet;

use super::{Column, Task};
use crate::metric::Metric;

/// `Err` says what contradicts what.
pub(super) fn check(task: &Task) -> Result<(), String> {
    let texts = task.text.len();
    require(is_name(&task.name), || format!("`name` is `{}`: letters, digits, `-` and `_` only", task.name))?;
    require((1..=2).contains(&texts), || format!("`text` has {texts} columns: one or two are read"))?;
    require(!task.dev.is_empty(), || "`dev` is empty: there is nothing to score on".into())?;
    require(distinct(task.dev.iter().map(|split| &split.name)), || {
        "two splits of `dev` have one `name`".into()
    })?;
    let mut columns = task.text.iter().chain([&task.label]);
    let named = |column: &Column| matches!(column, Column::Name(_));
    require(task.header || !columns.any(named), || {
        "without a header columns have numbers, not names".into()
    })?;
    target(task)?;
    metrics(task)
}

fn target(task: &Task) -> Result<(), String> {
    match task.range {
        Some(_) if !task.labels.is_empty() => Err("both `labels` and `range`: classes or a number?".into()),
        None if task.labels.is_empty() => Err("neither `labels` nor `range`: classes or a number?".into()),
        // Written so that NaN fails, too.
        Some([least, largest]) => {
            require(least < largest, || format!("`range` is from {least} to {largest}"))
        }
        None => {
            require(task.labels.len() > 1, || "`labels` has one label only".into())?;
            let unread =
                task.labels.iter().find(|label| label.trim() != *label || label.contains(['\t', '\n']));
            require(unread.is_none(), || {
                let label = unread.map(String::as_str).unwrap_or_default();
                format!(
                    "`labels` has {label:?}, which no row has: tabs part columns, and spaces around labels are dropped"
                )
            })?;
            require(distinct(task.labels.iter()), || "`labels` has a label twice".into())
        }
    }
}

fn metrics(task: &Task) -> Result<(), String> {
    require(!task.metrics.is_empty(), || "`metrics` is empty".into())?;
    for (index, metric) in task.metrics.iter().enumerate() {
        require(!task.metrics[..index].contains(metric), || format!("`metrics` has {metric} twice"))?;
        let of_numbers = matches!(metric, Metric::Pearson | Metric::Spearman);
        let kind = if task.is_regression() { "a regression" } else { "classes" };
        require(of_numbers == task.is_regression(), || format!("{metric} does not measure {kind}"))?;
        require(*metric != Metric::F1 || task.labels.len() == 2, || "f1 is for two classes".into())?;
    }
    Ok(())
}

/// Names become parts of file names.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn distinct<'a>(mut names: impl Iterator<Item = &'a String>) -> bool {
    let mut seen = BTreeSet::new();
    names.all(|name| seen.insert(name))
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() -> anyhow::Result<()> {
        let refused = |named: &str, change: fn(&mut Task)| -> anyhow::Result<()> {
            let mut task = Task::named("RTE")?.clone();
            change(&mut task);
            let problem = check(&task).expect_err(named);
            assert!(problem.contains(named), "{problem}");
            Ok(())
        };
        refused("`name`", |task| task.name = "a/b".into())?;
        refused("`text` has 3", |task| task.text.push(Column::Index(1)))?;
        refused("nothing to score", |task| task.dev.clear())?;
        refused("numbers, not names", |task| task.header = false)?;
        refused("both", |task| task.range = Some([0.0, 1.0]))?;
        refused("neither", |task| task.labels.clear())?;
        refused("one label only", |task| task.labels.truncate(1))?;
        refused("twice", |task| task.labels = vec!["x".into(); 2])?;
        refused("`labels` has \" x\", which no row has", |task| task.labels[1] = " x".into())?;
        refused("`labels` has \"x\\ty\"", |task| task.labels[0] = "x\ty".into())?;
        refused("`metrics` is empty", |task| task.metrics.clear())?;
        refused("`metrics` has accuracy twice", |task| task.metrics = vec![Metric::Accuracy; 2])?;
        refused("pearson does not measure classes", |task| task.metrics = vec![Metric::Pearson])?;
        refused("two classes", |task| {
            task.labels.push("maybe".into());
            task.metrics = vec![Metric::F1];
        })?;
        refused("from 5 to 0", |task| {
            task.labels.clear();
            task.range = Some([5.0, 0.0]);
        })
    }
}
