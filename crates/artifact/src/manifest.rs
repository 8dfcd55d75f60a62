//! `manifest.json`: what an artifact is, what it was made from, and the digests of its parts.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Context;
use entromask_fault::{Fault, unreadable};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recipe::Input;
use crate::remains::Remains;
use crate::{digest, lock};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// Digits of a program file's digest.
const BINARY_DIGITS: usize = 16;

/// The kinds of artifact that the stages exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Tokenized text.
    Tokens,
    /// Entropy and surprisal of each token.
    Entropy,
    /// Masked positions of each row and epoch.
    Masks,
    /// A teacher's most probable tokens at masked positions.
    Targets,
    /// A Hugging Face model folder.
    Model,
    /// Fine-tuning scores per task and seed.
    Glue,
}

impl Kind {
    /// Version of the format, which stages write and which is the newest that is read. Raise it whenever the same recipe
    /// would become other content, or the same content would mean something else.
    pub fn format(self) -> u32 {
        match self {
            Self::Tokens | Self::Entropy | Self::Masks | Self::Targets | Self::Model | Self::Glue => 1,
        }
    }

    /// The kind of the artifact in `dir`, if there is one, of whatever format.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let bytes = fs::read(dir.join(MANIFEST)).ok()?;
        serde_json::from_slice(&bytes).ok().map(|head: Head| head.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Entropy => "entropy",
            Self::Masks => "masks",
            Self::Targets => "targets",
            Self::Model => "model",
            Self::Glue => "glue",
        })
    }
}

/// One artifact's description, as stored in `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the artifact is.
    pub kind: Kind,
    /// Version of the on-disk format and of what it means.
    pub format: u32,
    /// Digest of kind, format, config and the inputs' contents; 64 hexadecimal digits.
    pub key: String,
    /// The resolved semantic configuration.
    pub config: Value,
    /// What the artifact was made from.
    pub inputs: Vec<Input>,
    /// Its files.
    pub outputs: Vec<Output>,
    /// Digest of the outputs that are content (not logs); 64 hexadecimal digits.
    pub content: String,
    /// Facts about the content that later stages and people want without reading it.
    pub stats: Value,
    /// What making it took.
    pub cost: Cost,
    /// Which program made it.
    pub tool: Tool,
}

/// What a manifest of any format says.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
    format: u32,
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Path below the artifact's folder.
    pub file: String,
    /// Rows, for a table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest of the file, in hexadecimal.
    pub blake3: String,
    /// True for logs (times, speeds), which differ from run to run and are not part of the content.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub log: bool,
}

/// What making an artifact took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall-clock seconds, interrupted runs included.
    pub seconds: f64,
    /// Floating-point operations of the models' matrix products, by formula.
    pub flops: f64,
    /// Tokens processed.
    pub tokens: u64,
    /// The device, e.g. `cuda:0`.
    pub device: String,
    /// Highest resident memory of the process, in bytes; 0 where unknown.
    pub peak_memory_bytes: u64,
}

/// The program that made an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Binary name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// Source revision, from the environment variable `ENTROMASK_GIT` (the Makefile sets it); empty if unknown.
    pub git: String,
    /// First 16 digits of the program file's BLAKE3 digest; empty if unknown. The revision is what the caller says, this is
    /// what ran: results whose last bits are to be the same come from one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub binary: String,
    /// Backends that were compiled in.
    pub backends: Vec<String>,
}

/// Describes the running program.
pub fn tool(name: &str, version: &str, backends: &[&str]) -> Tool {
    Tool {
        name: name.into(),
        version: version.into(),
        git: std::env::var("ENTROMASK_GIT").unwrap_or_default(),
        binary: this_binary(),
        backends: backends.iter().map(ToString::to_string).collect(),
    }
}

