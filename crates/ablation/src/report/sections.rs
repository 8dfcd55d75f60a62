//! What a report says, and in which order.

use std::collections::BTreeSet;
use std::path::Path;

use entromask_report::number::{counted, flops, signed};

use super::contrast::Contrast;
use super::costs::without;
use super::curve::{self, Axis, Point};
use super::document::{Cell, DASH, Document, Figure, Section, Table};
use super::expenses;
use super::findings::{Findings, RunFindings, System};
use super::measure::{Group, Line};
use super::plot::{self, Curve};
use super::stages::StageFindings;
use super::{provenance, twins, validated};

/// Characters of the reason why a stage is missing.
const LONGEST_REASON: usize = 160;

/// The report about `findings`; `grid` is the grid's file.
pub(super) fn document(findings: &Findings, grid: &Path) -> Document {
    let mut sections: Vec<_> = findings.groups.iter().map(|group| section(findings, group)).collect();
    // The curves belong to the losses, which come first.
    let losses = sections.iter().filter(|section| section.title.starts_with("Validation")).count();
    sections.insert(losses, curves(findings));
    sections.push(expenses::section(findings));
    sections.push(provenance::runs(findings));
    sections.push(provenance::stages(findings, grid));
    Document { title: findings.title.clone(), lead: lead(findings), sections }
}

fn lead(findings: &Findings) -> Vec<String> {
    let runs = &findings.runs;
    let complete = runs.iter().filter(|run| run.missing.is_none()).count();
    let mut lead = vec![findings.about.trim().to_string()];
    lead.push(format!(
        "{complete} of {} runs are complete. Values are mean ± standard deviation over pretraining seeds. A difference is that \
         to the run named under `against` over paired seeds (which runs of one student begin with the same weights and read the same rows in \
         the same order), with 95 % intervals by Student's t and by bootstrap; it counts as shown only if neither contains 0. With few seeds the bootstrap is too short, and of \
         twenty intervals one misses by chance.",
        runs.len()
    ));
    if findings.systems.iter().any(|system| !system.choice.teacher.is_empty()) {
        lead.push(
            "One teacher serves all seeds, so the intervals say how students vary with the seed, not how teachers do.".into(),
        );
    }
    lead.extend(programs(findings));
    lead.extend(taken(findings));
    lead.extend(uncompared(findings));
    lead.extend(unlike(findings));
    lead.extend(twins::of(findings).iter().map(|text| format!("Not different: {text}.")));
    lead.extend(validated::in_words(&findings.systems, runs));
    lead.extend(findings.unpaired.iter().map(|text| format!("Not compared: {text}.")));
    lead.extend(missing(findings));
    lead.retain(|text| !text.is_empty());
    lead
}

/// Which runs are not complete, and why.
fn missing(findings: &Findings) -> Option<String> {
    let why = |run: &RunFindings| {
        let stage = run.missing.as_ref()?;
        let reason = reason(findings, stage).map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(format!("{}, seed {} ({stage}{reason})", findings.systems[run.system].label, run.seed))
    };
    let missing: Vec<_> = findings.runs.iter().filter_map(why).collect();
    (!missing.is_empty()).then(|| format!("Missing: {}.", missing.join("; ")))
}

/// Why the stage of this name is not up to date: the beginning, since an artifact may differ in dozens of settings.
fn reason(findings: &Findings, name: &str) -> Option<String> {
    let out = findings.data.join(name);
    let of = |stage: &StageFindings| {
        let failed = stage.failed.as_ref().map(|words| format!("failed: {words}"));
        failed.or_else(|| stage.reason.clone())
    };
    let reason = findings.stages.iter().filter(|stage| stage.out == out).find_map(of)?;
    let words = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => Some(format!("{}…", &words[..end])),
        None => Some(words),
    }
}

