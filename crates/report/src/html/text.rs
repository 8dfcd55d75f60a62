//! The part of the page that shows text: a passage coloured by entropy, the histogram, the tokens at either end.

use std::path::Path;

use entromask_artifact::{Kind, Output};
use entromask_fault::Fault;
use entromask_tables::{Entropies, Masks, TokenColumns, Tokens};
use serde::Serialize;

use super::lineage::{Artifact, Lineage, Strategy};
use super::plot::{Plot, Scale, Tick, bars, plain, steps};
use crate::corpus::{Corpus, Names};
use crate::inspect::rows;
use crate::nats::{Bin, Nats, Range};
use crate::number::{count, percent};
use crate::passage::{Passage, Piece};
use crate::sample::{self, ROWS};
use crate::scan::{EntropyScan, MIN_COUNT, MaskScan, Ranking, TokenMasked};

/// Shades of the passage.
const SHADES: usize = 9;
/// Bars of the histogram, about.
const BARS: usize = 28;
/// Of the histogram's highest bar: what stands above the plot is not to be touched.
const HEADROOM: f64 = 1.1;
/// Tokens in each list.
const RANKED: usize = 8;

/// What the page says about the text that the last round was trained on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Text {
    /// Number of the row.
    pub row: u64,
    pub tokens: Vec<Token>,
    /// Entropy of each shade's middle, in nats.
    pub legend: Vec<String>,
    pub masked_count: usize,
    pub histogram: Option<Plot>,
    pub ranking: Ranking,
    pub most_masked: Vec<Share>,
    /// How many rows the statistics are from.
    pub looked_at: String,
    pub mean_all: Option<String>,
    pub mean_masked: Option<String>,
    /// Whether there are entropies.
    pub scored: bool,
    /// What is wrong with them, if they hardly differ.
    pub flat: Option<String>,
    /// Why there are none, as a sentence.
    pub unscored: &'static str,
    /// Whether masks were chosen while training ran, so that none were selected beforehand.
    pub online: bool,
}

/// One token of the passage.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Token {
    pub gap: String,
    pub text: String,
    /// 0 to [`SHADES`] − 1; none if it was not scored.
    pub shade: Option<usize>,
    pub entropy: Option<String>,
    pub surprisal: Option<String>,
    pub masked: Option<String>,
}

/// How often a token is masked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Share {
    pub token: String,
    pub masked: String,
    pub of_its_own: String,
}

/// The artifacts behind the text.
struct Sources {
    corpus: Corpus,
    /// None where they were chosen while training ran: those that the run began with would say nothing.
    masks: Option<Artifact>,
    entropy: Option<Artifact>,
}

/// The text of the run, or why there is none to show.
///
/// # Errors
/// A [`Fault`] if a part is damaged, or the row that was asked for does not exist.
pub(crate) fn text(lineage: &Lineage, row: Option<u64>) -> anyhow::Result<Result<Text, String>> {
    let sources = match Sources::find(lineage) {
        Ok(sources) => sources,
        Err(why) => return Ok(Err(why)),
    };
    let parts = sources.corpus.parts();
    let (chosen, looked) = sample::choose(&parts, Some(ROWS));
    let Some(&first) = chosen.first() else { return Ok(Err("the corpus has no rows".into())) };
    let mut scans = (EntropyScan::default(), MaskScan::default());
    for &index in &chosen {
        sources.scan(index, &mut scans)?;
    }
    let (part, row) = match row {
        Some(row) => rows::find(&parts, row).map(|(part, row)| (part, Some(row)))?,
        None => (first, None),
    };
    let passage = sources.passage(part, row)?;
    let looked_at = format!("{} of {}", count(looked.rows), count(looked.of_rows));
    let (online, unscored) = (sources.masks.is_none(), sources.unscored());
    Ok(Ok(Text { unscored, online, ..describe(&passage, &scans, &sources.corpus.names, looked_at) }))
}

