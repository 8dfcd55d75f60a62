//! How far cheap conditionings agree with the exact one, on a sample.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use entromask_cli::{CommonArgs, Progress, check_interrupt};
use entromask_fault::Fault;
use entromask_policy::rank::{spearman, top_agreement};
use entromask_tables::{Entropies, Tokens};
use serde::Serialize;

use crate::draft::Draft;
use crate::job::{Job, Teacher};
use crate::part::Part;
use crate::rank::pairs;
use crate::sample;
use crate::watch::Bar;
use crate::{Conditioning, Config, Paths};

/// Least rank correlation within rows, and least agreement of the highest 15 %, of a scorer that can be trusted.
///
/// Seven of ten masked tokens are then those that exact scores would have masked; chance has 1.5 of ten. The two go
/// together: for normal variables with a Spearman correlation of 0.89 the highest 15 % agree to 72 %.
const TRUSTED: (f64, f64) = (0.9, 0.7);

/// Share of a row that is compared: what training masks.
const TOP: f64 = 0.15;

/// Entropies below this, in nats, say that the model knows the answer.
const KNOWN: f32 = 0.01;

/// Standard deviation of the exact entropies, in nats, below which their order means little: the model has hardly
/// learned to tell tokens apart.
const FLAT: f64 = 0.1;

/// Tokens below which the sample says little: the error of a correlation of 0.9 is then about 0.02.
const ENOUGH: usize = 100;

/// Arguments of `entromask-score fidelity`.
#[derive(Clone, Debug, clap::Args)]
pub struct FidelityArgs {
    /// The tokens artifact
    #[arg(long, value_name = "DIR")]
    pub tokens: PathBuf,
    /// A model artifact or a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Rows of the sample; each of their tokens takes a pass of its own
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub rows: u64,
    /// `--config` and `--set` say which scoring is judged.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Fidelity {
    /// Rows of the sample.
    pub rows: usize,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Exact scores: each token masked alone.
    pub exact: Level,
    /// k disjoint sets, each masked once.
    pub kfold: Agreement,
    /// Nothing masked.
    pub unmasked: Agreement,
    /// Whether the configured scoring can be trusted; `None` if the sample is too small to tell.
    pub trusted: Option<bool>,
    /// The same in words.
    pub verdict: String,
}

/// How high entropies are.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Level {
    /// Mean, in nats.
    pub mean_entropy: f64,
    /// Standard deviation, in nats.
    pub spread: f64,
    /// Share of tokens with less than 0.01 nats.
    pub known: f64,
}

/// How one conditioning compares with exact scores.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Agreement {
    /// Spearman's rank correlation of all tokens' entropies, ties averaged; null where there is nothing to rank.
    pub spearman: Option<f64>,
    /// Its mean within rows, where masks are chosen.
    pub spearman_in_rows: Option<f64>,
    /// Share of each row's highest 15 % that are the same, on average.
    pub top_agreement: f64,
    /// Mean absolute difference, in nats.
    pub mean_difference: f64,
    /// How high its entropies are.
    pub level: Level,
    /// Its mean entropy as a share of the exact one: far below 1 where the model sees the answer.
    pub entropy_ratio: f64,
}

impl FidelityArgs {
    /// Common flags that only make sense for artifacts.
    pub const UNUSED: &[&str] = &["--out", "--dry-run", "--print-config"];
}

/// Scores a sample three ways and compares.
///
/// # Errors
/// As scoring; a usage fault if the sample is empty, or with a flag that only makes sense for artifacts.
pub fn fidelity(args: &FidelityArgs) -> Result<Fidelity> {
    args.common.refuse("fidelity", FidelityArgs::UNUSED)?;
    let config: Config = entromask_cli::load(&args.common)?;
    refuse_samples(&args.common, &config)?;
    let paths = Paths { tokens: args.tokens.clone(), model: args.model.clone(), out: PathBuf::new() };
    let compute = (&args.common).into();
    let job = Job::load(&config, &paths, &compute)?;
    let teacher = job.teacher()?;
    // What is judged is the scoring of all rows.
    let config = Config { fraction: 1.0, rows: None, measures: [].into(), ..config.clone() };
    let part = sampled(&job, &teacher, args, &config)?;
    let scores = |conditioning| scored(&part, &teacher, &config, conditioning);
    let exact = scores(Conditioning::MaskEach)?;
    let (kfold, unmasked) = (scores(Conditioning::Kfold)?, scores(Conditioning::Unmasked)?);
    let tokens = exact.entropy.values.iter().flatten().count();
    if tokens == 0 {
        return Err(Fault::usage(format!("--rows {}: no token to score in the sample", args.rows))
            .remedy("take more rows")
            .into());
    }
    let [kfold, unmasked] = [kfold, unmasked].map(|other| compare(&exact, &other));
    let judged = if config.conditioning == Conditioning::Unmasked { &unmasked } else { &kfold };
    let (rows, exact) = (exact.rows(), level(&exact));
    let (trusted, verdict) = judge(&config, judged, exact.spread, tokens);
    Ok(Fidelity { rows, tokens, exact, kfold, unmasked, trusted, verdict })
}

