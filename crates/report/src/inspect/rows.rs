//! Choosing which row to show.

use entromask_artifact::Output;
use entromask_fault::Fault;
use entromask_tables::Ragged;

/// Where row `row` is: which of the parts, and its place there.
///
/// # Errors
/// A [`Fault`] of class usage if there are fewer rows.
pub(crate) fn find(parts: &[&Output], row: u64) -> anyhow::Result<(usize, usize)> {
    let mut before = 0;
    for (index, part) in parts.iter().enumerate() {
        let rows = part.rows.unwrap_or(0);
        if row < before + rows {
            return Ok((index, (row - before) as usize));
        }
        before += rows;
    }
    Err(Fault::usage(format!("row {row}: there are {before} rows")).remedy("rows are counted from 0").into())
}

/// A row that is as long as most: the first one that has at least nine tenths of the longest row's tokens.
pub(crate) fn long<T>(lists: &Ragged<T>) -> usize {
    let longest = lists.iter().map(<[T]>::len).max().unwrap_or(0);
    lists.iter().position(|row| row.len() * 10 >= longest * 9).unwrap_or(0)
}

/// Among the rows that are nearly as long as the longest, the one whose mean is nearest to that of all of them.
pub(crate) fn typical(lists: &Ragged<Option<f32>>) -> usize {
    let longest = lists.iter().map(<[_]>::len).max().unwrap_or(0);
    let long = lists.iter().enumerate().filter(|(_, row)| row.len() * 10 >= longest * 9);
    let means: Vec<(usize, f64)> = long.filter_map(|(index, row)| Some((index, mean(row)?))).collect();
    let middle = means.iter().map(|(_, mean)| mean).sum::<f64>() / means.len() as f64;
    let distance = |mean: f64| (mean - middle).abs();
    let nearest = means.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    nearest.map_or(0, |(index, _)| *index)
}

fn mean(row: &[Option<f32>]) -> Option<f64> {
    let scored: Vec<f64> = row.iter().flatten().map(|&nats| f64::from(nats)).collect();
    (!scored.is_empty()).then(|| scored.iter().sum::<f64>() / scored.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_across_parts() -> anyhow::Result<()> {
        let part = |rows| Output {
            file: String::new(),
            rows: Some(rows),
            bytes: 0,
            blake3: String::new(),
            log: false,
        };
        let (a, b) = (part(3), part(2));
        assert_eq!(find(&[&a, &b], 4)?, (1, 1));
        let error = find(&[&a, &b], 5).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 2);
        Ok(())
    }

    #[test]
    fn short_rows_and_outliers_are_not_typical() {
        let row = |nats: f32, n: usize| vec![Some(nats); n];
        let lists =
            Ragged::from_rows([row(2.0, 3), row(9.0, 10), row(2.2, 10), row(0.1, 10), vec![None; 10]]);
        assert_eq!(typical(&lists), 2);
        assert_eq!(long(&lists), 1);
        assert_eq!(typical(&Ragged::default()), 0);
    }
}
