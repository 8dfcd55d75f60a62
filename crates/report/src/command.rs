//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use entromask_artifact::Kind;
use entromask_cli::{CommonArgs, EXIT_CODES_HELP, OutputArgs, emit};
use entromask_fault::Fault;

use crate::paint::{Paint, When};
use crate::{agreement, compare, doctor, gc, html, inspect, scan};

/// Looks at artifacts and runs
#[derive(Debug, Parser)]
#[command(name = "entromask-report", version, after_help = EXIT_CODES_HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what an artifact is and what is in it
    ///
    /// Example: entromask-report inspect data/entropy/sample/modernbert-tiny-mlm-self-r3x1-kfold/round-1
    Inspect {
        /// Folder of an artifact, a Hugging Face model folder, or one Parquet part
        path: PathBuf,
        /// Read everything instead of a sample of the parts
        #[arg(long)]
        all: bool,
        /// Show this row as text, counted from 0, instead of a typical one
        #[arg(long, value_name = "N")]
        row: Option<u64>,
        /// Rank tokens that were scored at least so often
        #[arg(long, value_name = "N", default_value_t = scan::MIN_COUNT)]
        min_count: u64,
        /// Compare every file with its digest first
        #[arg(long)]
        verify: bool,
        /// When to use colour
        #[arg(long, value_enum, default_value_t)]
        color: When,
    },
    /// Write one self-contained HTML page about a run
    ///
    /// Follows the manifests from the model back to the corpus. Example: entromask-report html
    /// --model data/models/sample/modernbert-tiny-mlm/self-kfold-mixed-r3x1/round-3
    /// --glue data/glue/sample/modernbert-tiny-mlm/self-kfold-mixed-r3x1/round-3/sample --out run.html
    Html {
        /// Folder of the model that came out
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// Folder of its fine-tuning results; may be repeated
        #[arg(long, value_name = "DIR")]
        glue: Vec<PathBuf>,
        /// Show this row of the corpus instead of a typical one
        #[arg(long, value_name = "N")]
        row: Option<u64>,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Compare fine-tuning results, or scorings of the same tokens, with the first of them
    ///
    /// Of fine-tuning results differences are paired by seed, with 95 % intervals. Example: entromask-report compare
    /// data/glue/sample/modernbert-tiny-mlm/random-e4/sample data/glue/sample/modernbert-tiny-mlm/self-kfold-mixed-r3x1/round-3/sample --out comparison.html
    ///
    /// Of entropies each measure is compared over the positions that both scored, in nats: means, differences, rank
    /// correlation, how many of the 15 % that are most uncertain are the same, and the tokens that differ most. It takes 16
    /// bytes of memory a position that is read. Example: entromask-report compare
    /// data/entropy/sample/modernbert-tiny-mlm-self-kfold-mixed-r3x1/round-2 data/entropy/sample/modernbert-tiny-mlm-self-kfold-mixed-r3x1/round-3
    Compare {
        /// Folders that entromask-glue made, or entromask-score
        #[arg(required = true, num_args = 2.., value_name = "DIR")]
        folders: Vec<PathBuf>,
        /// Of entropies, read everything instead of a sample of the parts
        #[arg(long)]
        all: bool,
        /// Of entropies, rank tokens that both scored at least so often
        #[arg(long, value_name = "N", default_value_t = scan::MIN_COUNT)]
        min_count: u64,
        /// Form; by default what the ending of --out asks for, else tables for the terminal
        #[arg(long, value_enum)]
        format: Option<compare::Format>,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List files that no manifest lists
    ///
    /// Parts of other configurations, left by killed runs. Checkpoints that an interrupted run goes on from are kept. Example:
    /// entromask-report gc data --delete
    Gc {
        /// Folder that holds artifacts, at any depth
        dir: PathBuf,
        /// Remove them
        #[arg(long)]
        delete: bool,
        /// List what interrupted runs left beside a finished artifact, too: such a run would begin anew
        #[arg(long)]
        unfinished: bool,
    },
    /// Look whether this machine has what a first run needs
    Doctor {
        /// Folder that runs write to; samples and tokenizers are looked for in `data`, where runs read them
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
    },
}

impl Args {
    /// The flags that it has in common with the stages.
    pub fn common(&self) -> CommonArgs {
        CommonArgs { output: self.output.clone(), ..CommonArgs::default() }
    }

    /// Does what was asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        let common = self.common();
        match &self.command {
            Command::Inspect { path, all, row, min_count, verify, color } => {
                let options =
                    inspect::Options { all: *all, row: *row, min_count: *min_count, verify: *verify };
                let inspection = inspect::inspect(path, &options)?;
                emit(&common, inspection.render(Paint::choose(*color)), &inspection)
            }
            Command::Html { model, glue, row, out } => {
                let run = html::Run { model: model.clone(), glue: glue.clone(), row: *row };
                let report = html::write(&run, out)?;
                emit(&common, &report, &report)
            }
            Command::Compare { folders, all, min_count, format, out } => {
                let format = format.map_or_else(|| compare::Format::of(out.as_deref()), Ok)?;
                let options = agreement::Options { all: *all, min_count: *min_count };
                if compare::kind(folders)? == Kind::Entropy {
                    let found = agreement::compare(folders, &options)?;
                    return emit(&common, compare::write(&found, format, out.as_deref())?, &found);
                }
                options.refuse(&folders[0])?;
                let found = compare::compare(folders)?;
                emit(&common, compare::write(&found, format, out.as_deref())?, &found)
            }
            Command::Gc { dir, delete, unfinished } => {
                let options = gc::Options { delete: *delete, unfinished: *unfinished };
                let collection = gc::collect(dir, options)?;
                emit(&common, &collection, &collection)
            }
            Command::Doctor { data } => {
                let checks = doctor::examine(doctor::SAMPLES.as_ref(), data);
                emit(&common, doctor::render(&checks), &checks)?;
                match checks.iter().filter(|check| !check.ok).count() {
                    0 => Ok(()),
                    n => Err(Fault::failed(format!("problems found: {n}")).into()),
                }
            }
        }
    }
}