fn describe(passage: &Passage, scans: &(EntropyScan, MaskScan), names: &Names, looked_at: String) -> Text {
    let (EntropyScan { entropy, .. }, MaskScan { entropy: of_masked, .. }) = scans;
    let summary = entropy.summary();
    let range = summary.range();
    let mean = |nats: &Nats| (!nats.is_empty()).then(|| format!("{:.2}", nats.mean()));
    Text {
        row: passage.row,
        masked_count: passage.pieces.iter().filter(|piece| piece.masked.is_some()).count(),
        tokens: passage.pieces.iter().map(|piece| token(piece, range)).collect(),
        legend: legend(range),
        histogram: histogram(entropy, of_masked),
        ranking: scans.0.ranking(RANKED, MIN_COUNT, names),
        most_masked: scans.1.most_masked(RANKED, names).iter().map(share).collect(),
        looked_at,
        mean_all: mean(entropy),
        mean_masked: mean(of_masked),
        scored: !entropy.is_empty(),
        flat: summary.is_flat().then(|| summary.flatness()),
        unscored: "",
        online: false,
    }
}

impl Sources {
    fn find(lineage: &Lineage) -> Result<Self, String> {
        let model = lineage.model();
        let masks = match lineage.strategy() {
            Strategy::Online => None,
            _ => Some(model.source("masks").ok_or("the masks of the last round are not there any more")?),
        };
        let corpus = Corpus::behind(&model.manifest, &model.dir)?;
        let entropy = match masks.as_ref().filter(|masks| masks.manifest.input("entropy").is_some()) {
            Some(masks) => masks.source("entropy"),
            // Masks without entropies: those of the same corpus still say what the model was unsure of.
            None => lineage.of_kind(Kind::Entropy).next_back().map(|stage| stage.artifact.clone()),
        };
        Ok(Self { corpus, masks, entropy })
    }

    fn unscored(&self) -> &'static str {
        let Some(Artifact { manifest, .. }) = &self.masks else { return "" };
        if manifest.input("entropy").is_some() {
            return "The entropies that chose its masks are gone.";
        }
        match manifest.config["policy"]["name"].as_str() {
            Some("random") => "This run measured no entropies: its masks are random.",
            _ => "This run measured no entropies: its masks need none.",
        }
    }

    fn scan(&self, index: usize, (scores, masks): &mut (EntropyScan, MaskScan)) -> anyhow::Result<()> {
        let tokens = self.corpus.read(index, TokenColumns { word: true, ..TokenColumns::default() })?;
        let part = self.scores(index)?;
        if let Some(part) = &part {
            scores.add(part, Some(&tokens));
        }
        if let Some(part_masks) = self.masks(index)? {
            masks.add(&part_masks, Some(&tokens), part.as_ref(), None);
        }
        Ok(())
    }

    /// The scores of the rows of token part `index`.
    fn scores(&self, index: usize) -> anyhow::Result<Option<Entropies>> {
        let Some(entropy) = &self.entropy else { return Ok(None) };
        entropy
            .manifest
            .parts("part")
            .nth(index)
            .map(|part| Entropies::read(&entropy.dir.join(&part.file)))
            .transpose()
    }

    /// The masks of token part `index` in the last epoch.
    fn masks(&self, index: usize) -> anyhow::Result<Option<Masks>> {
        let Some(masks) = &self.masks else { return Ok(None) };
        let wanted = format!("-{index:05}.parquet");
        let of_part = |output: &&Output| output.file.ends_with(&wanted);
        let part = masks.manifest.outputs.iter().rfind(of_part).ok_or_else(|| {
            Fault::input(format!("{}: no masks for token part {index}", masks.dir.display()))
                .remedy("select the masks again")
        })?;
        Masks::read(&masks.dir.join(&part.file)).map(Some)
    }

    fn passage(&self, index: usize, row: Option<usize>) -> anyhow::Result<Passage> {
        let (tokens, masks) = (self.corpus.read(index, TokenColumns::ALL)?, self.masks(index)?);
        let scores = self.scores(index)?;
        let row = row.unwrap_or_else(|| {
            scores
                .as_ref()
                .map_or_else(|| rows::long(&tokens.input_ids), |scores| rows::typical(&scores.entropy))
        });
        let mut passage = Passage::new(&tokens, row, &self.corpus.names);
        if let (Some(scores), Some(entropy)) = (&scores, &self.entropy) {
            check_rows(&entropy.dir, &tokens, scores.rows())?;
            passage.scored(scores.entropy.row(row), scores.surprisal.row(row));
        }
        if let (Some(masks), Some(of)) = (&masks, &self.masks) {
            check_rows(&of.dir, &tokens, masks.rows())?;
            passage.masked(masks.positions.row(row), masks.inputs.row(row), &self.corpus.names);
        }
        Ok(passage.finished())
    }
}

