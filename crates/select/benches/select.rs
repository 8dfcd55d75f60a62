//! Speed of selection beside that of reading and decoding the three columns that it needs (ids, words, entropies), on
//! the same rows and threads, in turns, so that other load on the machine meets both alike.
//!
//! ```text
//! cargo bench --workspace --bench select -- --threads 2
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark's result goes to stdout")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use entromask_policy::corruption::Vocabulary;
use entromask_policy::{Config, Row, Scores, Selector};
use entromask_random::{below, keyed, open_unit};
use entromask_tables::{Entropies, Measure, TokenColumns, Tokens};
use rayon::prelude::*;

const SEQ_LENGTH: usize = 128;
const PARTS: u64 = 8;
const VOCABULARY: usize = 30_522;

/// What is measured: a name and a configuration.
const CONFIGS: [(&str, &str); 11] = [
    ("random", "{}"),
    ("random, 80/10/10", r#"{"corruption": {"mask": 0.8, "random": 0.1, "keep": 0.1}}"#),
    ("high", r#"{"policy": {"name": "high"}}"#),
    ("low", r#"{"policy": {"name": "low"}}"#),
    ("band", r#"{"policy": {"name": "band", "lo": 0.5, "hi": 0.9}}"#),
    ("sample", r#"{"policy": {"name": "sample", "temperature": 1.0}}"#),
    ("mixed", r#"{"policy": {"name": "mixed", "share": 0.5, "temperature": 1.0}}"#),
    ("span", r#"{"policy": {"name": "span"}}"#),
    ("sample, whole words", r#"{"policy": {"name": "sample", "temperature": 1.0}, "whole_word": "max"}"#),
    (
        "sample, cap and spread",
        r#"{"policy": {"name": "sample", "temperature": 1.0}, "cap": 0.1, "spread": {"share": 0.4, "window": 10}}"#,
    ),
    ("sample, budget of a part", r#"{"policy": {"name": "sample", "temperature": 1.0}, "budget": "shard"}"#),
];

#[derive(Parser)]
struct Args {
    /// Rows of 128 tokens
    #[arg(long, default_value_t = 65_536)]
    rows: u64,
    /// Threads; by default all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

struct Part {
    tokens: Tokens,
    entropy: Measure,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let folder = tempfile::tempdir()?;
    let files = write(folder.path(), args.rows / PARTS)?;
    let configs: Vec<(&str, Config)> = CONFIGS
        .iter()
        .map(|(name, json)| Ok((*name, serde_json::from_str(json)?)))
        .collect::<anyhow::Result<_>>()?;
    let (mut reading, mut selecting) = (Vec::new(), vec![Vec::new(); configs.len()]);
    for _ in 0..args.rounds {
        let start = Instant::now();
        let parts = read(&files)?;
        reading.push(start.elapsed().as_secs_f64());
        for ((_, config), seconds) in configs.iter().zip(&mut selecting) {
            let start = Instant::now();
            select(config, &parts)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let tokens = args.rows * SEQ_LENGTH as u64;
    println!("{tokens} tokens, {} threads, median of {} turns", rayon::current_num_threads(), args.rounds);
    let reading = median(reading);
    let speed = |seconds: f64| tokens as f64 / seconds / 1e6;
    println!("{:<26} {:>8.1} M tokens/s", "read and decode 3 columns", speed(reading));
    for ((name, _), seconds) in configs.iter().zip(selecting) {
        let seconds = median(seconds);
        println!("{name:<26} {:>8.1} M tokens/s, ratio {:.2}", speed(seconds), reading / seconds);
    }
    Ok(())
}

/// Tokens and entropies of `PARTS` parts: ids as rare as words are (Zipf), words of one to three pieces.
fn write(folder: &Path, rows: u64) -> anyhow::Result<Vec<[PathBuf; 2]>> {
    let part = |index: u64| {
        let paths = ["tokens", "entropy"].map(|table| folder.join(format!("{table}-{index}.parquet")));
        let mut rng = keyed(1, "benchmark", index, 0);
        let (mut tokens, mut entropies) = (Tokens::default(), Entropies::default());
        for row in index * rows..(index + 1) * rows {
            tokens.row.push(row);
            tokens.doc.push(row / 8);
            tokens.text.push(String::new());
            let zipf = |unit: f64| ((VOCABULARY as f64).powf(unit) as u32).min(VOCABULARY as u32 - 1);
            let ids: Vec<u32> = (0..SEQ_LENGTH).map(|_| zipf(open_unit(&mut rng))).collect();
            let mut word = 0;
            let mut words: Vec<_> = ids
                .iter()
                .map(|_| {
                    word += u16::from(below(4, &mut rng) > 0);
                    Some(word)
                })
                .collect();
            (words[0], words[SEQ_LENGTH - 1]) = (None, None);
            let nats: Vec<_> =
                words.iter().map(|word| word.map(|_| (open_unit(&mut rng) * 10.3) as f32)).collect();
            tokens.begin.push(ids.iter().copied());
            tokens.end.push(ids.iter().copied());
            tokens.input_ids.push(ids);
            tokens.word.push(words);
            entropies.row.push(row);
            entropies.surprisal.push(nats.iter().copied());
            entropies.entropy.push(nats);
        }
        tokens.write(&paths[0], &[])?;
        entropies.write(&paths[1], &[])?;
        Ok(paths)
    };
    (0..PARTS).into_par_iter().map(part).collect()
}

fn read(files: &[[PathBuf; 2]]) -> anyhow::Result<Vec<Part>> {
    let columns = TokenColumns { word: true, ..TokenColumns::default() };
    let part = |[tokens, entropy]: &[PathBuf; 2]| {
        Ok(Part { tokens: Tokens::read(tokens, columns)?, entropy: Measure::read(entropy, "entropy")? })
    };
    files.par_iter().map(part).collect()
}

/// Selects and drops, part by part; returns the number of masked tokens.
fn select(config: &Config, parts: &[Part]) -> anyhow::Result<usize> {
    let vocabulary = Vocabulary { size: VOCABULARY as u32, mask: 103, special: vec![0, 100, 101, 102, 103] };
    let selector = Selector { config, vocabulary: &vocabulary, excluded: &[] };
    let spend = |rows: &[Row]| -> anyhow::Result<usize> {
        let choice = selector.select(rows, 0)?;
        Ok(choice.rows.iter().map(|(positions, _)| positions.len()).sum::<usize>())
    };
    if config.budget == entromask_policy::config::Scope::Shard {
        let part = |part: &Part| spend(&(0..part.tokens.rows()).map(|row| part.row(row)).collect::<Vec<_>>());
        return parts.par_iter().map(part).sum();
    }
    let part = |part: &Part| -> anyhow::Result<usize> {
        (0..part.tokens.rows()).into_par_iter().map(|row| spend(&[part.row(row)])).sum()
    };
    parts.iter().map(part).sum()
}

impl Part {
    fn row(&self, index: usize) -> Row<'_> {
        Row {
            number: self.tokens.row[index],
            input_ids: self.tokens.input_ids.row(index),
            word: self.tokens.word.row(index),
            scores: Scores::Column(self.entropy.values.row(index)),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
