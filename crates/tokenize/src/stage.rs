//! The stage as a whole: recipe, work, manifest.

use std::path::{Path, PathBuf};
use std::time::Instant;

use entromask_artifact::{
    Begun, Cost, Input, Kind, Manifest, OutputSpec, Recipe, Status, Untouched, Workbench, status, tool,
};
use entromask_cli::CommonArgs;
use entromask_fault::Fault;
use entromask_tables::{TokenColumns, Tokens};

use crate::doubts::doubts;
use crate::parts::DiskGuard;
use crate::pipeline::{Made, Pipeline};
use crate::report::counted;
use crate::{Config, Corpus, Counts, Report, TextEncoder};

/// What a run needs besides its configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The artifact's folder.
    pub out: PathBuf,
    /// Bytes that must stay free on its disk.
    pub min_free_bytes: u64,
}

/// Makes the tokens artifact in `options.out`, or finds that it is up to date.
///
/// # Errors
/// [`Fault`]s that name the file, what was found and the remedy; nothing half-written is left behind.
pub fn run(config: &Config, options: &Options) -> anyhow::Result<Report> {
    config.validate()?;
    let encoder = TextEncoder::load(&config.tokenizer)?;
    // Looked for once: what appears from now on is neither in the key nor read.
    let corpus = Corpus::find(config)?;
    check_files(&options.out, corpus.files())?;
    let untouched = Untouched::of(corpus.files())?;
    let recipe = recipe_with(config, &encoder, &corpus)?;
    if let Status::UpToDate(manifest) = status(&options.out, &recipe)? {
        return Report::new(options.out.clone(), &manifest);
    }
    let program = tool("entromask-tokenize", env!("CARGO_PKG_VERSION"), &[]);
    let bench = match Workbench::begin(&options.out, recipe, program)? {
        Begun::UpToDate(manifest) => return Report::new(options.out.clone(), &manifest),
        Begun::Work(bench) => bench,
    };
    let guard = DiskGuard { min_free_bytes: options.min_free_bytes };
    guard.check(&options.out)?;
    let started = Instant::now();
    let pipeline = Pipeline { config, corpus: &corpus, encoder: &encoder, bench: &bench, guard };
    let Made { counts, parts, resumed_tokens } = match pipeline.run() {
        Ok(made) => made,
        Err(error) => {
            // A later run must not take parts over that may be of another text.
            if untouched.touched().is_some() {
                bench.discard_all();
            }
            return Err(error);
        }
    };
    if let Err(error) =
        check_rows(config, &counts).and_then(|()| check_bytes(config, &corpus, &untouched, &bench))
    {
        bench.discard(&parts);
        return Err(error);
    }
    let seconds = started.elapsed().as_secs_f64();
    let manifest = publish(*bench, &encoder, &counts, parts)?;
    Ok(Report {
        up_to_date: false,
        resumed_tokens,
        tokens_per_second: Some((counts.tokens + counts.valid_tokens - resumed_tokens) as f64 / seconds),
        seconds_now: Some(seconds),
        sample: Some(sample(&options.out, &manifest, &encoder)?),
        ..Report::new(options.out.clone(), &manifest)?
    })
}

/// What the artifact would be made of; also checks the configuration, the tokenizer and that the files are there.
pub fn recipe(config: &Config) -> anyhow::Result<Recipe> {
    config.validate()?;
    recipe_with(config, &TextEncoder::load(&config.tokenizer)?, &Corpus::find(config)?)
}

fn recipe_with(config: &Config, encoder: &TextEncoder, corpus: &Corpus) -> anyhow::Result<Recipe> {
    check_length(config, encoder)?;
    let files = TextEncoder::files(&config.tokenizer)?;
    let tokenizer =
        Input::files("tokenizer", &config.tokenizer, &files, "check `tokenizer` in the corpus config")?;
    let corpus = corpus_input(config, corpus)?;
    let mut semantic = config.semantic()?;
    if encoder.special().has_others() {
        // Once only the five usual roles were special, and a text might spell other tokens out.
        semantic["special"] = "all".into();
    }
    if encoder.is_without_dropout() {
        // Once such a tokenizer split words by chance, which no key can tell.
        semantic["dropout"] = "none".into();
    }
    if encoder.is_with_roles() {
        // Once the tokenizer that is handed on put nothing around a text, as the one that was given.
        semantic["around"] = "roles".into();
    }
    if config.max_documents_per_row != 1 && encoder.around()[1].is_empty() && !encoder.around()[0].is_empty()
    {
        // Once nothing separated such documents.
        semantic["separator"] = "before".into();
    }
    if let Some(rules) = encoder.once_overlooked() {
        semantic["probe"] = rules.into();
    }
    Ok(Recipe { kind: Kind::Tokens, config: semantic, inputs: vec![tokenizer, corpus] })
}

fn corpus_input(config: &Config, corpus: &Corpus) -> anyhow::Result<Input> {
    let label = PathBuf::from(config.files.join(", "));
    Input::files("corpus", &label, corpus.files(), "check `files` in the corpus config")
}

/// Says what [`run`] would do.
pub fn dry_run(common: &CommonArgs, config: &Config) -> anyhow::Result<()> {
    let out = common.out()?;
    check_files(out, Corpus::find(config)?.files())?;
    entromask_cli::plan(common, out, &[], || recipe(config))?;
    Ok(())
}

