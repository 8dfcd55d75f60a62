//! `entromask-glue predict`: what a classifier says about the rows of a file.

use std::path::{Path, PathBuf};

use entromask_cli::{CommonArgs, OutputFile, emit, refuse_inputs};

use super::UNUSED;
use crate::answers::{Answers, result_of, trained_length};
use crate::data::read;
use crate::task::Task;

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// Folder of a classifier that was kept, or of any sequence classifier
    #[arg(long, value_name = "DIR")]
    classifier: PathBuf,
    /// Task of GLUE
    #[arg(long, value_name = "NAME", required_unless_present = "task_file")]
    task: Option<String>,
    /// TOML file that defines the task instead
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    task_file: Option<PathBuf>,
    /// Folder in GLUE's official layout
    #[arg(long, value_name = "DIR", default_value = "data/glue-data")]
    data: PathBuf,
    /// Labelled file of the task; by default the first one of its dev splits
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Longest row in tokens; longer ones are cut, and counted. By default as the classifier was trained, where
    /// entromask-glue has done that, else 128
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..))]
    max_length: Option<u16>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Longest row for a classifier that nothing says more about.
const MAX_LENGTH: usize = 128;

impl PredictArgs {
    pub(super) fn predict(&self) -> anyhow::Result<()> {
        let task = match (&self.task, &self.task_file) {
            (Some(name), _) => Task::named(name)?.clone(),
            (None, Some(file)) => Task::from_file(file)?,
            (None, None) => unreachable!("clap requires one of them"),
        };
        let (common, out) = (&self.common, self.common.out()?);
        common.refuse("predict", UNUSED)?;
        let rows = self.file.as_ref().unwrap_or(&task.dev[0].file);
        self.check_out(out, &task, rows)?;
        let file = OutputFile::create(out)?;
        let on = entromask_device::open_to_train(&common.device, &common.dtype)?;
        let split = read(&self.data, &task, rows)?;
        let trained = || trained_length(&self.classifier).unwrap_or(MAX_LENGTH);
        let max_length = self.max_length.map_or_else(trained, usize::from);
        let answers = Answers::of(&self.classifier, &task, &split, max_length, &on)?;
        file.publish(answers.table().as_bytes())?;
        emit(common, format!("{}: {answers}", out.display()), &answers)
    }

    /// Neither the classifier nor any file of the task is written over, whichever file is read.
    fn check_out(&self, out: &Path, task: &Task, rows: &str) -> anyhow::Result<()> {
        refuse_inputs(out, task.paths(&self.data).chain([task.path(&self.data, rows)]))?;
        refuse_inputs(out, self.task_file.iter().chain([&self.classifier]))?;
        refuse_inputs(out, result_of(&self.classifier))
    }
}
