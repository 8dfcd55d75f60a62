//! What is measured, and how much systems differ in it.

use std::path::{Path, PathBuf};

use entromask_report::compare::Difference;
use entromask_report::number::short;
use serde::Serialize;

use super::contrast::{Contrast, contrasts};
use super::document::DASH;
use super::findings::{RunFindings, Scores, System};
use super::{compute, inline, validated};

/// Measures of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Headline.
    pub title: String,
    /// What has to be known to read it.
    pub note: String,
    /// Whether lower is better.
    pub lower_is_better: bool,
    /// Digits after the point.
    pub digits: usize,
    /// One line a measure, system and baseline.
    pub lines: Vec<Line>,
    /// How differences depend on what else was chosen; empty where a grid asks for it nowhere.
    pub contrasts: Vec<Contrast>,
}

/// One measure of one system beside one of its baselines.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What is measured: a task, or the loss.
    pub measure: String,
    /// What knows nothing gets.
    pub floor: Option<f64>,
    /// The system.
    pub system: usize,
    /// Operations where it is measured, if that is not the end of each run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_flops: Option<f64>,
    /// Value by seed, of the runs that are there.
    pub values: Vec<(u64, f64)>,
    /// Runs that there should be.
    pub wanted: usize,
    /// Their mean; none without a run.
    pub mean: Option<f64>,
    /// Their standard deviation (n − 1); none for fewer than two.
    pub sd: Option<f64>,
    /// The system that it is compared with; none for a baseline.
    pub against: Option<usize>,
    /// Over seeds that both have, by how much it lies above that one; none for a baseline and without pairs.
    pub difference: Option<Difference>,
    /// What that shows, in words.
    pub verdict: String,
}

/// Value of a run, and what knows nothing gets.
pub(super) type Value<'a> = dyn Fn(&RunFindings) -> Option<(f64, Option<f64>)> + 'a;

/// All groups: losses, then fine-tuning by configuration, each a name and a file.
pub(super) fn groups(
    systems: &[System],
    runs: &[RunFindings],
    glue: &[(String, PathBuf)],
    uncharged: &[String],
) -> Vec<Group> {
    let title = "Validation loss at the end of training";
    let same = validated::alike(systems, runs, &(0..systems.len()).collect::<Vec<_>>());
    let same =
        if same { ", the same for all runs on one corpus" } else { ", which are not the same for all runs" };
    let note = format!(
        "Nats a masked token on one fixed random 15 % mask of the held-out rows{same}{}.",
        trained_on(runs)
    );
    let losses = lines(systems, runs, "validation loss", true, &|run| Some((run.valid_loss?, None)));
    let contrasts = contrasts(systems, &losses, true);
    let mut groups = vec![losses_group((systems, runs), title, note, (losses, contrasts))];
    groups.extend(compute::group(systems, runs, uncharged));
    groups.extend(glue.iter().map(|(name, file)| fine_tuning((systems, runs), name, file)));
    groups
}

/// After how many tokens runs end.
fn trained_on(runs: &[RunFindings]) -> String {
    let ends = || runs.iter().filter_map(|run| run.curve.last()).map(|point| point.tokens);
    let (Some(least), Some(most)) = (ends().reduce(f64::min), ends().reduce(f64::max)) else {
        return String::new();
    };
    let [least, most] = [least, most].map(short);
    if least == most {
        format!(", after {least} tokens")
    } else {
        format!(", after {least} to {most} tokens")
    }
}

/// A group of losses, as far as they are of the same rows.
pub(super) fn losses_group(
    (systems, runs): (&[System], &[RunFindings]),
    title: &str,
    note: String,
    (lines, contrasts): (Vec<Line>, Vec<Contrast>),
) -> Group {
    let mut group = Group { title: title.into(), note, lower_is_better: true, digits: 4, lines, contrasts };
    validated::withhold(systems, runs, &mut group);
    group
}

