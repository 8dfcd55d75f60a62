//! Which label of a task each output of a classifier stands for.

use std::path::Path;

use entromask_fault::Fault;

use crate::task::Task;

/// The class of `task` that each output stands for, by the `names` that the classifier in `folder` gives its outputs.
///
/// Without such names, and where none of them is a label of the task, the order is taken to be the task's, with a warning.
///
/// # Errors
/// A [`Fault`] of class input if some of the names are labels of the task and others are not.
pub fn classes(task: &Task, names: &[String], folder: &Path) -> anyhow::Result<Vec<usize>> {
    let found: Vec<_> = names.iter().filter_map(|name| class(task, name)).collect();
    let is_whole = names.len() == task.outputs();
    let mut distinct = found.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if is_whole && distinct.len() == task.outputs() || task.is_regression() {
        return Ok(if task.is_regression() { vec![0] } else { found });
    }
    let (path, labels) = (folder.join("config.json"), task.labels.join(", "));
    if found.is_empty() {
        let shown = if names.is_empty() { "no names of labels".into() } else { names.join(", ") };
        tracing::warn!("{}: {shown}; taken to be in the order of {}: {labels}", path.display(), task.name);
        return Ok((0..task.outputs()).collect());
    }
    let problem =
        format!("{}: id2label has {}, {} has {labels}", path.display(), names.join(", "), task.name);
    Err(Fault::input(problem).remedy("name the classifier of this task, or correct id2label").into())
}

/// The label `name`, in other letters of the alphabet's two cases only where no label has these.
fn class(task: &Task, name: &str) -> Option<usize> {
    let place = |fits: &dyn Fn(&String) -> bool| task.labels.iter().position(fits);
    place(&|label| label == name).or_else(|| place(&|label| label.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_told_by_their_names() -> anyhow::Result<()> {
        let mnli = Task::named("MNLI")?;
        let of = |names: &[&str]| {
            classes(mnli, &names.iter().map(ToString::to_string).collect::<Vec<_>>(), Path::new("folder"))
        };
        assert_eq!(of(&["CONTRADICTION", "NEUTRAL", "ENTAILMENT"])?, [0, 2, 1]);
        for assumed in [&["LABEL_0", "LABEL_1", "LABEL_2"][..], &[]] {
            assert_eq!(of(assumed)?, [0, 1, 2]);
        }
        let one_more = ["other", "entailment", "neutral", "contradiction"];
        for wrong in
            [&["entailment", "neutral", "other"][..], &["neutral", "neutral", "entailment"], &one_more]
        {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.contains("folder/config.json") && error.contains(wrong[2]), "{error}");
        }
        let cased = Task { labels: vec!["us".into(), "US".into()], ..mnli.clone() };
        assert_eq!(classes(&cased, &["US".into(), "us".into()], Path::new(""))?, [1, 0]);
        assert_eq!(classes(Task::named("STS-B")?, &["LABEL_0".into()], Path::new(""))?, [0]);
        Ok(())
    }
}
