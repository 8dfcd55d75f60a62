//! The view of a masks artifact.

use std::path::PathBuf;

use entromask_artifact::{Manifest, Output};
use entromask_tables::{Entropies, Masks, TokenColumns};
use serde::Serialize;

use super::entropy::{corpus, part_number};
use super::selection::Selection;
use super::target::Target;
use super::{Options, rows};
use crate::corpus::Corpus;
use crate::drift::Drift;
use crate::nats::Summary;
use crate::passage::Passage;
use crate::sample::{self, LookedAt};
use crate::scan::{MaskScan, TokenMasked};
use crate::trace;

/// Tokens in the ranking.
const RANKED: usize = 15;

/// What is in a masks artifact.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MasksView {
    /// The epochs that there are masks for.
    pub epochs: Vec<u16>,
    /// Rows that were read, each epoch counted.
    pub rows: u64,
    /// Masked positions in them.
    pub masked: u64,
    /// Maskable positions in them, if the tokens are known.
    pub maskable: Option<u64>,
    /// masked / maskable.
    pub rate: Option<f64>,
    /// Masked positions that the model sees as another token than the mask token.
    pub corrupted: u64,
    /// Entropies of the masked positions, if there are any, in nats.
    pub entropy: Option<Summary>,
    /// The tokens masked most often.
    pub most_masked: Vec<TokenMasked>,
    /// The report of the selection; artifacts of older versions have none.
    pub selection: Option<Selection>,
    /// The entropies that they were chosen by, against the round of self-masking before, if there was one.
    pub drift: Option<Drift>,
    /// A row as text.
    pub passage: Option<Passage>,
}

pub(super) fn view(
    target: &Target,
    options: &Options,
    notes: &mut Vec<String>,
) -> anyhow::Result<(LookedAt, MasksView)> {
    let sources = Sources { corpus: corpus(target, notes), entropy: entropy(target) };
    let parts = target.parts("epoch-");
    let (chosen, looked) = sample::choose(&parts, options.budget());
    let mut scan = MaskScan::default();
    for &index in &chosen {
        let masks = Masks::read(&target.dir.join(&parts[index].file))?;
        sources.scan(&mut scan, parts[index], &masks);
    }
    let mut view = sources.view(&scan, &parts);
    if let Some((dir, manifest)) = &sources.entropy {
        view.drift = Drift::of(dir, manifest, options.budget())?;
    }
    view.selection = target.manifest.as_ref().and_then(Selection::of);
    if let Some(&first) = chosen.first() {
        view.passage = sources.passage(target, &parts, first, options.row)?;
    }
    Ok((looked, view))
}

/// What the masks were made from.
struct Sources {
    corpus: Option<Corpus>,
    entropy: Option<(PathBuf, Manifest)>,
}

fn entropy(target: &Target) -> Option<(PathBuf, Manifest)> {
    let input = target.manifest.as_ref()?.input("entropy")?;
    trace::locate(input, &target.dir).found()
}

impl Sources {
    fn scan(&self, scan: &mut MaskScan, part: &Output, masks: &Masks) {
        let index = part_number(&part.file).unwrap_or(0);
        let columns = TokenColumns { word: true, ..TokenColumns::default() };
        let tokens = self.corpus.as_ref().and_then(|corpus| corpus.read(index, columns).ok());
        scan.add(masks, tokens.as_ref(), self.scores(index).as_ref(), self.mask_id());
    }

    fn scores(&self, index: usize) -> Option<Entropies> {
        let (dir, manifest) = self.entropy.as_ref()?;
        Entropies::read(&dir.join(&manifest.parts("part").nth(index)?.file)).ok()
    }

    fn mask_id(&self) -> Option<u32> {
        let id = self.corpus.as_ref()?.manifest.stats["special"]["mask"].as_u64()?;
        u32::try_from(id).ok()
    }

    fn view(&self, scan: &MaskScan, parts: &[&Output]) -> MasksView {
        let maskable = (scan.maskable > 0).then_some(scan.maskable);
        let most_masked = |corpus: &Corpus| scan.most_masked(RANKED, &corpus.names);
        MasksView {
            epochs: epochs(parts),
            rows: scan.rows,
            masked: scan.masked,
            maskable,
            rate: maskable.map(|maskable| scan.masked as f64 / maskable as f64),
            corrupted: scan.corrupted,
            entropy: (!scan.entropy.is_empty()).then(|| scan.entropy.summary()),
            most_masked: self.corpus.as_ref().map(most_masked).unwrap_or_default(),
            selection: None,
            drift: None,
            passage: None,
        }
    }

    fn passage(
        &self,
        target: &Target,
        parts: &[&Output],
        first: usize,
        row: Option<u64>,
    ) -> anyhow::Result<Option<Passage>> {
        let Some(corpus) = &self.corpus else { return Ok(None) };
        let (part, row) = row
            .map_or(Ok((first, None)), |row| rows::find(one_epoch(parts), row).map(|(p, r)| (p, Some(r))))?;
        let index = part_number(&parts[part].file).unwrap_or(0);
        let masks = Masks::read(&target.dir.join(&parts[part].file))?;
        let Ok(tokens) = corpus.read(index, TokenColumns::ALL) else { return Ok(None) };
        let row = row.unwrap_or_else(|| rows::long(&tokens.input_ids));
        if row >= tokens.rows() || row >= masks.rows() {
            return Ok(None);
        }
        let mut passage = Passage::new(&tokens, row, &corpus.names);
        if let Some(scores) = self.scores(index).filter(|scores| row < scores.rows()) {
            passage.scored(scores.entropy.row(row), scores.surprisal.row(row));
        }
        passage.masked(masks.positions.row(row), masks.inputs.row(row), &corpus.names);
        Ok(Some(passage.finished()))
    }
}

/// The parts of the first epoch, which come first and together hold each row once.
fn one_epoch<'a, 'b>(parts: &'a [&'b Output]) -> &'a [&'b Output] {
    let other = |part: &&Output| epoch(part) != epoch(parts[0]);
    &parts[..parts.iter().position(other).unwrap_or(parts.len())]
}

/// `epoch-003-…` → 3.
fn epoch(part: &Output) -> Option<u16> {
    part.file.split('-').nth(1)?.parse().ok()
}

fn epochs(parts: &[&Output]) -> Vec<u16> {
    let mut found: Vec<u16> = parts.iter().filter_map(|part| epoch(part)).collect();
    found.sort_unstable();
    found.dedup();
    found
}