/// A sample that a recipe asks for is not what is judged; who asks for one here means `--rows`.
fn refuse_samples(common: &CommonArgs, config: &Config) -> Result<()> {
    let asked = |key: &&&str| common.set.iter().any(|set| set.split('=').next().map(str::trim) == Some(key));
    if let Some(key) = ["rows", "fraction", "measures"].iter().find(asked) {
        return Err(Fault::usage(format!("fidelity has no use for --set {key}"))
            .remedy("leave it out; --rows N says how many rows are sampled")
            .into());
    }
    if config.is_sample() {
        tracing::info!(
            "`rows` and `fraction` of the configuration are left out: the scoring of all rows is judged"
        );
    }
    Ok(())
}

fn sampled(job: &Job<'_>, teacher: &Teacher, args: &FidelityArgs, config: &Config) -> Result<Part> {
    let (parts, dir) = (job.parts(None), &args.tokens);
    let mut sample = Tokens::default();
    for (index, places) in sample::places(&parts, args.rows, config.seed) {
        check_interrupt()?;
        let output = parts[index].1;
        output.verify(dir)?;
        let part = Tokens::read(&dir.join(&output.file), teacher.reader().columns())?;
        sample::take(&part, &places, &mut sample);
    }
    teacher.reader().prepare(sample, dir, config)
}

fn scored(part: &Part, teacher: &Teacher, config: &Config, conditioning: Conditioning) -> Result<Entropies> {
    check_interrupt()?;
    let all = Config { conditioning, ..config.clone() };
    let work = part.work(&all, teacher.reader().shape());
    let progress = Progress::new(name(&all), work.tokens);
    let bar = Bar { progress: &progress, writer: None };
    let scores = part.score(&teacher.scorer(&all), &mut Draft::none(), &bar);
    progress.finish();
    scores
}

fn compare(exact: &Entropies, other: &Entropies) -> Agreement {
    let rows: Vec<_> = pairs(&exact.entropy, &other.entropy).filter(|(row, _)| !row.is_empty()).collect();
    let (all, others): (Vec<f32>, Vec<f32>) = (
        rows.iter().flat_map(|row| row.0.clone()).collect(),
        rows.iter().flat_map(|row| row.1.clone()).collect(),
    );
    let within: Vec<f64> = rows.iter().filter_map(|(exact, other)| spearman(exact, other)).collect();
    let tops: Vec<f64> = rows.iter().map(|(exact, other)| top_agreement(exact, other, TOP)).collect();
    let differences: Vec<f64> = all.iter().zip(&others).map(|(a, b)| f64::from((a - b).abs())).collect();
    let (level, exact) = (level(other), level(exact));
    Agreement {
        spearman: spearman(&all, &others),
        spearman_in_rows: (!within.is_empty()).then(|| mean(&within)),
        top_agreement: mean(&tops),
        mean_difference: mean(&differences),
        level,
        entropy_ratio: if exact.mean_entropy > 0.0 { level.mean_entropy / exact.mean_entropy } else { 1.0 },
    }
}