fn fine_tuning((systems, runs): (&[System], &[RunFindings]), name: &str, file: &Path) -> Group {
    let scores: Vec<_> = runs.iter().filter_map(|run| run.glue.get(name)).collect();
    let tasks = scores.first().map(|scores| &scores.tasks[..]).unwrap_or_default();
    let seeds = scores.first().map_or(0, |scores| scores.seeds);
    let task = |(task, ..): &(String, f64, f64)| {
        let value = |run: &RunFindings| {
            let (_, floor, score) = run.glue.get(name)?.tasks.iter().find(|found| found.0 == *task)?;
            Some((*score, Some(*floor)))
        };
        lines(systems, runs, task, false, &value)
    };
    let mut found: Vec<Line> = tasks.iter().rev().take(1).flat_map(task).collect();
    found.extend(tasks.iter().take(tasks.len().saturating_sub(1)).flat_map(task));
    if tasks.is_empty() {
        found = lines(systems, runs, "all tasks", false, &|_| None);
    }
    Group {
        title: format!("Fine-tuning: {name}"),
        note: format!(
            "Percent on that half of each dev split which nothing is chosen on ({}); each value is the mean over the \
             fine-tuning seeds ({seeds}), and what is paired is the pretraining seed.{}",
            inline::code(&file.display().to_string()),
            remarks(&scores)
        ),
        lower_is_better: false,
        digits: 2,
        contrasts: contrasts(systems, &found, false),
        lines: found,
    }
}

