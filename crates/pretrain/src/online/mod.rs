//! Self-masking inside training: masks by the entropies of the model that is being trained.

mod averages;
mod candidates;
mod entropies;

#[cfg(test)]
mod tests;

use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use entromask_encoder::{EncoderConfig, MaskedLm};
use entromask_policy::corruption::Vocabulary;
use entromask_policy::rank::spearman;
use entromask_policy::{Config as MaskConfig, Row, Schedule, Scores, Selector, budget};
use entromask_training::{Kept, MetricsLog};
use serde::{Deserialize, Serialize};

use crate::config::{OnlineConfig, OnlineMode};
use crate::data::{CorpusRow, Example};
use crate::step::Reader;
use averages::Averages;
pub(crate) use entropies::entropies;

/// What was masked: in the run's folder and in the published model.
pub(crate) const MASKS: &str = "masks.jsonl";
/// Pairs of scores below which a rank correlation says little.
const ENOUGH: usize = 5;
/// Running averages, in a checkpoint.
const AVERAGES: &str = "averages.safetensors";

/// Chooses masks while training runs.
pub(crate) struct Online {
    config: OnlineConfig,
    vocabulary: Vocabulary,
    averages: Averages,
    log: MetricsLog,
    path: PathBuf,
}

/// Where training stands when masks are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Steps made.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
}

/// What choosing masks took, and gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chosen {
    /// Floating-point operations of a first pass.
    pub flops: f64,
    pub budget: Unspent,
}

/// Where cap and spread did not let the budget be spent as asked for; tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unspent {
    /// Masked although they forbid it.
    pub relaxed: u64,
    /// Not masked.
    pub short: u64,
}

impl AddAssign for Unspent {
    fn add_assign(&mut self, other: Self) {
        self.relaxed += other.relaxed;
        self.short += other.short;
    }
}

/// How fresh the scores were that masks were chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Freshness {
    /// Mean number of tokens trained on since the scores of the masked tokens were made.
    pub staleness: Option<f64>,
    /// 1 − Spearman's correlation of the scores with the entropies that the masked tokens have now.
    pub rank_drift: Option<f64>,
}

/// A row of `masks.jsonl`.
#[derive(Serialize)]
struct MaskRow<'a> {
    step: u64,
    epoch: u64,
    row: u64,
    positions: &'a [u16],
    inputs: &'a [u32],
    /// What they were chosen by, nats; null where a token had no score of its own.
    entropy: Vec<Option<f32>>,
}

/// Operations of a forward pass of `examples` and of the head at their masked positions.
fn forward_flops(examples: &[Example], config: &EncoderConfig) -> f64 {
    let asked =
        |row: &Example| config.pass_flops(row.input_ids.len(), row.positions.len(), row.positions.len());
    examples.iter().map(asked).sum()
}

impl Online {
    /// Goes on from the checkpoint in `resumed`, whose masks are `kept`.
    pub(crate) fn open(
        config: OnlineConfig,
        vocabulary: Vocabulary,
        folder: &Path,
        (resumed, kept): (Option<&Path>, Option<Kept>),
    ) -> Result<Self> {
        let averages = match resumed.map(|folder| folder.join(AVERAGES)).filter(|file| file.exists()) {
            Some(file) => Averages::load(&file)?,
            None => Averages::default(),
        };
        let path = folder.join(MASKS);
        let log = MetricsLog::open(&path, kept)?;
        Ok(Self { config, vocabulary, averages, log, path })
    }

    /// Chooses the masks of the rows of `batch` that have none yet, and writes them down.
    pub(crate) fn choose(
        &mut self,
        batch: &mut [Example],
        model: (&MaskedLm, &EncoderConfig),
        now: Now,
        pass: (usize, &Device),
    ) -> Result<Chosen> {
        if self.config.mode == OnlineMode::Running && now.step.is_multiple_of(self.config.refresh) {
            self.averages.refresh(self.config.decay as f32);
        }
        let open: Vec<&mut Example> = batch.iter_mut().filter(|row| row.open).collect();
        let lines: Vec<CorpusRow> = open.iter().filter_map(|row| row.line.clone()).collect();
        let (columns, flops) = match self.config.mode {
            OnlineMode::Step => self.first_pass(&lines, model, pass)?,
            OnlineMode::Running => {
                let seed = self.config.mask.seed;
                (lines.iter().map(|line| self.averages.column(line, seed)).collect(), 0.0)
            }
        };
        let mut chosen = Chosen { flops, budget: Unspent::default() };
        for ((row, line), column) in open.into_iter().zip(lines).zip(columns) {
            let (example, unspent) = self.mask(&line, &column, now.step)?;
            *row = Example { line: Some(line), ..example };
            chosen.budget += unspent;
        }
        Ok(chosen)
    }