/// The running program's file, which is read once: it may be built anew while it runs.
fn this_binary() -> String {
    static DIGEST: LazyLock<String> = LazyLock::new(|| {
        let digest = std::env::current_exe().map_err(Into::into).and_then(|path| digest::of_file(&path));
        digest.map(|digest| digest.chars().take(BINARY_DIGITS).collect()).unwrap_or_default()
    });
    DIGEST.clone()
}

impl fmt::Display for Tool {
    /// Name, version, revision and program file, as far as they are known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, git, binary, .. } = self;
        let binary = if binary.is_empty() { String::new() } else { format!("binary {binary}") };
        let known = [name, version, git, &binary].into_iter().filter(|part| !part.is_empty());
        f.write_str(&known.map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}

impl Manifest {
    /// Reads the manifest of the artifact in `dir`, which must be of the kind `expect`.
    ///
    /// # Errors
    /// A [`Fault`] of class input if there is none, it cannot be parsed, or it is of another kind or of a newer format.
    pub fn load(dir: &Path, expect: Kind) -> anyhow::Result<Self> {
        let manifest = Self::load_any(dir)?;
        if manifest.kind == expect {
            return Ok(manifest);
        }
        let found = manifest.kind;
        Err(Fault::input(format!("{}: expected an artifact of kind {expect}, found {found}", dir.display()))
            .remedy("check which folder is given for which input")
            .into())
    }

    /// What the artifact was made from in this role.
    pub fn input(&self, role: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.role == role)
    }

    /// Whether it was made from `source` in this role.
    pub fn is_made_from(&self, role: &str, source: &Self) -> bool {
        self.input(role).is_some_and(|input| input.content == source.content)
    }

    /// Reads the manifest of the artifact in `dir`, of whatever kind.
    pub fn load_any(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).map_err(|error| missing(dir, &error))?;
        let unknown = |error| not_a_manifest(&path, &error);
        serde_json::from_slice::<Head>(&bytes).map_err(unknown)?.check(&path)?;
        Ok(serde_json::from_slice(&bytes).map_err(unknown)?)
    }

    /// The first eight digits of the key, which the names of the parts carry.
    pub fn short_key(&self) -> &str {
        self.key.get(..8).unwrap_or(&self.key)
    }

    /// The table parts named `<prefix>-<short key>-<index>.parquet`, in the order of their index.
    pub fn parts(&self, prefix: &str) -> impl Iterator<Item = &Output> {
        let start = format!("{prefix}-{}-", self.short_key());
        self.outputs.iter().filter(move |output| output.file.starts_with(&start))
    }

    /// The output called `file`.
    pub fn output(&self, file: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.file == file)
    }

    /// Reads every file in `dir` and compares size and digest.
    ///
    /// # Errors
    /// A [`Fault`] of class input that names the file and both digests.
    pub fn verify(&self, dir: &Path) -> anyhow::Result<()> {
        self.outputs.iter().filter(|output| !output.log).try_for_each(|output| output.verify(dir))
    }

    /// [`Manifest::verify`] for those files only that `reads` chooses. The digests of large ones are remembered, so that
    /// who reads a model again and again hashes it once.
    pub fn verify_read(&self, dir: &Path, reads: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let read: Vec<_> = self.outputs.iter().filter(|output| !output.log && reads(&output.file)).collect();
        read.iter().try_for_each(|output| output.verify_size(dir))?;
        let paths: Vec<_> = read.iter().map(|output| dir.join(&output.file)).collect();
        let digests = digest::of_files(&paths)?;
        read.iter().zip(digests).try_for_each(|(output, found)| output.compare(dir, &found))
    }

    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Head {
    /// A newer format may have the same fields and mean something else by them.
    fn check(&self, path: &Path) -> Result<(), Fault> {
        let (found, newest) = (self.format, self.kind.format());
        if found <= newest {
            return Ok(());
        }
        Err(Fault::input(format!("{}: format {found}, this program reads {newest}", path.display()))
            .remedy("update entromask, or make the artifact again"))
    }
}

