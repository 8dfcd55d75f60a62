//! A sample of the training rows, for those who compare many models on few cores.
//!
//! A row's text draws its number, and the rows with the lowest numbers are taken: the same ones for every model, seed and
//! order of the file, and all of a smaller sample are in each larger one.

use std::path::Path;

use entromask_fault::Fault;
use entromask_random::keyed;
use rand::Rng;

use crate::data::{Example, Split};

/// At most `wanted` rows of `split`, in the order of the file.
///
/// # Errors
/// A [`Fault`] of class input if there are, or would be left, rows of one class only, which no classifier learns from.
pub fn sample(split: Split, wanted: Option<usize>, path: &Path) -> anyhow::Result<Split> {
    let rows = split.examples.len();
    if !has_several_labels(&split.examples) {
        return Err(one_label(
            path,
            &format!("{rows}"),
            "add rows with other labels: from these nothing is learned",
        ));
    }
    let Some(wanted) = wanted.filter(|wanted| *wanted < rows) else { return Ok(split) };
    let mut order: Vec<usize> = (0..rows).collect();
    let numbers: Vec<u64> = split.examples.iter().map(number).collect();
    order.sort_by_key(|&row| (numbers[row], row));
    let mut is_taken = vec![false; rows];
    order[..wanted].iter().for_each(|&row| is_taken[row] = true);
    let taken = split.examples.into_iter().zip(is_taken).filter(|(_, is_taken)| *is_taken);
    let examples: Vec<_> = taken.map(|(example, _)| example).collect();
    if !has_several_labels(&examples) {
        return Err(one_label(path, &format!("{wanted} sampled"), "raise `train_rows` for this task"));
    }
    Ok(Split { examples, sampled_from: Some(rows), ..split })
}

fn number(example: &Example) -> u64 {
    let second = example.second.as_deref().unwrap_or_default();
    keyed(0, &format!("glue training row {}\t{second}", example.first), 0, 0).next_u64()
}

fn one_label(path: &Path, rows: &str, remedy: &str) -> anyhow::Error {
    Fault::input(format!("{}: one label in all of {rows} rows", path.display())).remedy(remedy).into()
}

fn has_several_labels(examples: &[Example]) -> bool {
    examples.windows(2).any(|pair| pair[0].label.total_cmp(&pair[1].label).is_ne())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(rows: impl Iterator<Item = usize>) -> Split {
        let example = |row: usize| Example {
            first: format!("sentence {row}"),
            second: row.is_multiple_of(2).then(|| "b".into()),
            label: (row % 3) as f32,
        };
        Split { examples: rows.map(example).collect(), ..Split::default() }
    }

    fn sampled(split: Split, wanted: usize) -> Vec<Example> {
        sample(split, Some(wanted), Path::new("train.tsv")).expect("several classes").examples
    }

    #[test]
    fn a_sample_has_its_size_whatever_the_order_and_lies_in_each_larger_one() {
        let [small, large] = [100, 300].map(|wanted| sampled(split(0..1000), wanted));
        assert_eq!((small.len(), large.len()), (100, 300));
        assert!(small.iter().all(|example| large.contains(example)));
        assert!(sampled(split((0..1000).rev()), 100).iter().rev().eq(&small));
        // Not the first rows: 100 of 1000 have a mean place of 500 with a standard deviation of 27.
        let all = split(0..1000).examples;
        let places =
            small.iter().map(|example| all.iter().position(|other| other == example).expect("there"));
        let mean = places.sum::<usize>() as f64 / 100.0;
        assert!((mean - 500.0).abs() < 5.0 * 27.4, "{mean}");
    }

    #[test]
    fn what_is_not_more_is_left_alone() {
        let whole = |wanted| sample(split(0..10), wanted, Path::new("train.tsv")).expect("is allowed");
        for wanted in [None, Some(10), Some(11)] {
            assert_eq!(whole(wanted), split(0..10));
        }
        assert_eq!(whole(Some(9)).sampled_from, Some(10));
    }

    #[test]
    fn one_label_is_no_task() {
        let error = sample(split(0..1000), Some(1), Path::new("train.tsv")).expect_err("refused");
        assert!(error.to_string().contains("train.tsv: one label in all of 1 sampled rows"), "{error}");
        let alike = split((0..9).map(|row| 3 * row));
        let error = sample(alike, None, Path::new("train.tsv")).expect_err("refused");
        assert!(error.to_string().contains("train.tsv: one label in all of 9 rows; add"), "{error}");
    }
}