/// What has to be known to read the scores, once for all runs that it is true of.
fn remarks(scores: &[&Scores]) -> String {
    let mut remarks: Vec<&String> = Vec::new();
    for remark in scores.iter().flat_map(|scores| &scores.remarks) {
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
    let sentence = |remark: &String| {
        let of = scores.iter().filter(|scores| scores.remarks.contains(remark)).count();
        let of =
            if of < scores.len() { format!(" (in {of} of {} runs)", scores.len()) } else { String::new() };
        let (first, rest) = remark.split_at_checked(1).unwrap_or(("", remark));
        format!(" {}{rest}{of}.", first.to_uppercase())
    };
    remarks.into_iter().map(sentence).collect()
}

fn lines(systems: &[System], runs: &[RunFindings], measure: &str, lower: bool, value: &Value) -> Vec<Line> {
    comparisons(systems).map(|pair| line((systems, runs), pair, (measure, lower), value)).collect()
}

/// Each system with each of its baselines, and with nothing where it has none.
pub(super) fn comparisons(systems: &[System]) -> impl Iterator<Item = (usize, Option<usize>)> {
    systems.iter().enumerate().flat_map(|(index, system)| {
        let none = system.baselines.is_empty().then_some(None);
        none.into_iter()
            .chain(system.baselines.iter().copied().map(Some))
            .map(move |against| (index, against))
    })
}

/// One measure, of which lower is better or not, of a system beside one of its baselines.
pub(super) fn line(
    (systems, runs): (&[System], &[RunFindings]),
    (index, against): (usize, Option<usize>),
    (measure, lower): (&str, bool),
    value: &Value,
) -> Line {
    let system = &systems[index];
    let own = values(system, runs, value);
    let baseline = against.map(|baseline| values(&systems[baseline], runs, value));
    let difference = baseline.and_then(|baseline| paired(&own, &baseline));
    let (mean, sd) = mean_and_sd(&own);
    Line {
        measure: measure.into(),
        floor: system.runs.iter().find_map(|&run| value(&runs[run])?.1),
        system: index,
        at_flops: None,
        wanted: system.runs.len(),
        verdict: verdict((systems, runs), index, &own, difference.as_ref(), lower),
        values: own,
        mean,
        sd,
        against,
        difference,
    }
}

/// The value of each run of a system that has one, by seed.
pub(super) fn values(system: &System, runs: &[RunFindings], value: &Value) -> Vec<(u64, f64)> {
    let found = system.runs.iter().map(|&run| &runs[run]);
    found.filter_map(|run| Some((run.seed, value(run)?.0))).collect()
}

/// Own less baseline, over seeds that both have.
fn paired(own: &[(u64, f64)], baseline: &[(u64, f64)]) -> Option<Difference> {
    let of = |(seed, value): &(u64, f64)| {
        let (_, other) = baseline.iter().find(|(found, _)| found == seed)?;
        Some(value - other)
    };
    let differences: Vec<_> = own.iter().filter_map(of).collect();
    (!differences.is_empty()).then(|| Difference::new(differences))
}

fn verdict(
    (systems, runs): (&[System], &[RunFindings]),
    index: usize,
    own: &[(u64, f64)],
    difference: Option<&Difference>,
    lower: bool,
) -> String {
    let system = &systems[index];
    // Where nothing is compared nothing is a baseline.
    let is_baseline = systems.iter().any(|other| other.baselines.contains(&index));
    match (own.is_empty(), system.baselines.is_empty(), difference) {
        (true, ..) if system.runs.iter().any(|&run| runs[run].missing.is_none()) => "not measured".into(),
        (true, ..) => "missing".into(),
        (_, true, _) if system.is_baseline => if is_baseline { "baseline" } else { DASH }.into(),
        (_, true, _) => "its baseline is not in the grid".into(),
        (_, _, None) => "no baseline of the same seed".into(),
        (_, _, Some(difference)) => {
            let sign = if lower { -1.0 } else { 1.0 };
            let good = Difference::new(difference.values.iter().map(|value| sign * value).collect());
            good.verdict().words().into()
        }
    }
}

fn mean_and_sd(values: &[(u64, f64)]) -> (Option<f64>, Option<f64>) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (None, None);
    }
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
    let squares: f64 = values.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    (Some(mean), (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::grid::Choice;
    use crate::report::{Point, Spent, Validated};

    pub(in crate::report) fn system(baseline: Option<usize>, runs: &[usize]) -> System {
        System {
            label: String::new(),
            choice: Choice::default(),
            baselines: baseline.into_iter().collect(),
            is_baseline: baseline.is_none(),
            runs: runs.to_vec(),
        }
    }

    fn run(system: usize, seed: u64, loss: f64) -> RunFindings {
        RunFindings { system, seed, valid_loss: Some(loss), ..RunFindings::default() }
    }

    /// Differences −0.2, −0.3, −0.25: mean −0.25, standard error 0.05/√3, t(0.975; 2) = 4.302653.
    #[test]
    fn differences_are_paired_by_seed_and_lower_losses_are_better() {
        let systems = [system(None, &[0, 1, 2]), system(Some(0), &[5, 3, 4])];
        let runs =
            [run(0, 1, 6.0), run(0, 2, 6.5), run(0, 3, 7.0), run(1, 1, 5.8), run(1, 2, 6.2), run(1, 3, 6.75)];
        let groups = groups(&systems, &runs, &[], &[]);
        let line = &groups[0].lines[1];
        let difference = line.difference.as_ref().expect("three pairs");
        let [low, high] = difference.t.expect("three pairs");
        let half = 4.302_652_73 * 0.05 / 3f64.sqrt();
        assert!((difference.mean + 0.25).abs() < 1e-12);
        assert!((low + 0.25 + half).abs() < 1e-8 && (high + 0.25 - half).abs() < 1e-8, "{low} {high}");
        assert_eq!(line.verdict, "better");
        assert_eq!((groups[0].lines[0].verdict.as_str(), groups[0].lines[0].sd), ("baseline", Some(0.5)));
    }

    /// 6.0, 5.8 and 5.5: the third lies 0.5 below the first and 0.3 below the second.
    #[test]
    fn a_system_is_compared_with_each_of_its_baselines() {
        let third = System { baselines: vec![0, 1], ..system(Some(0), &[2]) };
        let systems = [system(None, &[0]), system(Some(0), &[1]), third];
        let runs = [run(0, 1, 6.0), run(1, 1, 5.8), run(2, 1, 5.5)];
        let group = &groups(&systems, &runs, &[], &[])[0];
        let found: Vec<_> = group.lines.iter().map(|line| (line.system, line.against)).collect();
        assert_eq!(found, [(0, None), (1, Some(0)), (2, Some(0)), (2, Some(1))]);
        let means = group.lines.iter().filter_map(|line| Some(line.difference.as_ref()?.mean));
        let means: Vec<_> = means.map(|mean| (mean * 1e6).round() / 1e6).collect();
        assert_eq!(means, [-0.2, -0.5, -0.3]);
    }

    /// 1,024 rows and 12 of them are not one measure.
    #[test]
    fn losses_on_unlike_rows_have_no_verdict() {
        let systems = [system(None, &[0, 1]), system(Some(0), &[2, 3])];
        let mut runs = [run(0, 1, 6.0), run(0, 2, 6.5), run(1, 1, 5.8), run(1, 2, 6.31)];
        assert_eq!(groups(&systems, &runs, &[], &[])[0].lines[1].verdict, "better");
        for (run, rows) in runs.iter_mut().zip([1024, 1024, 12, 12]) {
            run.validated = Some(Validated { rows, positions: None });
        }
        let group = &groups(&systems, &runs, &[], &[])[0];
        assert_eq!(group.lines[1].verdict, "validated on other rows");
        assert!(group.note.contains("not the same for all runs"), "{}", group.note);
    }

    #[test]
    fn a_small_corpus_has_some_tokens() {
        let after = |tokens: f64| {
            let curve = vec![Point { step: 2, tokens, flops: 0.0, seconds: 0.0, loss: 6.0 }];
            RunFindings { curve, ..run(0, 1, 6.0) }
        };
        assert_eq!(trained_on(&[after(14_120.0), after(14_120.0)]), ", after 14.1 k tokens");
        assert_eq!(trained_on(&[after(14_120.0), after(20.7e6)]), ", after 14.1 k to 20.7 M tokens");
    }

    #[test]
    fn what_scores_are_of_is_said_once_for_all_runs() {
        let systems = [system(None, &[0, 1])];
        let (sampled, cut) = ("trained on a sample of the rows: QNLI 64 of 128", "rows cut: QNLI 3");
        let run = |seed, remarks: &[&str]| {
            let scores = Scores {
                key: String::new(),
                seeds: 2,
                spent: Spent::default(),
                tasks: vec![],
                remarks: remarks.iter().map(ToString::to_string).collect(),
            };
            RunFindings { glue: [("w".into(), scores)].into(), ..run(0, seed, 6.0) }
        };
        let runs = [run(1, &[sampled]), run(2, &[sampled, cut])];
        let group = &groups(&systems, &runs, &[("w".into(), "mine/glue/w.toml".into())], &[])[1];
        assert!(group.note.contains("(`mine/glue/w.toml`)"), "{}", group.note);
        let said =
            "seed. Trained on a sample of the rows: QNLI 64 of 128. Rows cut: QNLI 3 (in 1 of 2 runs).";
        assert!(group.note.ends_with(said), "{}", group.note);
    }

    #[test]
    fn a_system_without_its_baseline_is_no_baseline() {
        let alone = System { is_baseline: false, ..system(None, &[0]) };
        let group = &groups(&[alone], &[run(0, 1, 6.0)], &[], &[])[0];
        assert_eq!(group.lines[0].verdict, "its baseline is not in the grid");
    }

    #[test]
    fn nothing_is_a_baseline_where_nothing_is_compared() {
        let systems = [system(None, &[0]), system(None, &[1])];
        let group = &groups(&systems, &[run(0, 1, 6.0), run(1, 1, 5.0)], &[], &[])[0];
        assert!(group.lines.iter().all(|line| line.verdict == DASH), "{:?}", group.lines);
    }

    #[test]
    fn what_is_missing_is_said() {
        let systems = [system(None, &[0]), system(Some(0), &[1, 2]), system(Some(0), &[3])];
        let mut runs = [run(0, 1, 6.0), run(1, 1, 5.0), run(1, 2, 5.0), run(2, 1, 4.0)];
        (runs[3].valid_loss, runs[3].missing) = (None, Some("a model".into()));
        let group = &groups(&systems, &runs, &[("probe".into(), "glue/probe.toml".into())], &[]);
        let verdicts: Vec<_> = group[0].lines.iter().map(|line| line.verdict.as_str()).collect();
        assert_eq!(verdicts, ["baseline", "one seed: nothing shown", "missing"]);
        assert_eq!((group[0].lines[1].values.len(), group[0].lines[1].wanted), (2, 2));
        let verdicts: Vec<_> = group[1].lines.iter().map(|line| line.verdict.as_str()).collect();
        assert_eq!(verdicts, ["not measured", "not measured", "missing"]);
    }
}