    /// Takes in the entropies at the masked positions of `batch`, one after the other, and says how they had changed.
    pub(crate) fn learn(&mut self, batch: &[Example], entropies: &[f32], now: Now) -> Freshness {
        if self.config.mode == OnlineMode::Step {
            return Freshness { staleness: Some(0.0), rank_drift: None };
        }
        let mut rest = entropies;
        let (mut ages, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for example in batch {
            let (own, later) = rest.split_at(example.positions.len());
            rest = later;
            let Some(line) = &example.line else { continue };
            for (&position, &entropy) in example.positions.iter().zip(own) {
                if let Some((score, tokens)) = self.averages.get(line.row, position as usize) {
                    ages.push((now.tokens - tokens) as f64);
                    before.push(score);
                    after.push(entropy);
                }
                self.averages.add(line, position, entropy, now.tokens);
            }
        }
        let staleness = (!ages.is_empty()).then(|| ages.iter().sum::<f64>() / ages.len() as f64);
        let rank = if before.len() < ENOUGH { None } else { spearman(&before, &after) };
        Freshness { staleness, rank_drift: rank.map(|rank| 1.0 - rank) }
    }

    /// Whether [`Online::learn`] wants to know entropies.
    pub(crate) fn learns(&self) -> bool {
        self.config.mode == OnlineMode::Running
    }

    /// Adds its state to the checkpoint in `folder`.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        if self.learns() { self.averages.save(&folder.join(AVERAGES)) } else { Ok(()) }
    }

    /// Waits until the masks are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Rows that were masked.
    pub(crate) fn rows(&self) -> u64 {
        self.log.rows()
    }

    /// Where the masks are written down.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Entropies of candidates, which are hidden; null elsewhere. `[seq_length]` a line. And the floating-point operations
    /// of a forward pass of these lines.
    fn first_pass(
        &self,
        lines: &[CorpusRow],
        model: (&MaskedLm, &EncoderConfig),
        (rows, device): (usize, &Device),
    ) -> Result<(Vec<Vec<Option<f32>>>, f64)> {
        let hidden = |line: &CorpusRow| {
            let chosen = candidates::of(line, self.config.candidates, &self.config.mask);
            let inputs = std::iter::repeat(self.vocabulary.mask);
            Example::masked(&line.ids, chosen.into_iter(), inputs).expect("candidates are in the row")
        };
        let examples: Vec<Example> = lines.iter().map(hidden).collect();
        let (reader, mut scores, mut flops) = (Reader::new(model, device), Vec::new(), 0.0);
        for part in examples.chunks(rows.max(1)) {
            if part.iter().any(|row| !row.positions.is_empty()) {
                scores.extend(entropies(model.0, &reader.masked_states(part).0)?);
                flops += forward_flops(part, model.1);
            }
        }
        let mut scores = scores.into_iter();
        let column = |example: &Example| {
            let mut column = vec![None; example.input_ids.len()];
            example.positions.iter().for_each(|&position| column[position as usize] = scores.next());
            column
        };
        Ok((examples.iter().map(column).collect(), flops))
    }

    /// Spends the budget of a line among the tokens that have a score.
    fn mask(&mut self, line: &CorpusRow, column: &[Option<f32>], step: u64) -> Result<(Example, Unspent)> {
        let word: Vec<Option<u16>> =
            line.word.iter().zip(column).map(|(word, score)| word.filter(|_| score.is_some())).collect();
        let (maskable, scored) = (line.word.iter().flatten().count(), word.iter().flatten().count());
        let epoch = u16::try_from(line.epoch).unwrap_or(u16::MAX);
        let wanted = budget(self.config.mask.rate.at(epoch), maskable).min(scored);
        // The budget is a share of all maskable tokens, not only of those that may be chosen.
        let rate = Schedule::Constant(wanted as f64 / scored.max(1) as f64);
        let config = MaskConfig { rate, ..self.config.mask.clone() };
        let selector = Selector { config: &config, vocabulary: &self.vocabulary, excluded: &[] };
        let row = Row { number: line.row, input_ids: &line.ids, word: &word, scores: Scores::Column(column) };
        let choice = selector.select(&[row], epoch)?;
        let unspent = Unspent { relaxed: choice.relaxed, short: choice.short };
        let (positions, inputs) = choice.rows.into_iter().next().unwrap_or_default();
        self.log.append(&MaskRow {
            step: step + 1,
            epoch: line.epoch,
            row: line.row,
            positions: &positions,
            inputs: &inputs,
            entropy: positions.iter().map(|&position| self.known(line, column, position)).collect(),
        })?;
        let positions = positions.into_iter().map(u32::from);
        let example = Example::masked(&line.ids, positions, inputs.into_iter());
        Ok((example.expect("positions are in the row"), unspent))
    }

    fn known(&self, line: &CorpusRow, column: &[Option<f32>], position: u16) -> Option<f32> {
        let own = !self.learns() || self.averages.get(line.row, usize::from(position)).is_some();
        column[usize::from(position)].filter(|_| own)
    }
}
