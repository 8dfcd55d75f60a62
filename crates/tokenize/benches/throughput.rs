//! Speed of the whole stage (reading, encoding, packing, writing) beside the raw speed of `encode_batch` on the same
//! documents and threads, in turns, so that other load on the machine meets both alike.
//!
//! ```text
//! cargo bench -p entromask-tokenize --bench throughput -- --files 'data/sample/corpus/*.txt.zst'
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark's result goes to stdout")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use clap::Parser;
use entromask_tokenize::{Config, Corpus, Options, Source, TextEncoder, run};

#[derive(Parser)]
struct Args {
    /// Text files, one paragraph a line; relative to the workspace's folder
    #[arg(long, default_value = "data/sample/corpus/*.txt.zst")]
    files: Vec<String>,
    #[arg(long, default_value = "data/tokenizers/bert-base-uncased")]
    tokenizer: PathBuf,
    /// Most text to use, in MiB
    #[arg(long, default_value_t = 16)]
    mebibytes: usize,
    /// Turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
    let folder = tempfile::tempdir()?;
    let documents = documents(&args)?;
    let file = folder.path().join("corpus.txt");
    std::fs::write(&file, documents.join("\n\n"))?;
    let config = Config {
        files: vec![file.display().to_string()],
        tokenizer: args.tokenizer.clone(),
        ..Config::default()
    };
    let encoder = TextEncoder::load(&args.tokenizer)?;
    let (mut raw, mut whole, mut tokens) = (Vec::new(), Vec::new(), 0);
    for round in 0..args.rounds {
        let (seconds, found) = encode_batch(&encoder, &documents)?;
        tokens = found;
        raw.push(seconds);
        let options = Options { out: folder.path().join(round.to_string()), min_free_bytes: 0 };
        whole.push(stage(&config, &options)?);
    }
    let speed = |seconds: f64| tokens as f64 / seconds / 1e3;
    let (raw, whole) = (median(raw), median(whole));
    println!("{tokens} tokens, {} threads, median of {} turns", rayon::current_num_threads(), args.rounds);
    println!("encode_batch        {:>8.1} k tokens/s", speed(raw));
    println!("entromask-tokenize  {:>8.1} k tokens/s", speed(whole));
    println!("ratio               {:>8.2}", raw / whole);
    Ok(())
}

fn documents(args: &Args) -> anyhow::Result<Vec<String>> {
    let corpus = Corpus::find(&Config { files: args.files.clone(), ..Config::default() })?;
    let (mut documents, mut bytes) = (Vec::new(), 0);
    corpus.read(&Source::default(), &mut |document| {
        bytes += document.text.len();
        if bytes <= args.mebibytes << 20 {
            documents.push(document.text);
        }
        Ok(())
    })?;
    Ok(documents)
}

fn encode_batch(encoder: &TextEncoder, documents: &[String]) -> anyhow::Result<(f64, usize)> {
    let inputs: Vec<&str> = documents.iter().map(String::as_str).collect();
    let start = Instant::now();
    let encodings = encoder.tokenizer().encode_batch(inputs, false).map_err(|error| anyhow!(error))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, encodings.iter().map(tokenizers::Encoding::len).sum()))
}

fn stage(config: &Config, options: &Options) -> anyhow::Result<f64> {
    let start = Instant::now();
    run(config, options)?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
