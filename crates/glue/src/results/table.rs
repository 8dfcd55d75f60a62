//! The summary as text.

use std::collections::BTreeSet;
use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use serde_json::{Map, Value};

use super::{Estimate, SplitFacts, Summary, TaskSummary};
use crate::config::FineTuning;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "dev scores in percent, mean ± standard deviation over seeds; floor: the best single answer to all rows"
        )?;
        write!(f, "{}", self.table())?;
        self.count(f, "rows cut to max_length tokens", |split| split.truncated)?;
        self.count(f, "short rows left out", |split| split.skipped)?;
        self.note(f, "not the official splits", subset)?;
        self.note(f, "NOT THE WHOLE TASK, trained on a sample of the rows", sampled)?;
        self.note(f, "of the parameters trained", trained)?;
        self.note(f, "on one half of the dev rows, chosen on the other", |task| {
            task.recipe.halves.then(|| chosen(task))
        })
    }
}

impl Summary {
    fn table(&self) -> Table {
        let mut table = Table::new();
        let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["task", "metric", "floor", "score", "seeds"]);
        for task in &self.tasks {
            let mean = (task.metrics.len() > 1).then_some(&task.score);
            for estimate in task.metrics.iter().chain(mean) {
                table.add_row(cells(&task.task, estimate));
            }
        }
        for average in &self.averages {
            table.add_row(cells("", average));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Says for which tasks something was counted; nothing if for none.
    fn count(&self, f: &mut fmt::Formatter<'_>, what: &str, count: fn(&SplitFacts) -> usize) -> fmt::Result {
        let counted = |task: &TaskSummary| Some(task.total(count)).filter(|n| *n > 0).map(|n| n.to_string());
        self.note(f, what, counted)
    }

    /// Says what there is to say about some tasks; nothing if about none.
    fn note(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        about: impl Fn(&TaskSummary) -> Option<String>,
    ) -> fmt::Result {
        let notes = self.tasks.iter().filter_map(|task| Some(format!("{} {}", task.task, about(task)?)));
        let notes: Vec<_> = notes.collect();
        if notes.is_empty() { Ok(()) } else { write!(f, "\n{what}: {}", notes.join(", ")) }
    }
}

/// `12 of 34 to train on, 5 of 6 to score`: rows of the file, whatever is sampled from it.
fn subset(task: &TaskSummary) -> Option<String> {
    let train = [task.train].into_iter().map(|split| (split, "to train on"));
    let scored = if task.recipe.halves { "to score, half of another split" } else { "to score" };
    let dev = task.dev.iter().map(|&split| (split, scored));
    let rows = |split: &SplitFacts| split.sampled_from.unwrap_or(split.rows);
    let part =
        |(split, what): (SplitFacts, &str)| Some(format!("{} of {} {what}", rows(&split), split.official?));
    let parts: Vec<_> = train.chain(dev).filter_map(part).collect();
    (!parts.is_empty()).then(|| format!("({})", parts.join(", ")))
}

/// `10000 of 104743`
fn sampled(task: &TaskSummary) -> Option<String> {
    Some(format!("{} of {}", task.train.rows, task.train.sampled_from?))
}

/// `1.2 %`, or of the first and the last epoch; nothing if all are trained.
fn trained(task: &TaskSummary) -> Option<String> {
    let parameters = &task.parameters;
    let share = |n: &u64| format!("{:.2} %", 100.0 * *n as f64 / parameters.total as f64);
    let (first, last) = (parameters.trainable.first()?, parameters.trainable.last()?);
    match (first == last, *first < parameters.total) {
        (true, false) => None,
        (true, true) => Some(share(first)),
        (false, _) => Some(format!("{} at first, {} at last", share(first), share(last))),
    }
}

fn chosen(task: &TaskSummary) -> String {
    match (task.tried.len(), task.recipe.patience) {
        (0, 0) => "nothing".into(),
        (0, _) => "the epoch".into(),
        (n, _) => format!("(of {n}: {})", choice(task)),
    }
}

/// `lr 0.0001, freeze body`: those keys in which the recipes of the grid differ.
fn choice(task: &TaskSummary) -> String {
    let reported = keys(&task.recipe);
    let tried: Vec<_> = task.tried.iter().map(|tried| keys(&tried.recipe)).collect();
    // Keys at their defaults are left out of some.
    let names: BTreeSet<&String> = tried.iter().flat_map(|keys| keys.keys()).collect();
    let differs = |name: &&&String| tried.iter().any(|keys| keys.get(**name) != tried[0].get(**name));
    let shown = |name: &String| match reported.get(name) {
        Some(Value::String(value)) => format!("{name} {value}"),
        Some(value) => format!("{name} {value}"),
        None => format!("{name} by default"),
    };
    names.iter().filter(differs).map(|name| shown(name)).collect::<Vec<_>>().join(", ")
}

fn keys(recipe: &FineTuning) -> Map<String, Value> {
    match serde_json::to_value(recipe) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}

fn cells(task: &str, estimate: &Estimate) -> [String; 5] {
    [
        task.into(),
        estimate.name.clone(),
        format!("{:.1}", estimate.floor),
        estimate.shown(),
        estimate.values.len().to_string(),
    ]
}

impl Estimate {
    fn shown(&self) -> String {
        match self.std {
            Some(std) => format!("{:.1} ± {std:.1}", self.mean),
            None => format!("{:.1}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tried;
    use super::super::summary::tests::{run, summary};
    use super::*;
    use crate::config::Freeze;

    #[test]
    fn one_seed_has_no_standard_deviation() {
        let runs = [vec![vec![run("RTE", 3, &[("accuracy", 52.7, 60.0)])]]];
        let summary = Summary::new("c0", None, &runs);
        assert_eq!((summary.tasks[0].score.std, summary.averages.len()), (None, 1));
        assert!(!summary.to_string().contains("60.0 ±"), "{summary}");
    }

    #[test]
    fn the_table_shows_every_number() {
        let text = summary().to_string();
        for part in [
            "MRPC",
            "f1",
            "82.0",
            "mean",
            "77.0 ± 2.8",
            "average of 2 tasks",
            "65.0 ± 0.7",
            "MRPC 4, WNLI 4",
            "MRPC (10 of 20 to train on, 10 of 20 to score), WNLI",
            "MRPC 100.00 % at first, 25.00 % at last",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("short rows") && !text.contains("chosen"), "{text}");
    }

    #[test]
    fn a_sample_of_the_training_rows_is_said() {
        let mut summary = summary();
        assert!(!summary.to_string().contains("sample"), "{summary}");
        summary.tasks[1].train.sampled_from = Some(34);
        let text = summary.to_string();
        assert!(
            text.contains("NOT THE WHOLE TASK, trained on a sample of the rows: WNLI 10 of 34"),
            "{text}"
        );
    }

    #[test]
    fn a_grid_says_what_it_chose_by_the_keys_that_it_varies() {
        let mut summary = summary();
        let task = &mut summary.tasks[0];
        let body = FineTuning { freeze: Freeze::Body, warmup: 0.2, halves: true, ..FineTuning::default() };
        let all = FineTuning { halves: true, warmup: 0.05, ..FineTuning::default() };
        task.recipe = body.clone();
        task.tried = [all.clone(), body].map(|recipe| Tried { recipe, choice: 50.0 }).to_vec();
        let text = summary.to_string();
        assert!(text.contains("chosen on the other: MRPC (of 2: freeze body, warmup 0.2)"), "{text}");
        summary.tasks[0].recipe = all;
        let text = summary.to_string();
        assert!(text.contains("(of 2: freeze by default, warmup 0.05)"), "{text}");
    }

    /// 10 rows were sampled from a file of 12, where 20 are official.
    #[test]
    fn the_rows_of_a_file_are_those_before_sampling() {
        let mut summary = summary();
        summary.tasks[0].train.sampled_from = Some(12);
        let text = summary.to_string();
        assert!(text.contains("MRPC (12 of 20 to train on, 10 of 20 to score)"), "{text}");
        assert!(text.contains("sample of the rows: MRPC 10 of 12"), "{text}");
    }

    #[test]
    fn what_was_chosen_is_said() {
        let mut summary = summary();
        summary.tasks[0].recipe.halves = true;
        summary.tasks[0].recipe.patience = 3;
        let text = summary.to_string();
        assert!(text.contains("chosen on the other: MRPC the epoch"), "{text}");
        assert!(
            text.contains("MRPC (10 of 20 to train on, 10 of 20 to score, half of another split)"),
            "{text}"
        );
    }
}