fn level(scores: &Entropies) -> Level {
    let values: Vec<f64> = scores.entropy.values.iter().flatten().map(|&nats| f64::from(nats)).collect();
    let known = values.iter().filter(|&&nats| nats < f64::from(KNOWN)).count();
    let center = mean(&values);
    let squares: Vec<f64> = values.iter().map(|nats| (nats - center).powi(2)).collect();
    Level {
        mean_entropy: center,
        spread: mean(&squares).sqrt(),
        known: known as f64 / values.len().max(1) as f64,
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn judge(config: &Config, judged: &Agreement, spread: f64, tokens: usize) -> (Option<bool>, String) {
    if config.conditioning == Conditioning::MaskEach {
        return (Some(true), "mask-each can be trusted: it is exact".into());
    }
    let (name, (least_rank, least_top)) = (name(config), TRUSTED);
    if tokens < ENOUGH {
        return (
            None,
            format!("{tokens} tokens are too few to say whether {name} can be trusted: take more --rows"),
        );
    }
    let rank = judged.spearman_in_rows.unwrap_or(0.0);
    let trusted = rank >= least_rank && judged.top_agreement >= least_top;
    let verb = if trusted { "can be trusted" } else { "cannot be trusted" };
    let verdict = format!(
        "{name} {verb}: Spearman in rows {rank:.3} (at least {least_rank}), highest 15 % agree to {:.1} % (at least {:.0} %)",
        100.0 * judged.top_agreement,
        100.0 * least_top,
    );
    let flat = format!("; but the model's entropies hardly differ (standard deviation {spread:.3} nats)");
    let verdict = if trusted { verdict } else { format!("{verdict}; {}", remedy(config)) };
    (Some(trusted), if spread < FLAT { verdict + &flat } else { verdict })
}

/// What comes nearer to the exact scores, at a cost.
fn remedy(config: &Config) -> String {
    match config.conditioning {
        Conditioning::Kfold => {
            let more = 2 * config.fold_count();
            format!(
                "hide fewer tokens at once, as with --set folds={more}, for as many passes over the corpus"
            )
        }
        Conditioning::Unmasked | Conditioning::MaskEach => {
            "hide what is scored, as with --set conditioning=kfold, for more passes over the corpus".into()
        }
    }
}

fn name(config: &Config) -> String {
    match config.conditioning {
        Conditioning::Kfold => format!("kfold, k = {}", config.fold_count()),
        Conditioning::MaskEach => "mask-each".into(),
        Conditioning::Unmasked => "unmasked".into(),
    }
}

impl fmt::Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, tokens, exact, kfold, unmasked, verdict, .. } = self;
        writeln!(f, "{rows} rows, {tokens} tokens; each conditioning against mask-each, which is exact")?;
        let titles = ["Spearman", "in rows", "top 15 %", "difference", "mean nats", "ratio", "< 0.01 nats"];
        writeln!(f, "{:11}{}", "", titles.map(|title| format!("{title:>12}")).concat())?;
        let (mean, known) = (exact.mean_entropy, 100.0 * exact.known);
        writeln!(f, "{:11}{:48}{mean:>12.3}{:>12.3}{known:>10.1} %", "mask-each", "", 1.0)?;
        line(f, "kfold", kfold)?;
        line(f, "unmasked", unmasked)?;
        write!(f, "{verdict}")
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, agreement: &Agreement) -> fmt::Result {
    let rank = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
    let Agreement { spearman, spearman_in_rows, top_agreement, mean_difference, level, entropy_ratio } =
        agreement;
    write!(f, "{name:11}{:>12}{:>12}", rank(*spearman), rank(*spearman_in_rows))?;
    write!(f, "{:>10.1} %{mean_difference:>12.3}", 100.0 * top_agreement)?;
    writeln!(f, "{:>12.3}{entropy_ratio:>12.3}{:>10.1} %", level.mean_entropy, 100.0 * level.known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use entromask_tables::Ragged;

    fn scores(rows: &[&[f32]]) -> Entropies {
        let entropy = Ragged::from_rows(rows.iter().map(|row| row.iter().map(|&nats| Some(nats))));
        Entropies { row: (0..rows.len() as u64).collect(), entropy, ..Entropies::default() }
    }

    #[test]
    fn equal_scores_agree() {
        let exact = scores(&[&[1.0, 2.0, 3.0], &[4.0, 0.005]]);
        let same = compare(&exact, &exact);
        assert_eq!((same.spearman, same.spearman_in_rows), (Some(1.0), Some(1.0)));
        assert!((same.top_agreement - 1.0).abs() < 1e-12 && same.mean_difference.abs() < 1e-12);
        assert!((same.level.spread - 1.4128).abs() < 1e-3, "{}", same.level.spread);
        assert!((same.level.known - 0.2).abs() < 1e-12 && (same.entropy_ratio - 1.0).abs() < 1e-12);
    }

    #[test]
    fn leaks_and_reversals_show() {
        let (exact, leaking) = (scores(&[&[1.0, 2.0, 3.0, 4.0]]), scores(&[&[0.004, 0.003, 0.002, 0.001]]));
        let found = compare(&exact, &leaking);
        assert_eq!((found.spearman, found.spearman_in_rows), (Some(-1.0), Some(-1.0)));
        assert!(found.top_agreement.abs() < 1e-12 && (found.level.known - 1.0).abs() < 1e-12);
        assert!(found.entropy_ratio < 0.01);
    }

    #[test]
    fn the_verdict_names_its_thresholds() {
        let agreement = |rank, top| Agreement {
            spearman_in_rows: Some(rank),
            top_agreement: top,
            ..Agreement::default()
        };
        let config = Config::default();
        for (rank, top, trusted) in [(0.95, 0.8, true), (0.95, 0.6, false), (0.8, 0.8, false)] {
            let (found, verdict) = judge(&config, &agreement(rank, top), 1.0, 1000);
            assert_eq!(found, Some(trusted));
            assert!(verdict.contains("kfold, k = 7") && verdict.contains("at least 0.9"), "{verdict}");
        }
        assert_eq!(judge(&config, &agreement(0.95, 0.8), 1.0, 50).0, None);
        assert!(judge(&config, &agreement(0.95, 0.8), 0.05, 1000).1.contains("hardly differ"));
        let exact = Config { conditioning: Conditioning::MaskEach, ..config };
        assert_eq!(judge(&exact, &agreement(0.0, 0.0), 1.0, 1000).0, Some(true));
    }
}
