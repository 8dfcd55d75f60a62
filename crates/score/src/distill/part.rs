//! What a teacher says at the masked positions of a part.

use std::cmp::Ordering;
use std::path::Path;

use anyhow::Result;
use entromask_encoder::Wanted;
use entromask_tables::{Masks, Ragged, Targets, Tokens};

use super::DistillConfig;
use super::teacher::Teacher;
use crate::draft::Draft;
use crate::finite;
use crate::watch::Watch;

/// A teacher ready to be asked.
pub(super) struct Speaker<'a> {
    pub config: &'a DistillConfig,
    pub teacher: &'a Teacher,
    /// The teacher's folder.
    pub dir: &'a Path,
}

/// What is kept of one position.
struct Kept {
    tokens: Vec<u32>,
    logits: Vec<f32>,
    tail: f32,
}

/// What is kept of a row, one position after the other: a part has millions, too many for lists of their own.
#[derive(Clone, Debug, Default)]
struct OfRow {
    tokens: Vec<u32>,
    logits: Vec<f32>,
    tails: Vec<f32>,
}

impl Speaker<'_> {
    /// The targets of a part, of which `draft` may have some; `watch` is told the tokens of finished rows, and may end the work.
    ///
    /// # Errors
    /// An input fault that names the place if the teacher computes what is not finite.
    pub(super) fn targets(
        &self,
        tokens: &Tokens,
        masks: &Masks,
        draft: &mut Draft<'_>,
        watch: &impl Watch,
    ) -> Result<Targets> {
        let rows = rows_by_length(tokens, masks);
        let mut said = draft.found().and_then(|path| said_before(&path, masks)).unwrap_or_default();
        said.resize_with(tokens.rows(), OfRow::default);
        let (done, todo): (Vec<_>, Vec<_>) = self
            .chunks(masks, &rows)
            .into_iter()
            .partition(|some| some.iter().all(|&row| !said[row].tails.is_empty()));
        if !done.is_empty() {
            watch.resume_at(done.concat().into_iter().map(|row| tokens.input_ids.len_of(row) as u64).sum());
        }
        for some in todo {
            match self.ask(tokens, masks, some, watch) {
                Ok(kept) => some.iter().zip(kept).for_each(|(&row, kept)| said[row] = kept),
                Err(error) => {
                    draft.keep(|path, footer| table(masks, &said).write(path, footer));
                    return Err(error);
                }
            }
            draft.grew(|path, footer| table(masks, &said).write(path, footer));
        }
        Ok(table(masks, &said))
    }

    /// Rows that are asked for at once.
    fn chunks<'r>(&self, masks: &Masks, rows: &'r [usize]) -> Vec<&'r [usize]> {
        let longest = rows.iter().map(|&row| masks.positions.len_of(row)).max().unwrap_or(0);
        let most = self.teacher.chunk_positions(longest);
        let (mut chunks, mut rest) = (Vec::new(), rows);
        while !rest.is_empty() {
            let (some, later) = rest.split_at(at_once(masks, rest, most));
            chunks.push(some);
            rest = later;
        }
        chunks
    }

    /// What is kept of the masked positions of each of `rows`.
    fn ask(&self, tokens: &Tokens, masks: &Masks, rows: &[usize], watch: &impl Watch) -> Result<Vec<OfRow>> {
        let seen: Vec<Vec<u32>> = rows.iter().map(|&row| masked(tokens, masks, row)).collect();
        let wanted = rows.iter().zip(&seen).map(|(&row, ids)| Wanted {
            input_ids: ids,
            token_type_ids: &[],
            positions: masks.positions.row(row),
        });
        let keep = |logits: &[f32]| Kept::of(logits, self.config.top_k, self.config.temperature as f32);
        let mut kept = self.teacher.ask(&wanted.collect::<Vec<_>>(), keep, watch)?.into_iter();
        let of_row = |&row: &usize| {
            let kept: Vec<Kept> = kept.by_ref().take(masks.positions.len_of(row)).collect();
            self.check(masks, row, &kept).map(|()| OfRow::from(kept))
        };
        rows.iter().map(of_row).collect()
    }

    fn check(&self, masks: &Masks, row: usize, said: &[Kept]) -> Result<()> {
        let mut places = masks.positions.row(row).iter().zip(said);
        let bad = places.find(|(_, kept)| !kept.is_finite());
        bad.map_or(Ok(()), |(&position, _)| Err(finite::fault(self.dir, (masks.row[row], position)).into()))
    }
}