/// Which programs trained the models, if several did.
fn programs(findings: &Findings) -> Option<String> {
    let models = findings.runs.iter().filter(|run| run.key.is_some());
    let programs: BTreeSet<_> =
        models.map(|run| run.made_by.as_deref().unwrap_or("a program unknown")).collect();
    let named = programs.iter().copied().collect::<Vec<_>>().join("; ");
    (programs.len() > 1).then(|| {
        format!(
            "The models were trained by {named}. Where the two of a pair were not trained by one binary on one kind of machine, \
             they differ by rounding too, which training amplifies."
        )
    })
}

/// Systems whose runs were made by configurations that differ in more than the seed: their mean is no mean of replicates.
fn unlike(findings: &Findings) -> Option<String> {
    let of_system = |system: &System| {
        let runs = system.runs.iter().map(|&run| &findings.runs[run]);
        let differ = |digest: fn(&RunFindings) -> Option<&str>| {
            runs.clone().filter_map(digest).collect::<BTreeSet<_>>().len() > 1
        };
        differ(|run| run.recipe.as_deref()) || differ(|run| run.lineage.as_deref())
    };
    let labels: Vec<_> = findings
        .systems
        .iter()
        .filter(|system| of_system(system))
        .map(|system| system.label.as_str())
        .collect();
    (!labels.is_empty()).then(|| {
        format!(
            "Not replicates: the models of {} were made by configurations (of the training, the masks or the scores behind \
             them) that differ in more than the seed, so their means and differences are of unlike runs.",
            labels.join("; ")
        )
    })
}

/// Which runs are known from other reports only, a paragraph a report.
fn taken(findings: &Findings) -> impl Iterator<Item = String> {
    let reports: BTreeSet<_> = findings.runs.iter().filter_map(|run| run.taken_from.as_ref()).collect();
    reports.into_iter().map(|report| {
        let seeds = |system: &System| -> Vec<String> {
            let runs = system.runs.iter().map(|&run| &findings.runs[run]);
            let taken = runs.filter(|run| run.taken_from.as_ref() == Some(report));
            taken.map(|run| run.seed.to_string()).collect()
        };
        let systems = findings.systems.iter().map(|system| (&system.label, seeds(system)));
        let named = systems.filter(|(_, seeds)| !seeds.is_empty());
        let named: Vec<_> =
            named.map(|(label, seeds)| format!("{label} (seed {})", seeds.join(", "))).collect();
        format!("Taken from {}, keys included: {}.", report.display(), named.join("; "))
    })
}

/// What was taken from other reports on trust.
fn uncompared(findings: &Findings) -> Option<String> {
    let stages: Vec<_> = findings.stages.iter().filter(|stage| stage.uncompared).collect();
    let (first, n) = (stages.first()?.out.display(), stages.len());
    Some(format!(
        "Taken without comparing configurations, since what they read is not here: {}, the first of them {first}. Their commands \
         are those of the report that they are from.",
        counted(n as u64, "stage")
    ))
}

fn section(findings: &Findings, group: &Group) -> Section {
    let mut table = Table::new(&[
        "measure",
        "run",
        "floor#",
        "n#",
        "at#",
        "value#",
        "against",
        "difference#",
        "95 %, t#",
        "95 %, bootstrap#",
        "verdict",
    ]);
    table.rows = group.lines.iter().map(|line| row(findings, group, line)).collect();
    if group.lines.iter().all(|line| line.at_flops.is_none()) {
        table.drop_column(4);
    }
    if group.lines.iter().all(|line| line.floor.is_none()) {
        table.drop_column(2);
    }
    if group.lower_is_better {
        table.drop_column(0);
    }
    let better = if group.lower_is_better { "Lower is better." } else { "Higher is better." };
    let mut section = Section {
        notes: vec![format!("{} {better}", group.note)],
        tables: vec![table],
        ..Section::new(&group.title)
    };
    if !group.contrasts.is_empty() {
        section.notes.push(CONTRASTS.into());
        section.tables.push(contrasts(findings, group));
    }
    section
}

const CONTRASTS: &str = "The second table says whether such a difference depends on what else was chosen: by how much it lies above \
                         the difference that it is held against, over seeds that all four runs have. It is better or worse than \
                         there if neither interval contains 0, whatever each of the two is by itself.";

