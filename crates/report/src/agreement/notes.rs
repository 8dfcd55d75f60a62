//! What has to be known to read an agreement.

use super::scoring::Opened;
use super::{Other, Scoring, Statistics};
use crate::leaves::differences;
use crate::nats::FLAT;
use crate::number::counted;

/// Positions below which little is known: the error of a correlation of 0.9 is then about 0.02.
const ENOUGH: u64 = 100;

/// What is true of each scoring beside the reference; `trouble` is why tokens have no names.
pub(super) fn notes(
    opened: &[Opened],
    scorings: &[Scoring],
    others: &[Other],
    trouble: Option<&String>,
) -> Vec<String> {
    let mut notes: Vec<_> = trouble.map(|why| format!("no tokens are ranked: {why}")).into_iter().collect();
    for ((one, scoring), other) in opened.iter().zip(scorings).skip(1).zip(others) {
        let found = [same(other), settings(&opened[0], one), left_out(&opened[0], one), few(other)];
        notes.extend(found.into_iter().flatten().map(|note| format!("{}: {note}", scoring.name)));
        let flat = other.measures.first().map(|entropy| flat(entropy, [&scorings[0], scoring]));
        notes.extend(flat.into_iter().flatten());
    }
    // What is true of the reference is found once for each other one.
    let mut once: Vec<String> = Vec::new();
    for note in notes {
        if !once.contains(&note) {
            once.push(note);
        }
    }
    once
}

/// Of the rows that were read.
fn same(other: &Other) -> Option<String> {
    let same = other.measures.iter().all(|of| of.absolute_max <= 0.0);
    same.then(|| "the same scores as those of the reference".into())
}

fn settings(reference: &Opened, one: &Opened) -> Option<String> {
    let differing = differences(&reference.manifest.config, &one.manifest.config)?;
    Some(format!("scored otherwise, {differing}"))
}

fn left_out(reference: &Opened, one: &Opened) -> Option<String> {
    let (own, theirs) = (&one.measures, &reference.measures);
    let not_in_both = own.iter().filter(|name| !theirs.contains(name));
    let names: Vec<_> =
        not_in_both.chain(theirs.iter().filter(|name| !own.contains(name))).cloned().collect();
    (!names.is_empty()).then(|| format!("left out: {} (not in both)", names.join(", ")))
}

fn few(other: &Other) -> Option<String> {
    let positions = other.measures.first()?.positions;
    (positions < ENOUGH)
        .then(|| format!("only {} scored by both, which say little", counted(positions, "position")))
}

/// Which of both scorings ranks next to nothing.
fn flat(entropy: &Statistics, scorings: [&Scoring; 2]) -> Vec<String> {
    let sides = scorings.iter().zip(entropy.stds).filter(|(_, std)| *std < FLAT);
    let said = |(scoring, std): (&&Scoring, f64)| {
        let name = &scoring.name;
        format!(
            "{name}: its entropies hardly differ (standard deviation {std:.3} nats): their ranks are noise"
        )
    };
    sides.map(said).collect()
}
