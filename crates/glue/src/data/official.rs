//! The number of rows of a split against the official one.

use std::path::Path;

use entromask_fault::Fault;

use super::Split;
use crate::task::Task;

/// Notes in the split, and warns, that it is not the official one.
///
/// # Errors
/// A [`Fault`] of class input if it has more rows than the official one and the task knows what that means.
pub(super) fn check(path: &Path, task: &Task, file: &str, split: Split) -> anyhow::Result<Split> {
    let Some(&official) = task.rows.get(file) else { return Ok(split) };
    let rows = split.examples.len();
    if rows == official {
        return Ok(split);
    }
    let path = path.display();
    if let Some(why) = task.at_most.as_ref().filter(|_| rows > official) {
        return Err(Fault::input(format!("{path}: {rows} rows, the official split has {official}"))
            .remedy(why)
            .into());
    }
    let what =
        if rows < official { "a subset: scores are not comparable with others'" } else { "another split" };
    tracing::warn!("{path}: {rows} rows, the official split has {official}; this is {what}");
    Ok(Split { official: Some(official), ..split })
}

#[cfg(test)]
mod tests {
    use entromask_fault::class_of;

    use super::*;
    use crate::data::Example;

    fn split(rows: usize) -> Split {
        let example = Example { first: "a".into(), second: None, label: 0.0 };
        Split { examples: vec![example; rows], ..Split::default() }
    }

    fn checked(task: &str, file: &str, rows: usize) -> anyhow::Result<Split> {
        check(Path::new(file), Task::named(task)?, file, split(rows))
    }

    #[test]
    fn a_subset_is_noted_and_the_whole_is_not() -> anyhow::Result<()> {
        assert_eq!(checked("RTE", "dev.tsv", 277)?.official, None);
        assert_eq!(checked("RTE", "dev.tsv", 276)?.official, Some(277));
        assert_eq!(checked("RTE", "dev.tsv", 278)?.official, Some(277));
        assert_eq!(checked("MNLI", "../diagnostic/diagnostic.tsv", 1104)?.official, None);
        assert_eq!(checked("RTE", "other.tsv", 3)?.official, None);
        Ok(())
    }

    #[test]
    fn the_first_version_of_qnli_is_refused() {
        for (file, rows) in [("train.tsv", 108_000), ("dev.tsv", 5_464), ("test.tsv", 5_464)] {
            let error = checked("QNLI", file, rows).expect_err("refused");
            assert_eq!(class_of(error.as_ref()).exit_code(), 3);
            assert!(
                error.to_string().contains("QNLIv2") && error.to_string().contains(&rows.to_string()),
                "{error}"
            );
        }
    }
}
