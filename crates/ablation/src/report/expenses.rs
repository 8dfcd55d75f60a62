//! The table of costs.

use entromask_report::number::{duration, flops};

use super::costs::{Spent, without};
use super::document::{Cell, DASH, Section, Table};
use super::findings::{Findings, RunFindings, System};
use crate::plan::Account;

const ACCOUNTS: [Account; 4] = [Account::Training, Account::Teacher, Account::Scoring, Account::Selection];

/// What a run of each system costs by itself, on average.
pub(super) fn section(findings: &Findings) -> Section {
    let mut table = Table::new(&[
        "run",
        "training#",
        "teacher#",
        "scoring#",
        "selection#",
        "together#",
        "against#",
        "fine-tuning#",
    ]);
    table.rows = findings.systems.iter().map(|system| row(findings, system)).collect();
    let total = findings.stages.iter().map(|stage| stage.spent).fold(Spent::default(), Spent::and);
    let note = format!(
        "Operations by formula, and seconds on the threads that each stage had, mean over seeds. Each run is charged what it \
         would cost by itself; shared stages were made once, and the whole grid took {}. `against` is operations beside the \
         first baseline's, without fine-tuning.{}",
        shown(total),
        without(&findings.uncharged)
    );
    Section { notes: vec![note], tables: vec![table], ..Section::new("Cost") }
}

fn row(findings: &Findings, system: &System) -> Vec<Cell> {
    let runs = there(findings, system);
    let mut row: Vec<Cell> = vec![system.label.clone().into()];
    if runs.is_empty() {
        row.extend(vec![Cell::from("missing"); ACCOUNTS.len() + 3]);
        return row;
    }
    row.extend(ACCOUNTS.map(|account| shown(mean(&runs, |run| spent_on(run, account))).into()));
    row.push(shown(mean(&runs, charged)).into());
    let baseline = system.baselines.first().map(|&baseline| there(findings, &findings.systems[baseline]));
    let beside = baseline.map(|baseline| mean(&baseline, charged).flops).filter(|flops| *flops > 0.0);
    let times = beside.map(|flops| format!("{:.2} ×", mean(&runs, charged).flops / flops));
    row.push(times.unwrap_or(DASH.into()).into());
    row.push(shown(mean(&runs, tuning)).into());
    row
}

/// The runs of a system whose models are there.
fn there<'a>(findings: &'a Findings, system: &System) -> Vec<&'a RunFindings> {
    system.runs.iter().map(|&run| &findings.runs[run]).filter(|run| run.key.is_some()).collect()
}

fn mean(runs: &[&RunFindings], spent: impl Fn(&RunFindings) -> Spent) -> Spent {
    let sum = runs.iter().map(|run| spent(run)).fold(Spent::default(), Spent::and);
    let n = runs.len().max(1) as f64;
    Spent { flops: sum.flops / n, seconds: sum.seconds / n }
}

fn spent_on(run: &RunFindings, account: Account) -> Spent {
    run.costs.get(account.name()).copied().unwrap_or_default()
}

fn charged(run: &RunFindings) -> Spent {
    run.costs.values().copied().fold(Spent::default(), Spent::and)
}

fn tuning(run: &RunFindings) -> Spent {
    run.glue.values().map(|scores| scores.spent).fold(Spent::default(), Spent::and)
}

pub(super) fn shown(spent: Spent) -> String {
    match (spent.flops > 0.0, spent.seconds > 0.0) {
        (false, false) => DASH.into(),
        (false, true) => duration(spent.seconds),
        _ => format!("{}, {}", flops(spent.flops), duration(spent.seconds)),
    }
}
