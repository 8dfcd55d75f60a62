//! What a teacher says at the masked positions of a part.

use std::path::Path;

use anyhow::Result;
use entromask_encoder::Wanted;
use entromask_kernels::exponential_mass;
use entromask_tables::{Masks, Ragged, Targets, Tokens};

use super::DistillConfig;
use super::teacher::Teacher;
use crate::draft::Draft;
use crate::finite;
use crate::watch::Watch;

/// Logits that are looked at first for how high those are that are kept.
const SAMPLE: usize = 4096;

/// Logits that are passed over at once where none of them is kept.
const BLOCK: usize = 64;

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
        let bad = places.find(|(_, kept)| !kept.tail.is_finite());
        bad.map_or(Ok(()), |(&position, _)| Err(finite::fault(self.dir, (masks.row[row], position)).into()))
    }
}

impl Kept {
    /// The `k` highest of `logits`, of equal ones those with the lowest ids, and what is left at `temperature`. Nothing that is finite
    /// is kept of logits that are not.
    fn of(logits: &[f32], k: usize, temperature: f32) -> Self {
        if !are_finite(logits) {
            return Self { tokens: Vec::new(), logits: Vec::new(), tail: f32::NAN };
        }
        let tokens = highest(logits, k.min(logits.len()));
        let kept: Vec<f32> = tokens.iter().map(|&token| logits[token as usize]).collect();
        let mut others = logits.to_vec();
        for &token in &tokens {
            others[token as usize] = f32::NEG_INFINITY;
        }
        // What is left is added up by itself: as a difference of two sums it would be lost where it is small.
        let [top, others] =
            [kept.as_slice(), &others].map(|some| exponential_mass(some, kept[0], temperature.recip()));
        Self { tokens, logits: kept, tail: (others / (top + others)) as f32 }
    }
}

/// All of them are looked at, which takes no branches.
fn are_finite(logits: &[f32]) -> bool {
    logits.iter().fold(true, |are_finite, logit| are_finite & logit.is_finite())
}

/// The tokens of the `k` highest of `logits`, the highest first, of equal ones those with the lowest ids.
fn highest(logits: &[f32], k: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    // The k-th highest of some is not above that of all, and few of the others are as high.
    let mut some = logits[..logits.len().min(SAMPLE.max(4 * k))].to_vec();
    let (_, &mut bound, _) = some.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let mut tokens: Vec<u32> = Vec::new();
    for (start, block) in (0..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
        // Without a branch for each of them: in most blocks none is that high.
        if block.iter().filter(|logit| **logit >= bound).count() > 0 {
            tokens.extend((start..).zip(block).filter(|(_, logit)| **logit >= bound).map(|(token, _)| token));
        }
    }
    if tokens.len() > k {
        tokens.select_nth_unstable_by(k - 1, order);
        tokens.truncate(k);
    }
    tokens.sort_unstable_by(order);
    tokens
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
    use entromask_random::{keyed, open_unit};
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
    fn the_highest_of_many_are_those_that_sorting_finds() {
        for (n, values) in [(50_000, 1e9), (50_000, 300.0), (4_100, 1e9), (64, 5.0)] {
            let mut rng = keyed(1, "logits", n, 0);
            let logits: Vec<f32> =
                (0..n).map(|_| (open_unit(&mut rng) * values).floor() as f32 - 7.0).collect();
            let mut sorted: Vec<u32> = (0..n as u32).collect();
            sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            for k in [1, 2, 64] {
                assert_eq!(highest(&logits, k), sorted[..k], "{k} of {n}");
            }
            let kept = Kept::of(&logits, 64, 2.0);
            let mass = |tokens: &[u32]| -> f64 {
                tokens
                    .iter()
                    .map(|&token| {
                        (f64::from(logits[token as usize] - logits[sorted[0] as usize]) / 2.0).exp()
                    })
                    .sum()
            };
            let [top, others] = [&sorted[..64], &sorted[64..]].map(mass);
            assert!(
                (f64::from(kept.tail) - others / (top + others)).abs() <= 1e-6 * others / (top + others),
                "{n}"
            );
        }
    }

    #[test]
    fn a_small_rest_is_weighed_too_and_none_is_nothing() {
        let logits = [0.0, -20.0, -21.0, f32::NAN];
        let kept = Kept::of(&logits[..3], 1, 1.0);
        let expected = (-20f64).exp() + (-21f64).exp();
        assert!((f64::from(kept.tail) / expected - 1.0).abs() < 1e-6, "{}", kept.tail);
        assert!(Kept::of(&logits, 1, 1.0).tail.is_nan());
    }

    #[test]
    fn the_highest_are_kept_and_the_rest_is_weighed() {
        // e⁰ + e¹ + e² + e¹ at temperature 2 of logits 0, 2, 4, 2.
        let kept = Kept::of(&[0.0, 2.0, 4.0, 2.0], 2, 2.0);
        assert_eq!((kept.tokens, kept.logits), (vec![2, 1], vec![4.0, 2.0]), "of equal ones the first");
        let e = |x: f64| x.exp();
        let expected = (e(0.0) + e(1.0)) / (e(0.0) + 2.0 * e(1.0) + e(2.0));
        assert!((f64::from(kept.tail) - expected).abs() < 3e-7);
        let all = Kept::of(&[0.0, 2.0, 4.0, 2.0], 9, 2.0);
        assert_eq!((all.tokens, all.tail.to_bits()), (vec![2, 1, 3, 0], 0));
    }
}
