//! One table of predictions: a header, then the number of the row and what is predicted.

use std::fmt::Write;

use crate::task::Task;

/// The first line of each table.
pub(super) const HEADER: &str = "index\tprediction";

/// The table of `values`: class numbers, or numbers, which are clipped to the task's range.
pub(super) fn write(task: &Task, values: &[f32]) -> String {
    let mut text = format!("{HEADER}\n");
    for (index, &value) in values.iter().enumerate() {
        // A string cannot fail to grow.
        let _ = match task.range {
            Some([least, largest]) => writeln!(text, "{index}\t{:.3}", value.clamp(least, largest)),
            None => writeln!(text, "{index}\t{}", task.labels[value as usize]),
        };
    }
    text
}

/// Whether a table reads as [`write`] writes it, and how many rows it has; `Err` says what is wrong in which line.
pub(super) fn check(task: &Task, text: &str) -> Result<usize, String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if header != HEADER {
        return Err(format!("line 1 is `{header}`, it must be `index`, a tab and `prediction`"));
    }
    let mut rows = 0;
    for line in lines {
        let place = rows + 2;
        let (index, value) = line.split_once('\t').ok_or_else(|| format!("line {place} has no tab"))?;
        if index.parse() != Ok(rows) {
            return Err(format!("line {place} has the index `{index}`, it must be {rows}"));
        }
        value_of(task, value)
            .map_err(|expected| format!("line {place} predicts `{value}`, it must be {expected}"))?;
        rows += 1;
    }
    Ok(rows)
}

/// `Err` says what was expected.
fn value_of(task: &Task, value: &str) -> Result<(), String> {
    let Some([least, largest]) = task.range else {
        let known = task.labels.iter().any(|label| label == value);
        return if known { Ok(()) } else { Err(format!("one of {}", task.labels.join(", "))) };
    };
    let inside = value.parse::<f32>().is_ok_and(|number| (least..=largest).contains(&number));
    if inside { Ok(()) } else { Err(format!("a number from {least} to {largest}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_their_labels_and_numbers_are_clipped() -> anyhow::Result<()> {
        assert_eq!(
            write(Task::named("RTE")?, &[1.0, 0.0]),
            "index\tprediction\n0\tnot_entailment\n1\tentailment\n"
        );
        assert_eq!(
            write(Task::named("STS-B")?, &[-0.2, 5.1, 2.34567]),
            "index\tprediction\n0\t0.000\n1\t5.000\n2\t2.346\n"
        );
        Ok(())
    }

    #[test]
    fn what_is_written_is_accepted() {
        for task in crate::task::glue() {
            let values: Vec<_> = (0..7).map(|row| (row % task.outputs()) as f32).collect();
            assert_eq!(check(task, &write(task, &values)), Ok(7), "{}", task.name);
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() -> anyhow::Result<()> {
        let cases = [
            ("RTE", "", "line 1 is ``"),
            ("RTE", "id\tlabel\n0\tentailment\n", "line 1 is `id\tlabel`"),
            ("RTE", "index\tprediction\n0 entailment\n", "line 2 has no tab"),
            ("RTE", "index\tprediction\n1\tentailment\n", "line 2 has the index `1`, it must be 0"),
            ("RTE", "index\tprediction\n0\tentailment\n1\t1\n", "line 3 predicts `1`"),
            ("RTE", "index\tprediction\n0\tentailment\tx\n", "line 2 predicts"),
            ("CoLA", "index\tprediction\n0\tacceptable\n", "one of 0, 1"),
            ("STS-B", "index\tprediction\n0\t5.001\n", "a number from 0 to 5"),
            ("STS-B", "index\tprediction\n0\tnan\n", "a number from 0 to 5"),
        ];
        for (task, text, named) in cases {
            let problem = check(Task::named(task)?, text).expect_err(named);
            assert!(problem.contains(named), "{problem}");
        }
        Ok(())
    }
}