fn contrasts(findings: &Findings, group: &Group) -> Table {
    let mut table = Table::new(&[
        "measure",
        "difference of",
        "held against that of",
        "n#",
        "change#",
        "95 %, t#",
        "95 %, bootstrap#",
        "verdict",
    ]);
    table.rows = group.contrasts.iter().map(|contrast| changed(findings, group, contrast)).collect();
    if group.lower_is_better {
        table.drop_column(0);
    }
    table
}

fn changed(findings: &Findings, group: &Group, contrast: &Contrast) -> Vec<Cell> {
    let digits = group.digits;
    let named = |pair: [usize; 2]| {
        let [system, baseline] = pair.map(|system| findings.systems[system].label.as_str());
        format!("{system} − {baseline}")
    };
    let change = &contrast.change;
    vec![
        contrast.measure.clone().into(),
        named(contrast.pair).into(),
        named(contrast.reference).into(),
        change.values.len().to_string().into(),
        signed(change.mean, digits).into(),
        interval(change.t, digits).into(),
        interval(change.bootstrap, digits).into(),
        Cell {
            text: contrast.verdict.clone(),
            strong: contrast.verdict.ends_with("than there"),
            code: false,
        },
    ]
}

fn row(findings: &Findings, group: &Group, line: &Line) -> Vec<Cell> {
    let digits = group.digits;
    let system = &findings.systems[line.system];
    let value = match (line.mean, line.sd) {
        (Some(mean), Some(sd)) => format!("{mean:.digits$} ± {sd:.digits$}"),
        (Some(mean), None) => format!("{mean:.digits$}"),
        _ => DASH.into(),
    };
    let difference = line.difference.as_ref();
    let mut count = match line.values.len() {
        n if n == line.wanted => n.to_string(),
        n => format!("{n} of {}", line.wanted),
    };
    if let Some(difference) = difference.filter(|difference| difference.values.len() < line.values.len()) {
        count = format!("{count}, {} paired", difference.values.len());
    }
    let strong = ["better", "worse"].contains(&line.verdict.as_str());
    vec![
        line.measure.clone().into(),
        system.label.clone().into(),
        line.floor.map_or(DASH.into(), |floor| format!("{floor:.1}")).into(),
        count.into(),
        line.at_flops.map_or(DASH.into(), flops).into(),
        value.into(),
        line.against.map_or(DASH, |baseline| &findings.systems[baseline].label).into(),
        difference.map_or(DASH.into(), |difference| signed(difference.mean, digits)).into(),
        interval(difference.and_then(|difference| difference.t), digits).into(),
        interval(difference.and_then(|difference| difference.bootstrap), digits).into(),
        Cell { text: line.verdict.clone(), strong, code: false },
    ]
}

fn interval(interval: Option<[f64; 2]>, digits: usize) -> String {
    interval.map_or(DASH.into(), |[low, high]| format!("{} to {}", signed(low, digits), signed(high, digits)))
}

/// The loss over tokens, operations and seconds.
fn curves(findings: &Findings) -> Section {
    let systems = findings.systems.iter().map(|system| drawn(findings, system));
    let drawn: Vec<_> = systems.filter(|curve| curve.points.len() > 1).collect();
    let mut section = Section::new("Learning curves");
    section.notes.push(format!(
        "Validation loss on the fixed mask, mean over the seeds that are there. At equal compute, the training of the teacher \
         and its scoring stand before the first step, also where a run begins without them; a model's own scoring stands \
         before the round that it is for. A lone run would pay all of it. Operations are by \
         formula; seconds are those of the machine that made each stage, on the threads that it had, beside whatever else the \
         machine did: they say roughly what to expect, and compare runs only where all were made side by side.{}",
        without(&findings.uncharged)
    ));
    if drawn.is_empty() {
        section.notes.push("Missing: no run has a curve yet.".into());
        return section;
    }
    let axes = [(Axis::Tokens, "tokens"), (Axis::Flops, "compute"), (Axis::Seconds, "seconds")];
    let captions = axes.map(|(axis, _)| plot::caption(&drawn, axis));
    // What holds for all of them is said once.
    let (shared, _) = apart(&captions, &captions[0]);
    section.notes.extend(Some(shared).filter(|shared| !shared.is_empty()));
    let figure = |((axis, name), caption): ((Axis, &str), &Vec<String>)| Figure {
        file: format!("{}-{name}.svg", findings.name),
        svg: plot::render(&drawn, axis),
        alt: plot::in_words(&drawn, axis),
        caption: apart(&captions, caption).1,
    };
    section.figures = axes.into_iter().zip(&captions).map(figure).collect();
    section
}

