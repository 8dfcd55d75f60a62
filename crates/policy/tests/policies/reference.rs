//! Slow and obvious: what the deterministic policies choose under all options, checked from scratch at each step.

use entromask_policy::config::{Shortfall, WordScore};
use entromask_policy::{Choice, Config, budget};

use crate::row::TestRow;

/// What `high` (or with the sign −1 `low`) chooses in `row`.
pub fn by_score(config: &Config, row: &TestRow, sign: f32) -> Choice {
    let mut units = units(config, row);
    units.sort_by(|a, b| (sign * b.score).total_cmp(&(sign * a.score)).then(a.positions.cmp(&b.positions)));
    let wanted = budget(config.rate.at(0), row.maskable());
    let mut chosen = Vec::new();
    take(&units, wanted, &mut chosen, |positions| is_allowed(config, row, wanted, positions));
    let strict = chosen.len();
    if config.shortfall != Shortfall::Accept {
        take(&units, wanted, &mut chosen, |_| true);
    }
    chosen.sort_unstable();
    let inputs = vec![103; chosen.len()];
    let (relaxed, short) = ((chosen.len() - strict) as u64, (wanted - chosen.len()) as u64);
    Choice { rows: vec![(chosen, inputs)], relaxed, short }
}

/// True if neither cap nor spread forbids masking these positions.
pub fn is_allowed(config: &Config, row: &TestRow, wanted: usize, positions: &[u16]) -> bool {
    let masked = |position: usize| positions.contains(&(position as u16));
    let capped = config.cap.is_none_or(|cap| {
        let limit = ((cap * wanted as f64 + 1e-9).floor() as usize).max(1);
        positions.iter().all(|position| {
            let id = row.input_ids[usize::from(*position)];
            positions.iter().filter(|other| row.input_ids[usize::from(**other)] == id).count() <= limit
        })
    });
    let spread = config.spread.is_none_or(|spread| {
        let limit = ((spread.share * spread.window as f64 + 1e-9).floor() as usize).max(1);
        let windows = (0..row.word.len()).map(|first| first..first + spread.window);
        windows.into_iter().all(|mut window| window.by_ref().filter(|place| masked(*place)).count() <= limit)
    });
    capped && spread
}

/// A token or a word.
pub struct Unit {
    pub positions: Vec<u16>,
    score: f32,
}

pub fn units(config: &Config, row: &TestRow) -> Vec<Unit> {
    let excluded =
        |position: usize| row.excluded.get(row.input_ids[position] as usize).copied().unwrap_or(false);
    let maskable: Vec<usize> = (0..row.word.len()).filter(|&position| row.word[position].is_some()).collect();
    let score = |position: usize| row.scores[position].expect("maskable");
    let Some(aggregate) = config.whole_word else {
        let tokens = maskable.into_iter().filter(|&position| !excluded(position));
        return tokens.map(|i| Unit { positions: vec![i as u16], score: score(i) }).collect();
    };
    let mut words = std::collections::BTreeMap::<u16, Vec<usize>>::new();
    for position in maskable {
        words.entry(row.word[position].expect("maskable")).or_default().push(position);
    }
    for pieces in words.values_mut() {
        pieces.retain(|&piece| !excluded(piece));
    }
    words.retain(|_, pieces| !pieces.is_empty());
    let unit = |pieces: Vec<usize>| {
        let scores: Vec<f32> = pieces.iter().map(|&piece| score(piece)).collect();
        let score = match aggregate {
            WordScore::Max => scores.iter().copied().fold(f32::MIN, f32::max),
            WordScore::Mean => scores.iter().sum::<f32>() / scores.len() as f32,
        };
        Unit { positions: pieces.iter().map(|&piece| piece as u16).collect(), score }
    };
    words.into_values().map(unit).collect()
}

fn take(units: &[Unit], wanted: usize, chosen: &mut Vec<u16>, allowed: impl Fn(&[u16]) -> bool) {
    for unit in units {
        let with = [chosen.as_slice(), &unit.positions].concat();
        if !chosen.contains(&unit.positions[0]) && with.len() <= wanted && allowed(&with) {
            *chosen = with;
        }
    }
}
