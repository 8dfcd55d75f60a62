//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use entromask_artifact::Manifest;
use entromask_cli::{CommonArgs, EXIT_CODES_HELP, OutputArgs, emit};
use entromask_fault::{Class, Fault, class_of};
use serde_json::json;

use crate::execute::{
    BECOME, Options, Outcome, Standing, become_program, check, check_configs, execute, fault, launcher,
    log_folder,
};
use crate::grid::{Grid, Run};
use crate::plan::{Place, Plan, RunStages, Stage};
use crate::prose;
use crate::report::twins::{self, Made};
use crate::report::{self, Earlier, Findings, Folders};

/// Runs grids of experiments and reports on them
///
/// Inputs: a grid (TOML, see pipelines/grid/), the configurations that it names, and the stage programs. Outputs: the
/// artifacts of all runs, each made once, and a report in Markdown, HTML and JSON.
#[derive(Debug, Parser)]
#[command(name = "entromask-ablation", version, after_help = EXIT_CODES_HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what is not there yet, then write the report
    ///
    /// Can be stopped at any moment and started again. Example: entromask-ablation run pipelines/grid/sample.toml
    Run {
        #[command(flatten)]
        where_: Where,
        /// Stages to make side by side, instead of what the grid says
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        jobs: Option<u16>,
        /// List the stages and why they would run, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the report about what is there
    ///
    /// Example: entromask-ablation report pipelines/grid/sample.toml --out docs
    Report {
        #[command(flatten)]
        where_: Where,
        /// Another report (JSON) to take runs from that are not here, e.g. from another machine; may be given several times
        #[arg(long = "with", value_name = "REPORT")]
        earlier: Vec<PathBuf>,
    },
    /// Write a Markdown document about results as one HTML page
    ///
    /// The page is in the style of the reports, and has neither scripts nor a network. Drawings are inlined, and links to
    /// documents that have a page beside them lead there. Example: entromask-ablation page docs/results.md
    Page {
        /// The document
        file: PathBuf,
        /// The page, which belongs into the document's folder; by default the document's name with .html
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Become a stage's program, which stops when the grid does
    #[command(name = BECOME, hide = true)]
    Become {
        /// The grid's process
        parent: u32,
        /// The stage's command
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The grid
    grid: PathBuf,
    /// Folder of the artifacts
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Folder of the configurations
    #[arg(long, value_name = "DIR", default_value = "pipelines")]
    pipelines: PathBuf,
    /// Folder of the stage programs; by default that of this one
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Where to compute: cpu, wgpu, vulkan or cuda
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Threads of each stage, instead of what the grid says
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder of the report; by default report/ below the artifacts
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A grid with its stages.
struct Experiment<'a> {
    at: &'a Where,
    grid: Grid,
    plan: Plan,
    place: Place,
    jobs: usize,
}

impl Args {
    /// The flags that it has in common with the stages.
    pub fn common(&self) -> CommonArgs {
        CommonArgs { output: self.output.clone(), ..CommonArgs::default() }
    }

    /// Becomes another program, if that was asked for. To be called before anything waits for signals, since those would be lost.
    ///
    /// # Errors
    /// A [`Fault`] of class input if it cannot be started.
    pub fn become_program(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Become { parent, command } => Err(become_program(*parent, command)),
            _ => Ok(()),
        }
    }

    /// Does what was asked for.
    pub fn run(&self) -> anyhow::Result<()> {
        let common = self.common();
        match &self.command {
            Command::Run { where_, jobs, dry_run: true } => Experiment::new(where_, *jobs)?.show(&common),
            Command::Run { where_, jobs, dry_run: false } => Experiment::new(where_, *jobs)?.run(&common),
            Command::Report { where_, earlier } => Experiment::new(where_, None)?.report(&common, earlier),
            Command::Page { file, out } => page(&common, file, out.as_deref()),
            Command::Become { .. } => self.become_program(),
        }
    }
}

fn page(common: &CommonArgs, file: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let out = out.map_or_else(|| file.with_extension("html"), Into::into);
    prose::write(file, &out)?;
    emit(common, out.display().to_string(), &json!({"files": [out]}))
}

impl<'a> Experiment<'a> {
    fn new(at: &'a Where, jobs: Option<u16>) -> anyhow::Result<Self> {
        let grid = Grid::load(&at.grid, &at.pipelines)?;
        let plan = Plan::new(&grid, &at.data, &at.pipelines)?;
        let jobs = jobs.map_or(grid.jobs, usize::from);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = at.threads.or(grid.threads).unwrap_or((cores / jobs).max(1));
        if threads == 0 {
            return Err(Fault::usage("--threads 0").remedy("give at least one thread").into());
        }
        let (bin, device) = (bin(at)?, at.device.clone());
        let place = Place { bin, device, threads: Some(threads), launcher: launcher() };
        Ok(Self { at, grid, plan, place, jobs })
    }

    fn run(&self, common: &CommonArgs) -> anyhow::Result<()> {
        let standings = check(&self.plan, &self.place, &self.at.data)?;
        check_configs(&self.plan, &self.place, &standings)?;
        let (runs, stages) = (self.grid.runs.len(), self.plan.stages.len());
        tracing::info!("{}: {runs} runs, {stages} stages, {} side by side", self.grid.name, self.jobs);
        self.warn_unpaired();
        let logs = log_folder(&self.at.data, &self.grid.name);
        let data = self.at.data.clone();
        let options = Options { place: self.place.clone(), jobs: self.jobs, logs, data };
        let outcome = execute(&self.plan, &options)?;
        if outcome.interrupted {
            return Err(Fault::interrupted().into());
        }
        self.report(common, &[])?;
        self.judge(&outcome)
    }

    fn warn_unpaired(&self) {
        for text in self.grid.unpaired() {
            tracing::warn!("{}: nothing will compare {text}", self.grid.name);
        }
    }

    fn warn_of_twins(&self, twins: &[String]) {
        for text in twins {
            tracing::warn!("{}: {text}", self.grid.name);
        }
    }

    /// What the runs come to, as far as is known.
    fn made(&self, standings: &[Standing]) -> Vec<Made> {
        let made = |(run, stages): (&Run, &RunStages)| {
            let known = |stage: usize| identity(&self.plan.stages[stage], &standings[stage]);
            Made {
                label: self.grid.label(&run.choice),
                seed: run.choice.seed,
                folder: self.plan.stages[stages.model].out.clone(),
                model: known(stages.model).into_iter().collect(),
                glue: stages.glue.iter().filter_map(|(_, stage)| known(*stage)).collect(),
            }
        };
        self.plan.of(&self.grid).map(made).collect()
    }

    /// Names the runs that something was missing for.
    fn judge(&self, outcome: &Outcome) -> anyhow::Result<()> {
        if outcome.failed.is_empty() {
            return Ok(());
        }
        let lost: Vec<_> =
            outcome.failed.iter().map(|(stage, _)| *stage).chain(outcome.skipped.iter().copied()).collect();
        let failed = self
            .plan
            .of(&self.grid)
            .filter(|(_, stages)| self.plan.stages_of(stages).iter().any(|stage| lost.contains(stage)));
        let names: Vec<_> = failed
            .map(|(run, _)| format!("{} (seed {})", self.grid.label(&run.choice), run.choice.seed))
            .collect();
        let (n, all) = (names.len(), self.grid.runs.len());
        Err(Fault::failed(format!("{n} of {all} runs failed: {}", names.join("; ")))
            .remedy("see above what went wrong; the same command goes on with what is left")
            .into())
    }

    fn show(&self, common: &CommonArgs) -> anyhow::Result<()> {
        let standings = check(&self.plan, &self.place, &self.at.data)?;
        let stages = self.plan.stages.iter().zip(&standings);
        let lines: Vec<_> =
            stages.clone().map(|(stage, standing)| line(&stage.name(&self.at.data), standing)).collect();
        let done = standings.iter().filter(|standing| **standing == Standing::UpToDate).count();
        let summary = format!(
            "{}: {} runs, {} stages, {done} of them up to date",
            self.grid.name,
            self.grid.runs.len(),
            standings.len()
        );
        let json: Vec<_> = stages
            .map(|(stage, standing)| json!({"out": stage.out, "command": stage.line(), "up_to_date": *standing == Standing::UpToDate}))
            .collect();
        emit(common, format!("{}\n{summary}", lines.join("\n")), &json)?;
        self.warn_unpaired();
        self.warn_of_twins(&twins::in_words(&self.made(&standings)));
        self.check_configs(&standings)?;
        let broken = |standing: &Standing| match standing {
            Standing::Broken(broken) => Some(broken.code),
            _ => None,
        };
        let broken: Vec<_> = standings.iter().filter_map(broken).collect();
        let Some(first) = broken.first() else { return Ok(()) };
        Err(fault(*first, format!("{} stages cannot run", broken.len())).remedy("see above why").into())
    }

    /// What is missing may be there when the grid is run; a mistake stays one.
    fn check_configs(&self, standings: &[Standing]) -> anyhow::Result<()> {
        match check_configs(&self.plan, &self.place, standings) {
            Err(error) if class_of(error.as_ref()) == Class::Input => {
                tracing::warn!("{error:#}");
                Ok(())
            }
            checked => checked,
        }
    }

    fn report(&self, common: &CommonArgs, earlier: &[PathBuf]) -> anyhow::Result<()> {
        let out = self.at.out.clone().unwrap_or_else(|| self.at.data.join("report"));
        let new = report::json_file(&self.grid.name, &out);
        let earlier = earlier.iter().map(|path| Earlier::load(path, &new));
        let earlier: Vec<_> = earlier.collect::<anyhow::Result<_>>()?;
        let standings = check(&self.plan, &self.place, &self.at.data)?;
        let folders = Folders { data: &self.at.data, pipelines: &self.at.pipelines };
        let findings = report::read(&self.grid, &self.plan, &standings, folders, &earlier)?;
        warn_of_loss(&findings, &new);
        self.warn_of_twins(&twins::of(&findings));
        let files = report::write(&findings, &out, &self.at.grid)?;
        let shown: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        emit(
            common,
            format!("{}\n{}", report::headline(&findings), shown.join("\n")),
            &json!({"files": files}),
        )
    }
}

/// Says that runs are in the report that is replaced and not in the new one: perhaps nothing but a configuration was changed.
fn warn_of_loss(findings: &Findings, replaced: &Path) {
    let before = Earlier::load(replaced, replaced).map_or(0, |former| former.complete());
    let now = findings.runs.iter().filter(|run| run.missing.is_none()).count();
    if now < before.min(findings.runs.len()) {
        tracing::warn!(
            "{}: {now} runs are complete, {before} were in the report that this one replaces; it says under \"Missing\" why",
            replaced.display()
        );
    }
}

/// The key of what a stage has made, or would make.
fn identity(stage: &Stage, standing: &Standing) -> Option<String> {
    match standing {
        Standing::UpToDate => Manifest::load_any(&stage.out).ok().map(|manifest| manifest.key),
        Standing::Pending(pending) => pending.target.as_ref().map(|target| target.key.clone()),
        Standing::Broken(_) => None,
    }
}

fn line(name: &str, standing: &Standing) -> String {
    match standing {
        Standing::UpToDate => format!("{name}: up to date"),
        Standing::Pending(pending) => format!("{name}: will run\n    {}", pending.reasons.join("\n    ")),
        Standing::Broken(broken) => {
            format!("{name}: cannot run\n    {}", broken.words.replace('\n', "\n    "))
        }
    }
}

/// The stage programs lie beside this one.
fn bin(at: &Where) -> anyhow::Result<PathBuf> {
    if let Some(bin) = &at.bin {
        return Ok(bin.clone());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).into())
}