/// A glob may reach into the artifact, which would be read as text in the next run, and in all that follow.
fn check_files(out: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    let is_own = |file: &&PathBuf| file.canonicalize().is_ok_and(|file| file.starts_with(&out));
    files.iter().find(is_own).map_or(Ok(()), |file| {
        Err(Fault::usage(format!("{}: `files` names a file within the output folder", file.display()))
            .remedy("choose another --out, or a glob that does not reach into it")
            .into())
    })
}

fn check_length(config: &Config, encoder: &TextEncoder) -> anyhow::Result<()> {
    let special: usize = encoder.around().iter().map(Vec::len).sum();
    if config.seq_len >= special + 4 {
        let most = config.seq_len - special;
        if config.min_row_tokens <= most {
            return Ok(());
        }
        return Err(Fault::usage(format!("min_row_tokens = {}", config.min_row_tokens))
            .remedy(format!("choose at most {most}: special tokens do not count"))
            .into());
    }
    Err(Fault::usage(format!("seq_len = {}: the tokenizer adds {special} special tokens", config.seq_len))
        .remedy("choose longer rows")
        .into())
}

fn check_rows(config: &Config, counts: &Counts) -> anyhow::Result<()> {
    if counts.rows == 0 {
        return Err(no_rows(config, counts).into());
    }
    doubts(config, counts).for_each(|doubt| tracing::warn!("{doubt}"));
    Ok(())
}

/// The key has the digest of what the files were before they were read.
fn check_bytes(
    config: &Config,
    corpus: &Corpus,
    untouched: &Untouched,
    bench: &Workbench,
) -> anyhow::Result<()> {
    let Some(file) = untouched.touched() else { return Ok(()) };
    if file.exists() && bench.is_made_from(&corpus_input(config, corpus)?) {
        return Ok(());
    }
    Err(Fault::input(format!("{}: it was changed while it was read", file.display()))
        .remedy("run again once nobody writes to it")
        .into())
}

/// Why there is nothing to train on, and which key would change that.
fn no_rows(config: &Config, counts: &Counts) -> Fault {
    let mut found = vec![counted(counts.documents_read, "document") + " read"];
    found.extend(Some(format!("{} held out", counts.valid_docs)).filter(|_| counts.valid_docs > 0));
    found.extend(counts.oddities());
    let remedy = match counts {
        Counts { documents_read: 0, .. } => {
            "check `files` and `format`: there is no text in these files".into()
        }
        Counts { docs: 0, dropped_rows: 0, skipped, .. } if skipped.left_out > 0 => format!(
            "raise `train_fraction`, which is {}, or add text: a document is left out with the rest of the \
             probability",
            config.train_fraction
        ),
        // Whatever is held out, the others have no row either where rows were dropped.
        Counts { valid_docs: 1.., docs: 0, dropped_rows: 0, .. } => format!(
            "lower `valid_fraction`, which is {}, or add text: a document is held out with that probability",
            config.valid_fraction
        ),
        _ => "loosen `min_chars`, `max_chars` or `min_row_tokens`, or check `files` and `format`".into(),
    };
    let message = format!("{}: no training rows: {}", config.files.join(", "), found.join(", "));
    Fault::input(message).remedy(remedy)
}

/// Adds the tokenizer to the parts and writes the manifest.
fn publish(
    bench: Workbench,
    encoder: &TextEncoder,
    counts: &Counts,
    mut outputs: Vec<OutputSpec>,
) -> anyhow::Result<Manifest> {
    for (file, text) in encoder.copies()? {
        bench.write_bytes(file, text.as_bytes())?;
        outputs.push(OutputSpec::file(file));
    }
    let tokens = counts.tokens + counts.valid_tokens;
    let cost = Cost { tokens, device: "cpu".into(), ..Cost::default() };
    bench.publish(outputs, serde_json::to_value(counts)?, cost)
}

/// A training row drawn at random, decoded: a look at what was made.
fn sample(out: &Path, manifest: &Manifest, encoder: &TextEncoder) -> anyhow::Result<(u64, String)> {
    let mut rng = entromask_random::keyed(0, &manifest.key, 0, 0);
    let parts: Vec<_> = manifest.parts("part").collect();
    let part = parts[entromask_random::below(parts.len(), &mut rng)];
    let tokens = Tokens::read(&out.join(&part.file), TokenColumns::default())?;
    let index = entromask_random::below(tokens.rows(), &mut rng);
    let text = encoder.tokenizer().decode(tokens.input_ids.row(index), false);
    Ok((tokens.row[index], text.map_err(|error| anyhow::anyhow!(error))?))
}

#[cfg(test)]
mod tests {
    use entromask_fault::{Class, class_of};

    use super::*;

    #[test]
    fn a_corpus_that_is_changed_while_it_is_read_is_refused() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("growing.txt");
        fs_err::write(&file, "text")?;
        let config = Config { files: vec![file.display().to_string()], ..Config::default() };
        let corpus = Corpus::find(&config)?;
        let untouched = Untouched::of(corpus.files())?;
        let inputs = vec![corpus_input(&config, &corpus)?];
        let recipe = Recipe { kind: Kind::Tokens, config: serde_json::Value::Null, inputs };
        let bench = Workbench::open(&folder.path().join("out"), recipe, tool("test", "0", &[]))?;
        let check = || check_bytes(&config, &corpus, &untouched, &bench);
        check()?;
        fs_err::remove_file(&file)?;
        assert!(check().is_err(), "it is gone");
        fs_err::write(&file, "text")?;
        check()?;
        fs_err::write(&file, "text and more")?;
        let error = check().expect_err("another text");
        assert!(error.to_string().contains("growing.txt: it was changed while it was read"), "{error}");
        assert_eq!(class_of(error.as_ref()), Class::Input);
        Ok(())
    }
}