/// The sentences of `caption` that all captions have, and the others.
fn apart(captions: &[Vec<String>], caption: &[String]) -> (String, String) {
    let in_all = |sentence: &&String| captions.iter().all(|caption| caption.contains(sentence));
    let (shared, own): (Vec<&String>, Vec<&String>) = caption.iter().partition(in_all);
    let text = |sentences: Vec<&String>| sentences.into_iter().cloned().collect::<Vec<_>>().join(" ");
    (text(shared), text(own))
}

/// A system's line.
fn drawn(findings: &Findings, system: &System) -> Curve {
    let curves = system.runs.iter().map(|&run| &findings.runs[run].curve[..]);
    let curves: Vec<&[Point]> = curves.filter(|curve| !curve.is_empty()).collect();
    Curve { label: system.label.clone(), points: curve::mean(&curves), spread: curve::spread(&curves) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Choice;

    fn system(index: usize, strategy: &str, data: f64, baselines: &[usize]) -> System {
        System {
            label: format!("{strategy} {data}"),
            choice: Choice { strategy: strategy.into(), data, ..Choice::default() },
            baselines: baselines.to_vec(),
            is_baseline: baselines.is_empty(),
            runs: vec![2 * index, 2 * index + 1],
        }
    }

    /// Losses of two seeds: `mixed` is 0.1 above random masks, and 0.3 and 0.31 above them on half of the text.
    #[test]
    fn what_a_difference_depends_on_has_a_table_of_its_own() {
        let systems = vec![
            system(0, "random", 1.0, &[]),
            system(1, "mixed", 1.0, &[0]),
            system(2, "random", 0.5, &[]),
            system(3, "mixed", 0.5, &[2]),
        ];
        let losses = [[5.0, 6.0], [5.1, 6.1], [7.0, 8.0], [7.3, 8.31]];
        let run = |(system, losses): (usize, &[f64; 2])| {
            let run = |(seed, &loss)| RunFindings {
                system,
                seed,
                valid_loss: Some(loss),
                ..RunFindings::default()
            };
            (1..).zip(losses).map(run).collect::<Vec<_>>()
        };
        let runs: Vec<RunFindings> = losses.iter().enumerate().flat_map(run).collect();
        let groups = super::super::measure::groups(&systems, &runs, &[], &[]);
        let findings = Findings {
            name: "data".into(),
            title: "Data".into(),
            about: String::new(),
            data: "elsewhere".into(),
            pipelines: "pipelines".into(),
            systems,
            runs,
            groups,
            stages: vec![],
            uncharged: vec!["bert".into()],
            unpaired: vec![],
        };
        let document = document(&findings, Path::new("pipelines/grid/data.toml"));
        let text = super::super::markdown::render(&document);
        let row = "| mixed 0.5 − random 0.5 | mixed 1 − random 1 | 2 | +0.2050 | +0.1415 to +0.2685 | +0.2000 to +0.2100 | **worse than there** |";
        assert!(text.contains(CONTRASTS) && text.contains(row), "{text}");
        assert!(!text.contains("mixed 1 − random 1 | mixed"), "{text}");
        assert!(text.contains("make ablation GRID=pipelines/grid/data.toml DATA=elsewhere`"), "{text}");
        let uncharged = text.matches("Not included is the training of bert:").count();
        assert_eq!(uncharged, 2, "with the curves and the costs: {text}");
    }
}