impl Kept {
    fn is_finite(&self) -> bool {
        self.tail.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }

    /// The `k` highest of `logits`, of equal ones those with the lowest ids, and what is left at `temperature`.
    fn of(logits: &[f32], k: usize, temperature: f32) -> Self {
        let (mut kept, others) = split(logits, k.min(logits.len()));
        kept.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let highest = logits[kept[0] as usize];
        let mass = |tokens: &[u32]| {
            let exponential =
                |&token: &u32| f64::from((logits[token as usize] - highest) / temperature).exp();
            // From 0: an empty `sum` is −0.
            tokens.iter().map(exponential).fold(0.0, |sum, term| sum + term)
        };
        let (top, others) = (mass(&kept), mass(&others));
        Self {
            logits: kept.iter().map(|&token| logits[token as usize]).collect(),
            tokens: kept,
            tail: (others / (top + others)) as f32,
        }
    }
}

/// The tokens of the `k` highest of `logits`, of equal ones those with the lowest ids, and all others; both by their ids.
fn split(logits: &[f32], k: usize) -> (Vec<u32>, Vec<u32>) {
    let mut values = logits.to_vec();
    let (_, &mut least, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let above = logits.iter().filter(|value| value.total_cmp(&least).is_gt()).count();
    let mut equal = k - above;
    (0..logits.len() as u32).partition(|&token| match logits[token as usize].total_cmp(&least) {
        Ordering::Greater => true,
        Ordering::Equal if equal > 0 => {
            equal -= 1;
            true
        }
        _ => false,
    })
}

impl From<Vec<Kept>> for OfRow {
    fn from(kept: Vec<Kept>) -> Self {
        let mut row = Self::default();
        for kept in kept {
            row.tokens.extend(kept.tokens);
            row.logits.extend(kept.logits);
            row.tails.push(kept.tail);
        }
        row
    }
}

/// How many of `rows` are asked for at once, at least one.
fn at_once(masks: &Masks, rows: &[usize], most: usize) -> usize {
    let mut positions = 0;
    let fits = |row: &&usize| {
        positions += masks.positions.len_of(**row);
        positions <= most
    };
    rows.iter().take_while(fits).count().max(1)
}

/// Rows with masks, short ones first.
fn rows_by_length(tokens: &Tokens, masks: &Masks) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..tokens.rows()).filter(|&row| masks.positions.len_of(row) > 0).collect();
    rows.sort_by_key(|&row| tokens.input_ids.len_of(row));
    rows
}

/// What the draft at `path` has of each row, nothing of those that were not asked for.
fn said_before(path: &Path, masks: &Masks) -> Option<Vec<OfRow>> {
    let targets = Targets::read(path).ok().filter(|targets| targets.row == masks.row)?;
    let of_row = |row: usize| OfRow {
        tokens: targets.tokens.row(row).into(),
        logits: targets.logits.row(row).into(),
        tails: targets.tail.row(row).into(),
    };
    Some((0..masks.rows()).map(of_row).collect())
}

/// The row as the student sees it.
fn masked(tokens: &Tokens, masks: &Masks, row: usize) -> Vec<u32> {
    let mut ids = tokens.input_ids.row(row).to_vec();
    for (&position, &input) in masks.positions.row(row).iter().zip(masks.inputs.row(row)) {
        ids[usize::from(position)] = input;
    }
    ids
}

