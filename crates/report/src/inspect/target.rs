//! What a path given on the command line stands for.

use std::path::{Path, PathBuf};

use entromask_artifact::{Kind, MANIFEST, Manifest, Output};
use entromask_fault::Fault;
use entromask_tables::{Entropies, Masks, TokenColumns, Tokens, footer_key, rows};

/// An artifact, or one part of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub dir: PathBuf,
    /// The file that was asked for.
    pub part: Option<String>,
    pub kind: Kind,
    pub manifest: Option<Manifest>,
    /// Whether the manifest lists the part.
    listed: bool,
    /// The tables to look at: those of the manifest, or the part.
    outputs: Vec<Output>,
}

impl Target {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Self::folder(path);
        }
        if !path.exists() {
            return Err(Fault::input(format!("{}: no such file or folder", path.display()))
                .remedy("give the folder of an artifact, or one of its parts")
                .into());
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.file_name().is_some_and(|name| name == MANIFEST) {
            return Self::folder(dir);
        }
        Self::part(path, dir)
    }

    /// The table parts whose names begin with `prefix`, in order.
    pub(crate) fn parts(&self, prefix: &str) -> Vec<&Output> {
        if self.part.is_some() {
            return self.outputs.iter().collect();
        }
        self.outputs.iter().filter(|part| part.file.starts_with(prefix) && part.rows.is_some()).collect()
    }

    /// What to tell beforehand.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.manifest.is_none() && self.part.is_none() {
            notes.push("no manifest: a Hugging Face folder from outside the pipeline".into());
        }
        if let (Some(part), false) = (&self.part, self.listed) {
            notes.push(format!(
                "{part} is not listed in a manifest beside it: left by a killed or an earlier run"
            ));
        }
        notes
    }

    fn folder(dir: &Path) -> anyhow::Result<Self> {
        if !dir.join(MANIFEST).exists() && dir.join("config.json").exists() {
            let (dir, kind) = (dir.to_path_buf(), Kind::Model);
            return Ok(Self { dir, part: None, kind, manifest: None, listed: false, outputs: vec![] });
        }
        let manifest = Manifest::load_any(dir)?;
        let outputs = manifest.outputs.clone();
        Ok(Self {
            dir: dir.into(),
            part: None,
            kind: manifest.kind,
            manifest: Some(manifest),
            listed: true,
            outputs,
        })
    }

    fn part(path: &Path, dir: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "parquet") {
            return Err(Fault::input(format!("{}: neither a folder nor a Parquet part", path.display()))
                .remedy("give the folder of an artifact, or one of its .parquet files")
                .into());
        }
        let output = Output {
            rows: Some(rows(path)?),
            bytes: path.metadata()?.len(),
            file: name.clone(),
            blake3: String::new(),
            log: false,
        };
        let manifest = Manifest::load_any(dir).ok();
        let listed = manifest.as_ref().is_some_and(|manifest| manifest.output(&name).is_some());
        let manifest = manifest.filter(|_| listed);
        if let Some(manifest) = &manifest {
            check_key(path, manifest)?;
        }
        let kind = manifest.as_ref().map_or_else(|| table_kind(path), |manifest| Ok(manifest.kind))?;
        Ok(Self { dir: dir.into(), part: Some(name), kind, manifest, listed, outputs: vec![output] })
    }
}

fn check_key(path: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let found = footer_key(path)?.unwrap_or_default();
    if found.is_empty() || found == manifest.key {
        return Ok(());
    }
    let (path, key) = (path.display(), &manifest.key);
    Err(Fault::input(format!("{path}: its footer has the key {found}, the manifest {key}"))
        .remedy("delete manifest.json of that folder and run its stage again")
        .into())
}

/// Tells the tables apart by their columns.
fn table_kind(path: &Path) -> anyhow::Result<Kind> {
    if Entropies::read(path).is_ok() {
        return Ok(Kind::Entropy);
    }
    if Masks::read(path).is_ok() {
        return Ok(Kind::Masks);
    }
    Tokens::read(path, TokenColumns::default()).map(|_| Kind::Tokens)
}
