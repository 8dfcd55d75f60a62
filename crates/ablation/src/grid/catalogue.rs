//! The configurations that a grid names: are they there, and what has to be known of them.

use std::path::{Component, Path, PathBuf};

use entromask_cli::CommonArgs;
use entromask_fault::Fault;
use entromask_policy::Schedule;
use entromask_policy::policies::Basis;
use fs_err as fs;
use serde::Deserialize;

/// The folder `pipelines/`.
#[derive(Clone, Debug)]
pub struct Catalogue {
    folder: PathBuf,
}

/// Who scores or teaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teacher {
    /// A model that the pipeline trains itself on random masks.
    Own {
        /// Its shape.
        student: String,
        /// How long it is trained; as long as the student without.
        epochs: Option<u64>,
    },
    /// A Hugging Face folder.
    Folder(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TeacherFile {
    student: Option<String>,
    epochs: Option<u64>,
    path: Option<PathBuf>,
}

impl Catalogue {
    /// The configurations in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// The file `name` of the kind `kind`, e.g. `mask`.
    pub fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.folder.join(kind).join(format!("{name}.toml"))
    }

    /// What the file `name` of the kind `kind` says.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if it cannot be read.
    pub(super) fn table(&self, kind: &str, name: &str) -> anyhow::Result<toml::Table> {
        entromask_cli::load_file(&self.path(kind, name))
    }

    /// Whether the strategy `name` needs entropies.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if its file has mistakes, or it needs more than a grid can give.
    pub(super) fn needs_entropy(&self, name: &str) -> anyhow::Result<bool> {
        let path = self.path("mask", name);
        match self.strategy(name)?.policy.basis() {
            Basis::Nothing | Basis::Rarity { .. } => Ok(false),
            Basis::Measure => Ok(true),
            Basis::Excess => Err(Fault::usage(format!(
                "{}: the policy needs the entropies of a reference, which grids do not have",
                path.display()
            ))
            .remedy("take another strategy, or run it by hand with REFERENCE=…")
            .into()),
        }
    }

    /// Whether the files of the strategy `name` and of random masks, which some runs begin with, both mask the share `rate`.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if one of the files has mistakes.
    pub(super) fn has_rate(&self, name: &str, rate: f64) -> anyhow::Result<bool> {
        let both = [self.strategy(name)?, self.strategy("random")?];
        Ok(both.iter().all(|config| config.rate == Schedule::Constant(rate)))
    }

    /// Checks the file of the strategy `name` with what `schedule` sets in it.
    ///
    /// # Errors
    /// A [`Fault`] of class usage that names the key.
    pub(super) fn scheduled(&self, name: &str, schedule: &toml::Table) -> anyhow::Result<()> {
        let set = schedule.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let common = CommonArgs { config: Some(self.path("mask", name)), set, ..CommonArgs::default() };
        entromask_cli::load::<entromask_policy::Config>(&common)?.validate()
    }

    /// Whether the recipe `name` needs a teacher.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if its file cannot be read.
    pub(super) fn is_guided(&self, name: &str) -> anyhow::Result<bool> {
        let file = self.table("train", name)?;
        let objective = file.get("objective");
        let weight = |key: &str| {
            let value = objective.and_then(|objective| objective.get(key));
            value.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64)))
        };
        Ok(["kd", "cos", "hidden"].into_iter().filter_map(weight).any(|weight| weight > 0.0))
    }

    /// Layers of the shape `name`, if its file says.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if its file cannot be read.
    pub(super) fn layers(&self, name: &str) -> anyhow::Result<Option<i64>> {
        let file = self.table("student", name)?;
        Ok(file.get("num_hidden_layers").and_then(toml::Value::as_integer))
    }

    fn strategy(&self, name: &str) -> anyhow::Result<entromask_policy::Config> {
        let config: entromask_policy::Config = entromask_cli::load_file(&self.path("mask", name))?;
        config.validate()?;
        Ok(config)
    }

    /// The share of its training documents that the corpus `name` takes by itself.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if its file cannot be read.
    pub fn train_fraction(&self, name: &str) -> anyhow::Result<f64> {
        let file = self.table("corpus", name)?;
        Ok(file.get("train_fraction").and_then(toml::Value::as_float).unwrap_or(1.0))
    }

    /// Who `name` is.
    ///
    /// # Errors
    /// A [`Fault`] of class usage if there is neither a file nor a model folder of that name.
    pub fn teacher(&self, name: &str) -> anyhow::Result<Teacher> {
        let path = self.path("teacher", name);
        if !path.is_file() && Path::new(name).join("config.json").is_file() {
            return Ok(Teacher::Folder(name.into()));
        }
        let file: TeacherFile = entromask_cli::load_file(&path)?;
        match file {
            TeacherFile { student: Some(student), epochs, path: None } => {
                Ok(Teacher::Own { student, epochs })
            }
            TeacherFile { student: None, epochs: None, path: Some(path) } => Ok(Teacher::Folder(path)),
            _ => Err(Fault::usage(format!("{}: a teacher without a model", path.display()))
                .remedy("give it `student` (and `epochs`), or `path`")
                .into()),
        }
    }

    /// Refuses names that are not there, with a list of those that are.
    pub(super) fn check(&self, key: &str, kind: &str, name: &str) -> anyhow::Result<()> {
        // Names become parts of the paths of what is made, so `../score/kfold` is none, though there is such a file.
        let is_name = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if is_name && self.path(kind, name).is_file() {
            return Ok(());
        }
        let there = self.names(kind).join(", ");
        Err(Fault::usage(format!("{key} = {name:?}: there is no {}", self.path(kind, name).display()))
            .remedy(format!("choose one of: {there}"))
            .into())
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join(kind)).into_iter().flatten().flatten();
        let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let files =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
        let mut names: Vec<_> = files.filter_map(stem).collect();
        names.sort();
        names
    }
}
