//! Submissions to the GLUE server: a flat zip file with one table of predictions for each test split.

mod check;
mod table;

use std::fmt;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use entromask_artifact::{Kind, MANIFEST, Manifest};
use entromask_cli::{OutputFile, Progress, refuse_inputs};
use entromask_encoder::SequenceClassifier;
use entromask_fault::Fault;
use entromask_kernels::Products;
use fs_err as fs;
use serde::Serialize;
use zip::write::SimpleFileOptions;

use crate::data::{Split, read_test};
use crate::model::Source;
use crate::predict::Predictor;
use crate::results::RunResult;
use crate::stage::RESULTS;
use crate::task::{Task, TestSplit, glue};
pub use check::validate;

/// Rows of a forward pass.
const BATCH_SIZE: usize = 64;

/// What a submission is made of.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Folder with the results and the classifiers.
    pub scores: PathBuf,
    /// Folder in GLUE's official layout.
    pub data: PathBuf,
    /// Seed of the classifiers.
    pub seed: u64,
    /// Device, e.g. `cpu`.
    pub device: String,
    /// Floating-point type, e.g. `f32`.
    pub dtype: String,
}

/// What is in a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The zip file.
    pub zip: PathBuf,
    /// Each file with its number of rows.
    pub files: Vec<(String, usize)>,
    /// Files with rows that were too long and were cut, and how many; what only validates a zip file cannot know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<(String, usize)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: as the GLUE server wants it", self.zip.display())?;
        for (file, rows) in &self.files {
            write!(f, "\n  {file:<12} {rows:>7} rows")?;
            let mut truncated = self.truncated.iter().filter(|(other, _)| other == file);
            truncated.try_for_each(|(_, cut)| write!(f, ", {cut} rows cut"))?;
        }
        Ok(())
    }
}

impl Submission {
    /// Predicts every test split with the classifier of its task, and writes the zip file `out`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if a task has no classifier of the seed, or a test split is missing or not the
    /// official one; nothing is written then.
    pub fn write(&self, out: &Path) -> anyhow::Result<Report> {
        let file = OutputFile::create(out)?;
        let manifest = Manifest::load(&self.scores, Kind::Glue)?;
        manifest.verify(&self.scores)?;
        let chosen = glue().iter().map(|task| self.classifier(&manifest, task));
        let chosen = chosen.collect::<anyhow::Result<Vec<_>>>()?;
        self.check_out(out, &manifest)?;
        let splits = glue().iter().map(|task| self.splits(task)).collect::<anyhow::Result<Vec<_>>>()?;
        let on = entromask_device::open_to_train(&self.device, &self.dtype)?;
        let mut tables = Vec::new();
        for ((task, chosen), splits) in glue().iter().zip(&chosen).zip(&splits) {
            tables.extend(predictions(task, chosen, splits, &on)?);
        }
        file.publish(&pack(tables.iter().map(|table| (&*table.file, &*table.text)))?)?;
        let cut = tables.into_iter().filter(|table| table.truncated > 0);
        Ok(Report { truncated: cut.map(|table| (table.file, table.truncated)).collect(), ..validate(out)? })
    }

    /// Neither data nor scores are written over; beside the scores a submission may lie.
    fn check_out(&self, out: &Path, manifest: &Manifest) -> anyhow::Result<()> {
        let scores = manifest.outputs.iter().map(|output| output.file.as_str()).chain([MANIFEST]);
        refuse_inputs(out, scores.map(|file| self.scores.join(file)))?;
        refuse_inputs(out, glue().iter().flat_map(|task| task.paths(&self.data)))
    }

    /// The test splits of a task.
    fn splits(&self, task: &Task) -> anyhow::Result<Vec<Split>> {
        let read = |test: &TestSplit| {
            let split = read_test(&self.data, task, test)?;
            check::rows(&task.path(&self.data, &test.file), task, test, split.examples.len())?;
            Ok(split)
        };
        task.test.iter().map(read).collect()
    }

    /// The classifier of the recipe that was reported.
    fn classifier(&self, manifest: &Manifest, task: &Task) -> anyhow::Result<Chosen> {
        let summary: crate::Summary = json(&self.scores.join(RESULTS))?;
        let reported = summary.tasks.iter().find(|found| found.task == task.name);
        let start = format!("{}-seed{}-", task.name, self.seed);
        let results = manifest.outputs.iter().filter_map(|output| output.file.strip_suffix(".json"));
        for name in results.filter(|name| name.starts_with(&start) && !name.contains('/')) {
            let result: RunResult = json(&self.scores.join(format!("{name}.json")))?;
            let folder = self.scores.join(name);
            if reported.is_some_and(|found| found.recipe == result.recipe) && folder.is_dir() {
                return Ok(Chosen { folder, max_length: result.recipe.max_length });
            }
        }
        Err(Fault::input(format!(
            "{}: no classifier of {} with seed {}",
            self.scores.display(),
            task.name,
            self.seed
        ))
        .remedy("fine-tune on all nine tasks with `save = true`, or name another --seed")
        .into())
    }
}

/// The tables of one task.
fn predictions(
    task: &Task,
    chosen: &Chosen,
    splits: &[Split],
    (device, products): &(Device, Products),
) -> anyhow::Result<Vec<Table>> {
    let source = Source::open(&chosen.folder)?;
    let tokenizer = source.tokenizer(chosen.max_length)?;
    let (model, config) = SequenceClassifier::from_pretrained(&chosen.folder, device)?;
    let model = model.with_products(*products);
    let mut tables = Vec::new();
    for (test, split) in task.test.iter().zip(splits) {
        let rows = tokenizer.encode(split)?;
        let progress = Progress::new(test.out.clone(), rows.tokens());
        let predictor =
            Predictor { task, config: &config, batch_size: BATCH_SIZE, device, progress: &progress };
        let values = predictor.predict(&model, &rows)?.values;
        progress.finish();
        let text = table::write(task, &values);
        tables.push(Table { file: test.out.clone(), text, truncated: rows.truncated });
    }
    Ok(tables)
}

/// The answers to a test split, as a file of the zip archive.
struct Table {
    file: String,
    text: String,
    truncated: usize,
}

/// A classifier that answers test splits.
struct Chosen {
    folder: PathBuf,
    max_length: usize,
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| {
        Fault::input(format!("{}: damaged: {error}", path.display()))
            .remedy("delete manifest.json beside it and run entromask-glue again")
            .into()
    })
}

/// The bytes of a zip archive of files by name.
fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(name, SimpleFileOptions::default())?;
        zip.write_all(text.as_bytes())?;
    }
    Ok(zip.finish()?.into_inner())
}