fn check_rows(dir: &Path, tokens: &Tokens, rows: usize) -> anyhow::Result<()> {
    if tokens.rows() == rows {
        return Ok(());
    }
    Err(Fault::input(format!("{}: a part has {rows} rows, the tokens have {}", dir.display(), tokens.rows()))
        .remedy("delete manifest.json of that folder and run its stage again")
        .into())
}

fn token(piece: &Piece, range: Range) -> Token {
    let shade = |nats: f32| range.level(f64::from(nats), SHADES);
    Token {
        gap: piece.gap.clone(),
        text: piece.text.clone(),
        shade: piece.entropy.map(shade),
        entropy: piece.entropy.map(|nats| format!("{nats:.2}")),
        surprisal: piece.surprisal.map(|nats| format!("{nats:.2}")),
        masked: piece.masked.clone(),
    }
}

fn share(token: &TokenMasked) -> Share {
    Share {
        token: token.token.clone(),
        masked: count(token.masked),
        of_its_own: percent(token.masked as f64 / token.count.max(1) as f64),
    }
}

fn legend(range: Range) -> Vec<String> {
    (0..SHADES).map(|shade| format!("{:.*}", range.decimals(), range.middle(shade, SHADES))).collect()
}

/// Shares of all tokens and of the masked ones by entropy.
fn histogram(all: &Nats, masked: &Nats) -> Option<Plot> {
    if all.is_empty() {
        return None;
    }
    let range = all.range();
    let (all_bins, masked_bins) = (all.histogram(range, BARS), masked.histogram(range, BARS));
    let (all_shares, masked_shares) = (shares(&all_bins), shares(&masked_bins));
    let highest = all_shares.iter().chain(&masked_shares).copied().fold(0.0, f64::max);
    let y = Scale::from_zero([highest * HEADROOM]);
    let mut lines = vec![bars("all", &all_shares, y)];
    if !masked.is_empty() {
        lines.push(steps("masked", &masked_shares, y));
    }
    let x = Scale::between(all_bins[0].from, all_bins[all_bins.len() - 1].to);
    Some(Plot {
        id: "histogram",
        title: "Entropies of all tokens and of the masked ones",
        label: histogram_in_words(all, masked),
        lines,
        x: x.ticks(6, plain),
        y: y.ticks(4, |share| format!("{}\u{a0}%", plain(share))),
        marks: vec![],
        spans: vec![],
        guides: Vec::<Tick>::new(),
    })
}

fn shares(bins: &[Bin]) -> Vec<f64> {
    let total: u64 = bins.iter().map(|bin| bin.count).sum();
    bins.iter().map(|bin| 100.0 * bin.count as f64 / total.max(1) as f64).collect()
}

fn histogram_in_words(all: &Nats, masked: &Nats) -> String {
    let middle = format!(
        "Half of all tokens have an entropy below {:.2} nats; the mean is {:.2} nats",
        all.percentile(50.0),
        all.mean()
    );
    if masked.is_empty() {
        middle
    } else {
        format!("{middle}, over the masked tokens {:.2} nats", masked.mean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_that_hardly_differ_are_said_to() {
        let told = |step: f32| {
            let mut scans = (EntropyScan::default(), MaskScan::default());
            (0..100).for_each(|n| scans.0.entropy.add(10.26 + step * (n % 10) as f32));
            describe(&Passage::default(), &scans, &Names::default(), String::new()).flat
        };
        assert!(
            told(0.001).is_some_and(|words| words.starts_with("hardly differ (standard deviation 0.003"))
        );
        assert_eq!(told(0.1), None);
    }

    #[test]
    fn the_histogram_leaves_room_below_its_legend() {
        let mut all = Nats::default();
        (0..100).for_each(|n| all.add((n % 10) as f32));
        let plot = histogram(&all, &all).expect("a histogram");
        let tops = plot.lines.iter().flat_map(|line| line.path.split('V').skip(1));
        let tops = tops.filter_map(|rest| rest.split(['H', 'Z']).next()?.parse().ok());
        assert!(tops.fold(f64::MAX, f64::min) > 50.0, "{:?}", plot.lines);
    }
}
