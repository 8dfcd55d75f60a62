//! The two halves of a split to score: one to choose on, one to report.
//!
//! A row's half is decided by its text, so that it is the same for every model, recipe and order of the file, and equal rows
//! are in one half.

use std::path::Path;

use entromask_fault::Fault;
use entromask_random::keyed;
use rand::Rng;

use crate::data::{Example, Split};

/// The rows to choose on and the rows to report.
///
/// # Errors
/// A [`Fault`] of class input if one of them is empty.
pub fn halves(split: Split, path: &Path) -> anyhow::Result<[Split; 2]> {
    let (choose, report): (Vec<_>, Vec<_>) = split.examples.into_iter().partition(is_to_choose_on);
    if choose.is_empty() || report.is_empty() {
        return Err(Fault::input(format!("{}: too few rows to halve", path.display()))
            .remedy("leave `grid`, `patience` and `halves` out of the recipe of this task")
            .into());
    }
    let half = |examples| Split { examples, sampled_from: None, ..split };
    Ok([half(choose), half(report)])
}

fn is_to_choose_on(example: &Example) -> bool {
    let second = example.second.as_deref().unwrap_or_default();
    keyed(0, &format!("glue half {}\t{second}", example.first), 0, 0).next_u64().is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(index: usize) -> Example {
        Example {
            first: format!("sentence {index}"),
            second: index.is_multiple_of(2).then(|| "b".into()),
            label: 0.0,
        }
    }

    fn split(rows: impl Iterator<Item = usize>) -> Split {
        Split { examples: rows.map(example).collect(), ..Split::default() }
    }

    #[test]
    fn each_row_is_in_one_half_whatever_the_order() -> anyhow::Result<()> {
        let [choose, report] = halves(split(0..1000), Path::new("dev.tsv"))?;
        assert_eq!(choose.examples.len() + report.examples.len(), 1000);
        // Four standard deviations of a binomial with n = 1000 and p = 1/2.
        assert!(choose.examples.len().abs_diff(500) < 64, "{}", choose.examples.len());
        let [backwards, _] = halves(split((0..1000).rev()), Path::new("dev.tsv"))?;
        assert!(backwards.examples.iter().rev().eq(&choose.examples));
        Ok(())
    }

    #[test]
    fn one_row_cannot_be_halved() {
        let error = halves(split(0..1), Path::new("dev.tsv")).expect_err("refused");
        assert!(error.to_string().contains("dev.tsv: too few rows"), "{error}");
    }
}