impl Output {
    /// Compares the file in `dir` with this entry, size first.
    pub fn verify(&self, dir: &Path) -> anyhow::Result<()> {
        self.verify_size(dir)?;
        self.compare(dir, &digest::of_file(&dir.join(&self.file))?)
    }

    fn compare(&self, dir: &Path, found: &str) -> anyhow::Result<()> {
        if found == self.blake3 {
            return Ok(());
        }
        Err(damaged(&dir.join(&self.file), &format!("blake3 {}", self.blake3), found).into())
    }

    pub(crate) fn verify_size(&self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(&self.file);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == self.bytes => Ok(()),
            Ok(metadata) => {
                Err(damaged(&path, &format!("{} bytes", self.bytes), &metadata.len().to_string()).into())
            }
            Err(error) => Err(Fault::input(unreadable(&path, &error))
                .remedy("delete manifest.json of that folder and run its stage again"))
            .context("a part that the manifest lists cannot be read"),
        }
    }
}

fn damaged(path: &Path, expected: &str, found: &str) -> Fault {
    Fault::input(format!("{}: the manifest says {expected}, the file has {found}", path.display()))
        .remedy("the file is damaged or was edited: delete it and manifest.json, and run its stage again")
}

fn not_a_manifest(path: &Path, error: &serde_json::Error) -> Fault {
    Fault::input(format!("{}: not a manifest: {error}", path.display())).remedy(
        "run the stage that makes it again; if the folder comes from elsewhere, give that file another name",
    )
}

fn missing(dir: &Path, error: &std::io::Error) -> Fault {
    let remains = Remains::of_any(dir).filter(|_| error.kind() == ErrorKind::NotFound);
    if let Some(remains) = remains {
        let (dir, is_held) = (dir.display(), lock::is_held(dir));
        return if is_held {
            Fault::input(format!("{dir}: no {MANIFEST} yet: it is being made")).remedy("wait for its stage")
        } else {
            Fault::input(format!("{dir}: no {MANIFEST}: its stage was interrupted{remains}"))
                .remedy("run that stage again, which goes on from there (of shards: the missing ones, then --finalize)")
        };
    }
    Fault::input(unreadable(&dir.join(MANIFEST), error))
        .remedy("run the stage that makes it, or check the path")
}

/// Digest over the sizes and digests of the outputs that are content, in order.
pub(crate) fn content(outputs: &[Output]) -> String {
    let mut hasher = blake3::Hasher::new();
    for output in outputs.iter().filter(|output| !output.log) {
        hasher.update(output.blake3.as_bytes());
        hasher.update(&output.bytes.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_not_read_as_if_it_were_known() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(MANIFEST);
        let load = |format: u32| {
            fs::write(&file, format!("{{\"kind\": \"masks\", \"format\": {format}}}"))?;
            Manifest::load(folder.path(), Kind::Masks)
        };
        let error = load(99).unwrap_err();
        assert_eq!(entromask_fault::class_of(error.as_ref()).exit_code(), 3);
        let words = "format 99, this program reads 1; update entromask, or make the artifact again";
        assert!(error.to_string().ends_with(words), "{error}");
        assert_eq!(Kind::of(folder.path()), Some(Kind::Masks), "it is still protected");
        assert!(load(1).is_err_and(|error| error.to_string().contains("missing field")));
        Ok(())
    }

    #[test]
    fn a_tool_says_what_is_known_of_it() {
        let mut found = tool("entromask-score", "0.1.0", &[]);
        let whole = digest::of_file(&std::env::current_exe().expect("a path")).expect("readable");
        assert_eq!(found.binary, whole[..BINARY_DIGITS]);
        (found.git, found.binary) = ("1a2b3c".into(), "00ff".into());
        assert_eq!(found.to_string(), "entromask-score 0.1.0 1a2b3c binary 00ff");
        assert_eq!(Tool::default().to_string(), "");
    }
}