fn table(masks: &Masks, said: &[OfRow]) -> Targets {
    Targets {
        row: masks.row.clone(),
        epoch: masks.epoch.clone(),
        tokens: Ragged::from_rows(said.iter().map(|row| row.tokens.iter().copied())),
        logits: Ragged::from_rows(said.iter().map(|row| row.logits.iter().copied())),
        tail: Ragged::from_rows(said.iter().map(|row| row.tails.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use entromask_artifact::{Kind, Recipe, Workbench, tool};
    use entromask_encoder::{EncoderConfig, MaskedLm};
    use serde_json::json;

    use super::*;
    use crate::watch::Patience;

    /// Rows of 5 to 9 tokens, three of which are masked in all but every seventh row.
    fn corpus(rows: u32) -> (Tokens, Masks) {
        let ids = |row: u32| (0..5 + row % 5).map(move |s| (row * 31 + s * 7) % 60).collect::<Vec<_>>();
        let masked = |row: u32| if row.is_multiple_of(7) { vec![] } else { vec![1, 2, 4] };
        let row: Vec<u64> = (0..u64::from(rows)).collect();
        let tokens = Tokens {
            row: row.clone(),
            input_ids: Ragged::from_rows((0..rows).map(ids)),
            ..Tokens::default()
        };
        let inputs = Ragged::from_rows((0..rows).map(|row| vec![4; masked(row).len()]));
        let positions = Ragged::from_rows((0..rows).map(masked));
        (tokens, Masks { epoch: vec![0; row.len()], row, positions, inputs })
    }

    fn teacher() -> Teacher {
        let shape = EncoderConfig {
            vocab_size: 60,
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 24,
            max_position_embeddings: 12,
            initializer_range: 0.5,
            ..EncoderConfig::default()
        };
        let device = Device::flex();
        Teacher::new(MaskedLm::init(&shape, 1, &device), &shape, device)
    }

    #[test]
    fn what_was_asked_before_an_end_is_not_asked_again() -> Result<()> {
        let (config, teacher) = (DistillConfig { top_k: 5, temperature: 2.0 }, teacher());
        let speaker = Speaker { config: &config, teacher: &teacher, dir: Path::new("model") };
        // Four chunks on the CPU.
        let (tokens, masks) = corpus(20_000);
        let asked = rows_by_length(&tokens, &masks);
        let all = asked.iter().map(|&row| tokens.input_ids.len_of(row) as u64).sum();
        let whole = speaker.targets(&tokens, &masks, &mut Draft::none(), &Patience::of(all))?;

        let folder = tempfile::tempdir()?;
        let recipe = Recipe { kind: Kind::Targets, config: json!({}), inputs: vec![] };
        let bench = Workbench::open(folder.path(), recipe, tool("test", "0", &[]))?;
        let name = bench.part_name("epoch-000", 0);
        let first = speaker.targets(&tokens, &masks, &mut Draft::of(&bench, &name), &Patience::of(all / 2));
        assert_eq!(first.expect_err("is stopped").to_string(), "stopped");
        let second = Patience::of(all);
        assert_eq!(speaker.targets(&tokens, &masks, &mut Draft::of(&bench, &name), &second)?, whole);
        assert!(second.resumed() > 0 && second.resumed() + second.counted() == all, "{second:?} of {all}");
        Ok(())
    }

    #[test]
    fn the_highest_are_kept_and_the_rest_is_weighed() {
        // e⁰ + e¹ + e² + e¹ at temperature 2 of logits 0, 2, 4, 2.
        let kept = Kept::of(&[0.0, 2.0, 4.0, 2.0], 2, 2.0);
        assert_eq!((kept.tokens, kept.logits), (vec![2, 1], vec![4.0, 2.0]), "of equal ones the first");
        let e = |x: f64| x.exp();
        let expected = (e(0.0) + e(1.0)) / (e(0.0) + 2.0 * e(1.0) + e(2.0));
        assert!((f64::from(kept.tail) - expected).abs() < 1e-7);
        let all = Kept::of(&[0.0, 2.0, 4.0, 2.0], 9, 2.0);
        assert_eq!((all.tokens, all.tail.to_bits()), (vec![2, 1, 3, 0], 0));
    }
}
